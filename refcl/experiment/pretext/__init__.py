"""Pretext tasks, older than contrastive losses: a picture is changed, and the encoder is asked what was done to it.

In:  the training part, pictures, and the name of a task.
Out: an encoder trained without labels and without a contrastive loss, which the study measures like every other.
Read it in the order pictures, rotation, jigsaw, context, colourisation, heads, tasks, train.
"""
