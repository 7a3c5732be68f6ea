"""Right and wrong lines for a type checker: those that must be refused say with which of mypy's codes.

Not a test by itself, and never run: test_typing.py has mypy read it.
"""

import numpy as np

import refcl

query = np.ones((4, 3))
key = np.ones((6, 3), dtype=np.float32)

# right
loss, grads = refcl.info_nce(query, key)
loss, grads = refcl.info_nce(query, key, 0.1, positive=np.arange(4), reduction="none", upstream=np.ones(4), tile=2)
loss, grads = refcl.info_nce(query, key, temperature=np.float32(0.1))
loss, grads = refcl.info_nce(query, key, np.array(0.1))
dquery, dkey, dtemperature, *_ = grads
total = loss + grads.dquery.sum() + grads.dtemperature
triplet_grads = refcl.triplet(query, margin=0.2)[1].ds
entropy = refcl.hardness.penalty_entropy(query, 0.2, hardest=0.5)
value, spread_grads = refcl.metrics.uniformity(query)
_, cmc_grads = refcl.cmc((query, query), 0.07)
_, scale_grads = refcl.clip(query, query, 2.66)
dlog_scale = scale_grads.dlog_scale

# wrong
print(grads.dqeury)  # wrong: attr-defined
print(grads.dlog_scale)  # wrong: attr-defined
print(scale_grads.dtemperature)  # wrong: attr-defined
print(spread_grads.da)  # wrong: attr-defined
refcl.info_nce(query, key, temperatur=0.1)  # wrong: call-arg
refcl.info_nce("a", 3, [])  # wrong: arg-type
refcl.info_nce(query)  # wrong: call-arg
refcl.info_nce(query, key, 0.1, None, None, None, None, None)  # wrong: call-arg
refcl.info_nce(query, key, "cold")  # wrong: arg-type
refcl.info_nce(query, key, positive=[0, 1, 2, 3])  # wrong: arg-type
refcl.info_nce(query, key, reduction="avg")  # wrong: arg-type
refcl.softmax_contrastive(query, 0.1, tile=3)  # wrong: call-arg
refcl.sup_con(query, 0.1, labels=np.arange(4), form="mean")  # wrong: arg-type
refcl.nt_xent(query, query, normalise=False)  # wrong: call-arg
refcl.hardness.penalty_entropy("s", 0.2)  # wrong: arg-type
refcl.infonce(query, key)  # wrong: attr-defined
