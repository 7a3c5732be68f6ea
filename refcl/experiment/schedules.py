"""epoch -> temperature: what a temperature does that moves by the clock.

In:  how far the training is.  Out: τ, a number for any loss. It depends on no embedding: it has no gradient.
"""

import math
from typing import Any

from refcl.core.agreement import Call
from refcl.core.arguments import number
from refcl.core.pair import checked


def _ask_order(call: Call, arguments: dict[str, Any]) -> None:
    """Ask for a high that is no lower than the low."""
    number(arguments["low"], at_least=True)(call, "high", arguments["high"])


@checked(epoch=number(0.0, at_least=True), low=number(0.0), high=number(0.0), half_period=number(0.0), also=_ask_order)
def cosine_temperature(epoch: float, *, low: float = 0.1, high: float = 1.0, half_period: float = 200.0) -> float:
    r"""Return a temperature that swings between two values along a cosine.

    Parameters
    ----------
    epoch : float
        Epochs, or any other measure of time, since the start; >= 0.
    low : float
        τ₋ > 0, reached after one half period, three, five ...
    high : float
        τ₊ >= τ₋, where it starts and comes back to after each period.
    half_period : float
        Time from the one to the other, > 0, in the units of ``epoch``.

    Returns
    -------
    temperature : float
        :math:`\tau_- + \tfrac12(\tau_+ - \tau_-)\bigl(1 + \cos(\pi\, epoch / half\_period)\bigr)`.

    Raises
    ------
    TypeError, ValueError
        Where an argument is no number or out of its range.

    Notes
    -----
    Large temperatures group what is alike, small ones tell instances apart; a schedule gives the encoder both by turns.
    The defaults are those of the authors' README, whose ``T_max`` is the half period.

    References
    ----------
    Kukleva, Böhle, Schiele, Kuehne and Rupprecht, "Temperature Schedules for Self-Supervised Contrastive Methods on
    Long-Tail Data", ICLR 2023.

    Examples
    --------
    >>> from refcl.experiment.schedules import cosine_temperature
    >>> [round(cosine_temperature(epoch), 3) for epoch in (0, 100, 200, 300, 400)]
    [1.0, 0.55, 0.1, 0.55, 1.0]
    """
    return low + 0.5 * (high - low) * (1 + math.cos(math.pi * epoch / half_period))
