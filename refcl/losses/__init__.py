"""The losses by name: each a walk through the rooms, its backward the same walk in reverse.

The paper:
``on_similarities``  its losses of a matrix of similarities: start reading here
``on_embeddings``    the same from embeddings, in one direction
``two_sided``        where both sides are anchors: NT-Xent and CLIP

The systems around it:
``memory``           against a constant: instance discrimination's bank, MoCo's queue
``many_views``       between any number of views: CMC
``predictive``       with a bilinear form instead of the sphere: CPC
``pairwise``         every pair by itself: NCE and SigLIP
``margins``          that stop at a margin: semi-hard triplet, contrastive loss of pairs

What grew from it:
``supervised``       any number of positives: SupCon
``decoupled``        the positive left out of the denominator: DCL and DCLW
``reweighted``       negatives corrected for what hides among them: debiased and HCL
``align_uniform``    alignment and uniformity by themselves
``model_aware``      a temperature that follows the batch: MACL
``per_anchor``       a temperature for each anchor, given or found for an entropy
``second_order``     the Hessian of the softmax losses times a vector
``two_views``        what the losses of two views share
"""

from refcl.losses.align_uniform import (
    align_uniform,
    align_uniform_backward,
    align_uniform_forward,
)
from refcl.losses.decoupled import (
    dcl,
    dcl_backward,
    dcl_forward,
    dclw,
    dclw_backward,
    dclw_forward,
    decoupled_contrastive,
    decoupled_contrastive_backward,
    decoupled_contrastive_forward,
    weighted_decoupled_contrastive,
    weighted_decoupled_contrastive_backward,
    weighted_decoupled_contrastive_forward,
)
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
from refcl.losses.model_aware import (
    macl,
    macl_backward,
    macl_forward,
    model_aware_contrastive,
    model_aware_contrastive_backward,
    model_aware_contrastive_forward,
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
from refcl.losses.per_anchor import (
    fixed_entropy,
    fixed_entropy_backward,
    fixed_entropy_contrastive,
    fixed_entropy_contrastive_backward,
    fixed_entropy_contrastive_forward,
    fixed_entropy_forward,
    per_anchor_contrastive,
    per_anchor_contrastive_backward,
    per_anchor_contrastive_forward,
)
from refcl.losses.predictive import (
    cpc,
    cpc_backward,
    cpc_forward,
    mutual_information_bound,
)
from refcl.losses.reweighted import (
    debiased,
    debiased_backward,
    debiased_forward,
    hcl,
    hcl_backward,
    hcl_forward,
    reweighted_contrastive,
    reweighted_contrastive_backward,
    reweighted_contrastive_forward,
)
from refcl.losses.second_order import (
    hessian_vector_product,
)
from refcl.losses.supervised import (
    sup_con,
    sup_con_backward,
    sup_con_forward,
    supervised_contrastive,
    supervised_contrastive_backward,
    supervised_contrastive_forward,
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
    "align_uniform",
    "align_uniform_backward",
    "align_uniform_forward",
    "clip",
    "clip_backward",
    "clip_forward",
    "cmc",
    "cmc_backward",
    "cmc_forward",
    "cpc",
    "cpc_backward",
    "cpc_forward",
    "dcl",
    "dcl_backward",
    "dcl_forward",
    "dclw",
    "dclw_backward",
    "dclw_forward",
    "debiased",
    "debiased_backward",
    "debiased_forward",
    "decoupled_contrastive",
    "decoupled_contrastive_backward",
    "decoupled_contrastive_forward",
    "fixed_entropy",
    "fixed_entropy_backward",
    "fixed_entropy_contrastive",
    "fixed_entropy_contrastive_backward",
    "fixed_entropy_contrastive_forward",
    "fixed_entropy_forward",
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
    "hcl",
    "hcl_backward",
    "hcl_forward",
    "hessian_vector_product",
    "info_nce",
    "info_nce_backward",
    "info_nce_forward",
    "inst_disc",
    "inst_disc_backward",
    "inst_disc_forward",
    "macl",
    "macl_backward",
    "macl_forward",
    "moco",
    "moco_backward",
    "moco_forward",
    "model_aware_contrastive",
    "model_aware_contrastive_backward",
    "model_aware_contrastive_forward",
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
    "per_anchor_contrastive",
    "per_anchor_contrastive_backward",
    "per_anchor_contrastive_forward",
    "reweighted_contrastive",
    "reweighted_contrastive_backward",
    "reweighted_contrastive_forward",
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
    "sup_con",
    "sup_con_backward",
    "sup_con_forward",
    "supervised_contrastive",
    "supervised_contrastive_backward",
    "supervised_contrastive_forward",
    "triplet",
    "triplet_backward",
    "triplet_forward",
    "weighted_decoupled_contrastive",
    "weighted_decoupled_contrastive_backward",
    "weighted_decoupled_contrastive_forward",
]
