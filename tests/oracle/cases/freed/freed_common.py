"""Registry: @case(verdict, says, loss, **settings of check); "" where nothing need be said."""
import numpy as np
CASES = []
def case(verdict, says, loss, wrap=None, **settings):
    def deco(f):
        CASES.append(dict(name=f.__name__, f=f, loss=loss, verdict=verdict, says=says, wrap=wrap,
                          settings=settings))
        return f
    return deco
def unit(x): return x / np.linalg.norm(x, axis=-1, keepdims=True)
def unit_back(dz, x): z = unit(x); return (dz - z * (dz * z).sum(-1, keepdims=True)) / np.linalg.norm(x, axis=-1, keepdims=True)
def lse(x):
    top = x.max(1, keepdims=True)
    return top[:, 0] + np.log(np.exp(x - top).sum(1))
def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)
