"""What stands between similarities and loss in the descendants, so that it can be entered wrongly.

``choices``     which rooms a loss has, by its row in `questions`
``gap``         one positive: DCL and DCLW, debiased and HCL, MACL
``supervised``  any number of positives: SupCon
``freed``       the softmax loss with targets, weights and margins
``apart``       no pool: SigLIP, alignment and uniformity

Sphere, pairing, reduction and the way back to the embeddings are the recipe's.
"""

from refcl.oracle.descendants.apart import SLIPS
from refcl.oracle.descendants.choices import pool_of

__all__ = ["SLIPS", "pool_of"]
