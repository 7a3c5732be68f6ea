"""What the oracle must know of each loss beside its signature: one row a loss.

In:  the name of a loss of refcl.
Out: its row. A loss that needs no row has the default one.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

BOTH = {"anchors": "both", "candidates": "all"}  # of two views: everyone but oneself


class Row(NamedTuple):
    """One loss.

    Attributes
    ----------
    recipe : dict
        The choices of its recipe (see `recipe.Recipe`) that its signature does not tell.
    inside : str or None
        What stands between its similarities and its value, where that is more than the recipe's own pools.
    batches : str
        How its batches are made, where not as views or similarities: "futures", "views", "temperatures".
    """

    recipe: Mapping[str, Any] = {}
    inside: str | None = None
    batches: str = ""
    all_arrays: bool = False  # an array stands where others have a scalar
    in_a_tuple: bool = False  # its arrays come as one tuple, of any length
    by_rows: bool = True  # its arrays have a row for each sample, all alike
    by_inner_products: bool = True  # it is a function of the inner products of its rows
    distances: bool = False  # it takes distances, which have no derivative at 0
    memory: str = ""  # what holds its negatives
    often_detached: tuple[str, ...] = ()  # inputs that get no gradient in the paper either
    directions_apart: bool = False  # without a reduction, its value has a row for each direction
    hinge: str = ""  # which negatives a hinge is of: "hardest", "semi-hard"


ROWS: dict[str, Row] = {
    "softmax_contrastive": Row({"pool": "softmax"}),
    "hard_softmax_contrastive": Row({"pool": "softmax"}),
    "simple_contrastive": Row({"pool": "simple"}),
    "hard_simple_contrastive": Row({"pool": "simple"}),
    "triplet": Row({"pool": "triplet"}, hinge="hardest"),
    "semi_hard_triplet": Row(hinge="semi-hard"),
    "triplet_margin": Row(batches="views", distances=True),
    "pair_contrastive": Row({"anchors": "first"}, distances=True),
    "info_nce": Row({"pool": "softmax"}),
    "hard_info_nce": Row({"pool": "softmax"}),
    "simple_loss": Row({"pool": "simple"}),
    "hard_simple_loss": Row({"pool": "simple"}),
    "nt_xent": Row({**BOTH, "pool": "softmax"}),
    "clip": Row({"pool": "softmax"}, directions_apart=True),
    "sig_lip": Row({"anchors": "first"}, inside="apart"),
    "decoupled_contrastive": Row({"in_denominator": 0}, inside="decoupled"),
    "weighted_decoupled_contrastive": Row({"anchors": "first", "in_denominator": 0}, inside="decoupled"),
    "dcl": Row({**BOTH, "in_denominator": 0}, inside="decoupled"),
    "dclw": Row({**BOTH, "in_denominator": 0}, inside="decoupled"),
    "reweighted_contrastive": Row(inside="reweighted"),
    "debiased": Row(BOTH, inside="reweighted"),
    "hcl": Row(BOTH, inside="reweighted"),
    "model_aware_contrastive": Row(inside="model aware"),
    "macl": Row(BOTH, inside="model aware"),
    "supervised_contrastive": Row(inside="supervised"),
    "sup_con": Row({"candidates": "all"}, inside="supervised"),
    "multi_positive": Row({"anchors": "first"}, inside="supervised"),
    "align_uniform": Row(inside="uniform"),
    "per_anchor_contrastive": Row(batches="temperatures", all_arrays=True),
    "inst_disc": Row({"single": True}, memory="bank"),
    "nce": Row({"single": True}, memory="noise"),
    "moco": Row(memory="queue", often_detached=("key",)),
    "cpc": Row(batches="futures", all_arrays=True, by_rows=False, by_inner_products=False),
    "cmc": Row(batches="views", in_a_tuple=True, by_rows=False),
}


def row_of(loss: str) -> Row:
    """Return the row of a loss."""
    return ROWS.get(loss, Row())
