"""The debiased loss: hard negatives without a weight. What holds of both stands with `hcl`."""

from cards import Card, two_sided
from loops import of_two_views
from test_hcl import golden_of_views, reweighted

import refcl

CARDS = [
    Card(
        refcl.debiased,
        two_sided(0.4, stacked=True, other=0.7, tau_plus=0.1),
        of_two_views(reweighted),
        lambda: golden_of_views("debiased"),
    )
]
