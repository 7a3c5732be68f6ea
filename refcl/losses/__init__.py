"""The losses by name, one file a loss: each a walk through the rooms, its backward the same walk in reverse."""

from refcl.losses.align_uniform import align_uniform
from refcl.losses.chunked import chunked
from refcl.losses.clip import clip
from refcl.losses.cmc import cmc
from refcl.losses.cpc import cpc, mutual_information_bound
from refcl.losses.dcl import dcl, dclw, decoupled_contrastive, weighted_decoupled_contrastive
from refcl.losses.debiased import debiased
from refcl.losses.fixed_entropy import fixed_entropy, fixed_entropy_contrastive, per_anchor_contrastive
from refcl.losses.hard_info_nce import hard_info_nce, hard_softmax_contrastive
from refcl.losses.hard_simple_loss import hard_simple_contrastive, hard_simple_loss
from refcl.losses.hcl import hcl, reweighted_contrastive
from refcl.losses.hessian_vector_product import hessian_vector_product
from refcl.losses.info_nce import info_nce, softmax_contrastive
from refcl.losses.inst_disc import inst_disc
from refcl.losses.macl import macl, model_aware_contrastive
from refcl.losses.moco import moco
from refcl.losses.multi_positive import multi_positive
from refcl.losses.nce import nce, nce_log_normalizer
from refcl.losses.nt_xent import nt_xent
from refcl.losses.pair_contrastive import pair_contrastive
from refcl.losses.semi_hard_triplet import semi_hard_triplet
from refcl.losses.sig_lip import sig_lip
from refcl.losses.simple_loss import simple_contrastive, simple_loss
from refcl.losses.sup_con import sup_con, supervised_contrastive
from refcl.losses.triplet import triplet
from refcl.losses.triplet_margin import triplet_margin

__all__ = [
    "align_uniform",
    "chunked",
    "clip",
    "cmc",
    "cpc",
    "dcl",
    "dclw",
    "debiased",
    "decoupled_contrastive",
    "fixed_entropy",
    "fixed_entropy_contrastive",
    "hard_info_nce",
    "hard_simple_contrastive",
    "hard_simple_loss",
    "hard_softmax_contrastive",
    "hcl",
    "hessian_vector_product",
    "info_nce",
    "inst_disc",
    "macl",
    "moco",
    "model_aware_contrastive",
    "multi_positive",
    "mutual_information_bound",
    "nce",
    "nce_log_normalizer",
    "nt_xent",
    "pair_contrastive",
    "per_anchor_contrastive",
    "reweighted_contrastive",
    "semi_hard_triplet",
    "sig_lip",
    "simple_contrastive",
    "simple_loss",
    "softmax_contrastive",
    "sup_con",
    "supervised_contrastive",
    "triplet",
    "triplet_margin",
    "weighted_decoupled_contrastive",
]
