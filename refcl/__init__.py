"""Contrastive losses with hand-derived gradients: a reference in NumPy, on the CPU or on a GPU through CuPy.

Every contrastive loss of one anchor is a penalty on a gap, the similarity of its pooled negatives less its positive's.
Read the rooms in the order in which data walks through them:

    x -encoder-> h -sphere-> z -similarity-> s -pairing-> (s+, s-) -pooling-> gap -penalty-> loss_i -reduce-> L

>>> import numpy as np
>>> import refcl
>>> rng = np.random.default_rng(0)
>>> query, key = rng.standard_normal((2, 4, 8))
>>> loss, grads = refcl.info_nce(query, key, 0.1)
>>> grads._fields[:3]
('dquery', 'dkey', 'dtemperature')
"""

from refcl import hardness, losses, metrics, walk
from refcl.core.pair import Pair
from refcl.losses import (
    align_uniform,
    chunked,
    clip,
    cmc,
    cpc,
    dcl,
    dclw,
    debiased,
    decoupled_contrastive,
    fixed_entropy,
    fixed_entropy_contrastive,
    hard_info_nce,
    hard_simple_contrastive,
    hard_simple_loss,
    hard_softmax_contrastive,
    hcl,
    hessian_vector_product,
    info_nce,
    inst_disc,
    macl,
    moco,
    model_aware_contrastive,
    multi_positive,
    mutual_information_bound,
    nce,
    nce_log_normalizer,
    nt_xent,
    pair_contrastive,
    per_anchor_contrastive,
    reweighted_contrastive,
    semi_hard_triplet,
    sig_lip,
    simple_contrastive,
    simple_loss,
    softmax_contrastive,
    sup_con,
    supervised_contrastive,
    triplet,
    triplet_margin,
    weighted_decoupled_contrastive,
)

__version__ = "0.1.0"

__all__ = [
    "Pair",
    # the rooms, and the losses as walks through them
    "walk",
    "losses",
    # the losses of similarities
    "softmax_contrastive",
    "simple_contrastive",
    "hard_softmax_contrastive",
    "hard_simple_contrastive",
    "triplet",
    "supervised_contrastive",
    "decoupled_contrastive",
    "weighted_decoupled_contrastive",
    "reweighted_contrastive",
    "model_aware_contrastive",
    "per_anchor_contrastive",
    "fixed_entropy_contrastive",
    "hessian_vector_product",
    # the losses of embeddings
    "info_nce",
    "simple_loss",
    "hard_info_nce",
    "hard_simple_loss",
    "nt_xent",
    "clip",
    "chunked",
    # the systems that the paper builds on, and what grew from it
    "inst_disc",
    "nce",
    "nce_log_normalizer",
    "moco",
    "cmc",
    "cpc",
    "mutual_information_bound",
    "sig_lip",
    "semi_hard_triplet",
    "triplet_margin",
    "pair_contrastive",
    "sup_con",
    "multi_positive",
    "dcl",
    "dclw",
    "debiased",
    "hcl",
    "align_uniform",
    "macl",
    "fixed_entropy",
    # about the walk
    "hardness",
    "metrics",
]
