"""The rooms, in the order in which data walk through them: each a forward and its backward, side by side.

x -encoder-> h -sphere-> z -similarity-> s -pairing-> (s+, s-) -pooling-> gap -penalty-> loss_i -reduce-> L
"""

from refcl.walk import distance, encoder, layers, pairing, penalty, pooling, reduce, similarity, sphere

__all__ = ["distance", "encoder", "layers", "pairing", "penalty", "pooling", "reduce", "similarity", "sphere"]
