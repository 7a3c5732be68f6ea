"""One gradient step by hand
=========================

Walks through the rooms of `refcl.info_nce` one at a time, forward and back, shows that the pair returns the same loss
and the same gradient, and takes one step against it: the loss falls by about what the gradient promises.

From a shell::

    python examples/gradient_step.py
"""

# sphinx_gallery_thumbnail_path = 'gallery_pictures/gradient_step.png'

import argparse

import numpy as np

import refcl
from refcl.walk.pairing import pairing
from refcl.walk.penalty import softplus
from refcl.walk.pooling.soft_maximum import soft_maximum
from refcl.walk.reduce import reduce
from refcl.walk.similarity import inner_product
from refcl.walk.sphere import l2_normalize


def walk_by_hand(query, key, temperature):
    """Return the loss and its gradients, room by room; read the second half upwards and it is the first."""
    z, query_cache = l2_normalize.forward(query)  # (N, D) rows of length 1
    c, key_cache = l2_normalize.forward(key)  # (M, D)
    s, similarity_cache = inner_product.forward(z, c)  # (N, M) cosines
    (s_pos, s_neg), roles = pairing.forward(s)  # (N,) the diagonal, (N, M)
    gap, pool_cache = soft_maximum.forward(s_pos, s_neg, temperature, negatives=roles.negatives)  # (N,)
    loss, penalty_cache = softplus.forward(gap)  # (N,)
    value, reduce_cache = reduce.forward(loss)  # ()

    dloss = reduce.backward(np.ones(()), reduce_cache)  # (N,) 1/N each
    dgap = softplus.backward(dloss, penalty_cache)  # (N,) how much each anchor still has to learn
    ds_pos, ds_neg, _ = soft_maximum.backward(dgap, pool_cache)  # (N,), (N, M) who is pushed how hard
    ds = pairing.backward(ds_pos, ds_neg, roles)  # (N, M)
    dz, dc = inner_product.backward(ds, similarity_cache)  # (N, D), (M, D)
    dquery = l2_normalize.backward(dz, query_cache)  # (N, D)
    dkey = l2_normalize.backward(dc, key_cache)  # (M, D)

    print(f"s     cosine to the positive         {s_pos.mean():+.4f} on average")
    print(f"gap   pooled negatives above it, nats {gap.mean():+.4f} on average")
    print(f"loss                                   {value:.6f}")
    print(f"dgap  left to learn, per anchor        {(dgap * len(dgap)).min():.3f} to {(dgap * len(dgap)).max():.3f}")
    balance = np.abs(ds.sum(axis=1)).max() / np.abs(ds_pos).max()
    print(f"ds    pull on the positive less pushes {balance:.0e} of the pull: they balance")
    return value, dquery, dkey


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--anchors", type=int, default=6)
    parser.add_argument("--dimension", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--rate", type=float, default=1e-3, help="length of the step, in units of the gradient")
    options = parser.parse_args(argv)

    rng = np.random.default_rng(0)
    query, key = rng.standard_normal((2, options.anchors, options.dimension))
    value, dquery, dkey = walk_by_hand(query, key, options.temperature)

    loss, grads = refcl.info_nce(query, key, options.temperature)
    difference = max(np.abs(grads.dquery - dquery).max(), np.abs(grads.dkey - dkey).max())
    print(f"\nby hand and by refcl.info_nce: losses differ by {abs(value - loss):.0e}, gradients by {difference:.0e}")

    after, _ = refcl.info_nce(query - options.rate * dquery, key - options.rate * dkey, options.temperature)
    promised = options.rate * (np.sum(dquery**2) + np.sum(dkey**2))
    print(f"one step: the loss falls from {loss:.6f} to {after:.6f}")
    print(f"          by {loss - after:.3e}; rate x |gradient|^2 promised {promised:.3e}")


if __name__ == "__main__":
    main()
