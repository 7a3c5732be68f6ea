"""The experiment: what the temperature of a contrastive loss does to an embedding, on real data.

In:  a data set and a list of losses.
Out: a folder with one record per trained encoder, its embeddings, figures and a report.
``python -m refcl study`` is this package at work; read it in the order data, views, keys, optim, train, probe, study.
"""
