"""The losses by name: each a walk through the rooms, its backward the same walk in reverse.

``on_similarities``  the paper's losses of a matrix of similarities: start reading here
``on_embeddings``    the same from embeddings, in one direction
``two_sided``        where both sides are anchors: NT-Xent and CLIP
``memory``           against a constant: instance discrimination's bank, MoCo's queue
``many_views``       between any number of views: CMC
``predictive``       with a bilinear form instead of the sphere: CPC
``pairwise``         every pair by itself: NCE and SigLIP
``margins``          that stop at a margin: semi-hard triplet, contrastive loss of pairs
"""

from refcl.losses.many_views import (
    cmc,
    cmc_backward,
    cmc_forward,
)
from refcl.losses.margins import (
    pair_contrastive,
    pair_contrastive_backward,
    pair_contrastive_forward,
    semi_hard_triplet,
    semi_hard_triplet_backward,
    semi_hard_triplet_forward,
)
from refcl.losses.memory import (
    inst_disc,
    inst_disc_backward,
    inst_disc_forward,
    moco,
    moco_backward,
    moco_forward,
)
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
from refcl.losses.pairwise import (
    nce,
    nce_backward,
    nce_forward,
    nce_log_normalizer,
    sig_lip,
    sig_lip_backward,
    sig_lip_forward,
)
from refcl.losses.predictive import (
    cpc,
    cpc_backward,
    cpc_forward,
    mutual_information_bound,
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
    "cmc",
    "cmc_backward",
    "cmc_forward",
    "cpc",
    "cpc_backward",
    "cpc_forward",
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
    "inst_disc",
    "inst_disc_backward",
    "inst_disc_forward",
    "moco",
    "moco_backward",
    "moco_forward",
    "mutual_information_bound",
    "nce",
    "nce_backward",
    "nce_forward",
    "nce_log_normalizer",
    "nt_xent",
    "nt_xent_backward",
    "nt_xent_forward",
    "pair_contrastive",
    "pair_contrastive_backward",
    "pair_contrastive_forward",
    "semi_hard_triplet",
    "semi_hard_triplet_backward",
    "semi_hard_triplet_forward",
    "sig_lip",
    "sig_lip_backward",
    "sig_lip_forward",
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
