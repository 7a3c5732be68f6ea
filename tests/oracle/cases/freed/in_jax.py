"""The same in JAX."""
import jax, jax.numpy as jnp
from freed_common import case
from refcl.oracle import from_jax
J = from_jax
def n(x): return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
def logp(q, k, t): return jax.nn.log_softmax(n(q) @ n(k).T / t, axis=1)
@case('correct', '', 'info_nce', J, given=('own_negatives', 'log_weight', 'targets', 'anchor_weight'))
def j_everything(query, key, temperature, own_negatives, log_weight, targets, anchor_weight):
    q, h = n(query), n(own_negatives)
    x = jnp.concatenate([q @ n(key).T / temperature + log_weight, jnp.einsum('nd,nhd->nh', q, h) / temperature], 1)
    l = jax.nn.log_softmax(x, axis=1)[:, : len(key)]
    return -jnp.mean(anchor_weight * jnp.sum(targets * l, 1))
@case('differs', 'anchor_weight', 'info_nce', J, given=('anchor_weight',))
def j_root_of_the_anchor_weight(query, key, temperature, anchor_weight):
    return -jnp.mean(jnp.sqrt(anchor_weight) * jnp.diagonal(logp(query, key, temperature)))
