"""s+ -> s+ less a margin: the positive must be nearer than it is.

In:  ``s_pos`` (N,), cosines of the positives.  Out: the same, each lowered: by a number, by an angle, or by both.
"""

import math
from typing import NamedTuple

from refcl.core.arrays import Array, constant, namespace
from refcl.core.pair import room


class LogitMarginCache(NamedTuple):
    slope: Array  # (N,) how much of a move of s⁺ is left


def logit_margin_forward(
    s_pos: Array, *, margin: float = 0.0, angular_margin: float = 0.0
) -> tuple[Array, LogitMarginCache]:
    r"""Lower the cosine of the positive by a margin.

    Parameters
    ----------
    s_pos : (N,) array of float32 or float64
        Cosine of each positive.
    margin : float
        m >= 0, taken from the cosine.
    angular_margin : float
        α in [0, π), in radians: added to the angle before its cosine is taken.

    Returns
    -------
    lowered : (N,) array
        :math:`\cos(\theta + \alpha) - m` with :math:`\cos\theta = s^+`; where :math:`\theta + \alpha > \pi`,
        :math:`s^+ - \alpha\sin\alpha - m`.
    grads : named tuple
        ds_pos.

    Notes
    -----
    :math:`\cos(\theta + \alpha) = s\cos\alpha - \sqrt{(1 - s)(1 + s)}\sin\alpha`, of slope
    :math:`\sin(\theta + \alpha)/\sin\theta = \cos\alpha + s\sin\alpha/\sin\theta`. Beyond π the cosine would rise
    again: the line goes on downwards, as in the authors' code, from a step below −1. At s = ±1 the slope is infinite,
    since the angle has a tip there; the gradient is that of the part without one, cos α, which on the sphere is 0. A
    cosine that rounding has carried beyond ±1 counts as ±1.

    References
    ----------
    Wang et al. (CosFace), CVPR 2018, Eq. 4; Deng et al. (ArcFace), CVPR 2019, Eq. 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.walk.logit_margin import logit_margin
    >>> logit_margin(np.array([0.5, -1.0]), angular_margin=np.pi / 6)[0]
    array([ 6.123234e-17, -1.261799e+00])
    """
    xp = namespace(s_pos)
    if angular_margin == 0.0:
        return s_pos - margin, LogitMarginCache(xp.ones_like(s_pos))
    zero, one = constant(0.0, like=s_pos), constant(1.0, like=s_pos)
    cos, sin = math.cos(angular_margin), math.sin(angular_margin)
    sine = xp.sqrt(xp.maximum((1 - s_pos) * (1 + s_pos), zero))  # (N,) sin θ
    within = s_pos >= -cos  # θ + α <= π
    turned = s_pos * cos - sine * sin
    slope = cos + xp.where(sine > 0, s_pos * sin / xp.where(sine > 0, sine, one), zero)
    lowered = xp.where(within, turned, s_pos - angular_margin * sin)
    return lowered - margin, LogitMarginCache(xp.where(within, slope, one))


def logit_margin_backward(dlowered: Array, cache: LogitMarginCache) -> Array:
    """Return ds⁺ = dlowered sin(θ + α)/sin θ, and dlowered where a number was taken off."""
    return dlowered * cache.slope


logit_margin = room(logit_margin_forward, logit_margin_backward)
