"""Where does a function of one number cross zero?

In:  a function, and two numbers between which its sign changes.
Out: the number to the last digits, without the import of an optimizer.
"""

import math
from collections.abc import Callable


def root(f: Callable[[float], float], low: float, high: float) -> float:
    """Return where a continuous function is zero, NaN where its sign does not change or a value is no number.

    Parameters
    ----------
    f : callable
        A float to a float.
    low, high : float
        Between which it is looked for.

    Notes
    -----
    Inverse quadratic interpolation where it is safe, halves where it is not (T. R. Chandrupatla, 1997).

    Examples
    --------
    >>> from refcl.oracle.roots import root
    >>> root(lambda x: x * x - 2.0, 0.0, 2.0)
    1.4142135623730951
    """
    a, b, fa, fb = low, high, f(low), f(high)
    c, fc = a, fa
    if fa == 0.0 or fb == 0.0:
        return a if fa == 0.0 else b
    if not fa * fb < 0:
        return math.nan
    part = 0.5
    while True:
        x = a + part * (b - a)
        fx = f(x)
        if not math.isfinite(fx):
            return math.nan
        if fx * fa > 0:
            c, fc = a, fa
        else:
            c, fc, b, fb = b, fb, a, fa
        a, fa = x, fx
        best = a if abs(fa) < abs(fb) else b
        least = 4e-16 * abs(best) / abs(b - a) if b != a else 1.0
        if fx == 0.0 or least > 0.5 or abs(b - a) < 1e-300:
            return best if fx else a
        across, up = (a - b) / (c - b), (fa - fb) / (fc - fb)
        safe = up * up < across and (1 - up) ** 2 < 1 - across
        if safe:
            part = fa / (fb - fa) * fc / (fb - fc) + (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        part = min(max(part if safe else 0.5, least), 1 - least)
