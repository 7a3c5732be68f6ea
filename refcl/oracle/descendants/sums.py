"""log Σ exp of some columns, above a reference, with its way back: what every denominator here is made of.

In:  columns of logits with masks, and a term that may be taken out of the sum again.
Out: the logarithm (A,), and the gradients of the reference, of each column and of the term.
"""

from typing import Any, NamedTuple

import numpy as np

from refcl.walk.pooling.reweighted import reweighted_soft_maximum


class Column(NamedTuple):
    """One or more columns of logits, and which of them count."""

    logits: Any  # (A, T)
    counted: Any  # (A, T)


class LogSum:
    """log(Σ w_k exp(l_k) − exp(less)) − above, with w = 1 unless near ones are weighed by β."""

    def __init__(
        self, above: Any, columns: list[Column], *, less: Any = None, beta: float = 0.0, detach: bool = False
    ) -> None:
        self.widths = [c.logits.shape[1] for c in columns]
        pool = np.concatenate([c.logits for c in columns], axis=1)
        mask = np.concatenate([c.counted for c in columns], axis=1)
        self.value, self.cache = reweighted_soft_maximum.forward(
            above, pool, 1.0, negatives=mask, beta=beta, detach=detach
        )
        self.occupied = np.any(mask, axis=1)  # (A,)
        self.taken = np.zeros_like(above)  # (A,) part of the sum that is taken out
        if less is not None:
            self.taken = np.exp(less - self.value - above)
            self.value = self.value + np.log1p(-self.taken)

    def back(self, d: Any) -> tuple[Any, list[Any], Any]:
        """Return the gradients of ``above`` (A,), of each column (A, T) and of ``less`` (A,)."""
        dabove, dpool, _ = reweighted_soft_maximum.backward(d / (1 - self.taken), self.cache)
        dless = -d * self.taken / (1 - self.taken)
        return dabove - dless, np.split(dpool, np.cumsum(self.widths)[:-1], axis=1), dless


def everywhere(logits: Any) -> Column:
    """Return a vector of logits as a column that counts in every row."""
    return Column(logits[:, None], np.ones((len(logits), 1), dtype=bool))
