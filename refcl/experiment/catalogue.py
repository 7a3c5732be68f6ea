"""What a study can train, by name.

In:  the name of a loss or of a pretext task, as on the command line.
Out: what tables and figures call it, which keys it goes with, and what else a run of it needs to know.
The order is that of tables and legends: the paper's Table 1 first, then what stands beside it, then the pretext tasks.
"""

from collections.abc import Iterable
from typing import NamedTuple

from refcl.experiment.errors import StudyError

BANK, SAME, QUEUE = SOURCES = ("bank", "same", "queue")  # what an anchor is compared with: see `refcl.experiment.keys`


class Entry(NamedTuple):
    """One loss of a study."""

    label: str
    temperature: bool = False  # whether a run has one
    hardest: bool = False  # whether it keeps the hardest negatives only
    keys: tuple[str, ...] = SOURCES
    group: str = "contrastive"


TWO_VIEWS = (SAME,)

CATALOGUE = {
    "softmax": Entry("softmax", temperature=True, group="paper"),
    "simple": Entry("simple", group="paper"),
    "hard-softmax": Entry("hard softmax", temperature=True, hardest=True, group="paper"),
    "hard-simple": Entry("hard simple", hardest=True, group="paper"),
    "nt-xent": Entry("NT-Xent", temperature=True, keys=TWO_VIEWS),
    "clip": Entry("CLIP", temperature=True, keys=TWO_VIEWS),
    "nce": Entry("NCE", temperature=True, keys=(BANK,)),
    "dcl": Entry("DCL", temperature=True),
    "dclw": Entry("DCLW", temperature=True),
    "debiased": Entry("debiased", temperature=True),
    "hcl": Entry("HCL", temperature=True),
    "macl": Entry("MACL", temperature=True),
    "fixed-entropy": Entry("fixed entropy"),
    "sig-lip": Entry("SigLIP"),
    "align-uniform": Entry("align + uniform", keys=TWO_VIEWS),
    "triplet": Entry("triplet"),
    "semi-hard-triplet": Entry("semi-hard triplet"),
    "pair-contrastive": Entry("pair margin", keys=TWO_VIEWS),
    "sup-con": Entry("SupCon", temperature=True, keys=TWO_VIEWS, group="supervised"),
    "rotation": Entry("rotation", group="pretext"),
    "jigsaw": Entry("jigsaw", group="pretext"),
    "context": Entry("context", group="pretext"),
    "colourisation": Entry("colourisation", group="pretext"),
}


def check_keys(losses: Iterable[str], keys: str) -> None:
    """Refuse losses that do not go with the keys of a study.

    Parameters
    ----------
    losses : iterable of str
        Names of `CATALOGUE`.
    keys : str
        Of `SOURCES`.

    Raises
    ------
    StudyError
        Where one of them goes with other keys only.

    Examples
    --------
    >>> from refcl.experiment.catalogue import check_keys
    >>> check_keys(["softmax", "nt-xent"], "same")
    """
    for loss in losses:
        fitting = CATALOGUE[loss].keys
        if keys not in fitting:
            raise StudyError(f"the {loss} loss goes with --keys {' or '.join(fitting)}, not with {keys}.")
