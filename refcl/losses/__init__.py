"""The losses by name: each a walk through the rooms, its backward the same walk in reverse.

``on_similarities``  the paper's losses of a matrix of similarities: start reading here
``on_embeddings``    the same from embeddings, in one direction
``two_sided``        where both sides are anchors: NT-Xent and CLIP
"""

from refcl.losses.on_embeddings import (
    hard_info_nce,
    hard_info_nce_backward,
    hard_info_nce_forward,
    hard_simple_loss,
    hard_simple_loss_backward,
    hard_simple_loss_forward,
    info_nce,
    info_nce_backward,
    info_nce_forward,
    simple_loss,
    simple_loss_backward,
    simple_loss_forward,
)
from refcl.losses.on_similarities import (
    hard_simple_contrastive,
    hard_simple_contrastive_backward,
    hard_simple_contrastive_forward,
    hard_softmax_contrastive,
    hard_softmax_contrastive_backward,
    hard_softmax_contrastive_forward,
    simple_contrastive,
    simple_contrastive_backward,
    simple_contrastive_forward,
    softmax_contrastive,
    softmax_contrastive_backward,
    softmax_contrastive_forward,
    triplet,
    triplet_backward,
    triplet_forward,
)
from refcl.losses.two_sided import (
    clip,
    clip_backward,
    clip_forward,
    nt_xent,
    nt_xent_backward,
    nt_xent_forward,
)

__all__ = [
    "clip",
    "clip_backward",
    "clip_forward",
    "hard_info_nce",
    "hard_info_nce_backward",
    "hard_info_nce_forward",
    "hard_simple_contrastive",
    "hard_simple_contrastive_backward",
    "hard_simple_contrastive_forward",
    "hard_simple_loss",
    "hard_simple_loss_backward",
    "hard_simple_loss_forward",
    "hard_softmax_contrastive",
    "hard_softmax_contrastive_backward",
    "hard_softmax_contrastive_forward",
    "info_nce",
    "info_nce_backward",
    "info_nce_forward",
    "nt_xent",
    "nt_xent_backward",
    "nt_xent_forward",
    "simple_contrastive",
    "simple_contrastive_backward",
    "simple_contrastive_forward",
    "simple_loss",
    "simple_loss_backward",
    "simple_loss_forward",
    "softmax_contrastive",
    "softmax_contrastive_backward",
    "softmax_contrastive_forward",
    "triplet",
    "triplet_backward",
    "triplet_forward",
]
