"""Mistakes that real implementations shipped.

``catalogue``  their names, effects, the line to change and where they happened
``bank``       each as one choice of a recipe made wrongly
"""

from refcl.oracle.mistakes.bank import BANK, Variation, constant_term, variations
from refcl.oracle.mistakes.catalogue import CATALOGUE, DISTRIBUTED, Mistake, links

__all__ = ["BANK", "CATALOGUE", "DISTRIBUTED", "Mistake", "Variation", "constant_term", "links", "variations"]
