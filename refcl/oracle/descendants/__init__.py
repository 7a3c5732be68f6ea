"""What stands between similarities and loss in the descendants, so that it can be entered wrongly.

``choices``     which losses have rooms of their own here, and the recipe that each starts from
``gap``         one positive: DCL and DCLW, debiased and HCL, MACL
``supervised``  any number of positives: SupCon
``apart``       no pool: SigLIP, alignment and uniformity

Sphere, pairing, reduction and the way back to the embeddings are the recipe's.
"""

from refcl.oracle.descendants.apart import SLIPS
from refcl.oracle.descendants.choices import inner_choices, pool_of

__all__ = ["SLIPS", "inner_choices", "pool_of"]
