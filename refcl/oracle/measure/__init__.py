"""The instrument: call a candidate on inputs of choice, and measure what it computes.

``lab``       calls candidate and right answer on the same input
``settings``  is it right under another setting, temperature, normalization, or another loss?
``gradient``  is its gradient the gradient of its own value?
``geometry``  what of the embeddings counts?
``menus``     is one part of a loss with weights, temperatures of its own or estimates another of a menu?
``pairs``     which similarities does the value depend on, and how?
``law``       weights, temperatures and targets of each anchor, by a fit
``penalty``   slope of the loss along one similarity
"""
