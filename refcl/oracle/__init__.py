"""The oracle: is my loss right, and if not, what did I get wrong?

In:  someone's implementation.  Out: a report.

``check``, ``assert_correct``   hold a loss against refcl's and name its mistake
``from_torch``, ``from_module``, ``from_jax``, ``numeric``   make candidates of what other libraries have
``gradcheck``                   hold a hand-written backward against differences of its forward
``world``                       the same for a loss that is spread over ranks
``explain_value``               what a loss value that stands still means

>>> import refcl
>>> from refcl.oracle import check
>>> check(refcl.info_nce, "info_nce").verdict
'correct'
"""

from refcl.oracle.adapters import from_jax, from_module, from_torch, numeric
from refcl.oracle.check import assert_correct, check
from refcl.oracle.explain import Explanation, explain_value
from refcl.oracle.gradcheck import GradcheckReport, gradcheck
from refcl.oracle.report import Report
from refcl.oracle.world import Communicator, world

__all__ = [
    "Communicator",
    "Explanation",
    "GradcheckReport",
    "Report",
    "assert_correct",
    "check",
    "explain_value",
    "from_jax",
    "from_module",
    "from_torch",
    "gradcheck",
    "numeric",
    "world",
]
