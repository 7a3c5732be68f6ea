"""s+, s- -> gap: the similarity of the pooled negatives less the positive's, one file a pool."""

from refcl.walk.pooling.hardest import hardest_negatives
from refcl.walk.pooling.maximum import maximum
from refcl.walk.pooling.pair_logits import pair_logits
from refcl.walk.pooling.reweighted import debias, reweighted_soft_maximum, weight_shortfall
from refcl.walk.pooling.several_positives import soft_maximum_difference, spread
from refcl.walk.pooling.soft_cross_entropy import soft_cross_entropy
from refcl.walk.pooling.soft_maximum import soft_maximum
from refcl.walk.pooling.weighted_sum import weighted_sum

__all__ = [
    "soft_maximum_difference",
    "debias",
    "hardest_negatives",
    "maximum",
    "reweighted_soft_maximum",
    "pair_logits",
    "soft_cross_entropy",
    "soft_maximum",
    "spread",
    "weight_shortfall",
    "weighted_sum",
]
