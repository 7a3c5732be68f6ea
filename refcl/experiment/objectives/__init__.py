"""The losses of a study, by their names in the API or a setting of the softmax: what each is called and goes with.

In:  a name, as someone typed it.
Out: a row of the catalogue, and what each batch of a run asks of it (``asked``).
``views`` takes two views through the encoder, with gradients through both; ``memory`` holds anchors against a bank or a
queue.
"""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NamedTuple

import refcl
from refcl.core.arrays import Array, constant
from refcl.experiment.errors import StudyError
from refcl.experiment.keys import BANK, QUEUE, SAME, SOURCES
from refcl.experiment.objectives import asked
from refcl.experiment.objectives.asked import (
    Batch,
    Loss,
    Prepare,
    Run,
    against_memory,
    on_embeddings,
    on_similarities,
    on_the_hardest,
    on_views,
)

TAU_PLUS = 0.1  # the share of false negatives that `debiased` and `hcl` assume: the papers', and one class in ten
BETA = 1.0  # hcl's
MARGIN = 0.1  # in cosine: .2 of the squared distance, as in FaceNet
SMOOTHING = 0.1  # the share of the target that all candidates have
LOG_SCALE, BIAS = math.log(10.0), -10.0  # where `sig_lip` starts

PAPER, SUPERVISED, PRETEXT = "paper", "supervised", "pretext"  # groups of losses; all others are "contrastive"


class Objective(NamedTuple):
    """One loss of a study: what tables and figures call it, and how a run of it prepares what each batch asks."""

    label: str
    views: Prepare | None = None  # None where the loss has no place for the keys
    memory: Prepare | None = None
    temperature: bool = False  # whether a run has one
    hardest: bool = False  # whether it keeps the hardest negatives only
    learned: tuple[tuple[str, float], ...] = ()  # names, and where they start
    queue: bool = True  # whether a memory may be a queue
    group: str = "contrastive"

    @property
    def keys(self) -> tuple[str, ...]:
        """Which sources of keys the loss goes with; a pretext task looks at none."""
        fits = {
            BANK: self.memory is not None,
            SAME: self.views is not None,
            QUEUE: self.memory is not None and self.queue,
        }
        return SOURCES if self.group == PRETEXT else tuple(source for source in SOURCES if fits[source])


def _everywhere(label: str, prepare: Prepare, **others: Any) -> Objective:
    return Objective(label, prepare, prepare, **others)


def _softmax(label: str, **setting: float) -> Objective:
    """Return the softmax with a setting that the paper has not, under the setting's name."""
    views = on_embeddings(refcl.info_nce, **setting)
    return Objective(label, views, against_memory(refcl.softmax_contrastive, **setting), temperature=True)


# In the order of tables and legends: the paper's Table 1 first, then what stands beside it, then the pretext tasks.
OBJECTIVES = {
    "info_nce": Objective("softmax", on_embeddings(refcl.info_nce), asked.inst_disc, temperature=True, group=PAPER),
    "simple_loss": Objective(
        "simple", on_embeddings(refcl.simple_loss), against_memory(refcl.simple_contrastive), group=PAPER
    ),
    "hard_info_nce": Objective(
        "hard softmax",
        on_embeddings(refcl.hard_info_nce),
        on_the_hardest(refcl.softmax_contrastive, refcl.hard_info_nce),
        temperature=True,
        hardest=True,
        group=PAPER,
    ),
    "hard_simple_loss": Objective(
        "hard simple",
        on_embeddings(refcl.hard_simple_loss),
        on_the_hardest(refcl.simple_contrastive, refcl.hard_simple_loss),
        hardest=True,
        group=PAPER,
    ),
    "nt_xent": Objective("NT-Xent", on_views(refcl.nt_xent), temperature=True),
    "clip": Objective("CLIP", asked.clip, temperature=True),
    "nce": Objective("NCE", memory=asked.nce, temperature=True, queue=False),
    "dcl": Objective("DCL", on_views(refcl.dcl), against_memory(refcl.decoupled_contrastive), temperature=True),
    "dclw": Objective(
        "DCLW", on_views(refcl.dclw), against_memory(refcl.weighted_decoupled_contrastive), temperature=True
    ),
    "debiased": Objective(
        "debiased",
        on_views(refcl.debiased, tau_plus=TAU_PLUS),
        against_memory(refcl.reweighted_contrastive, tau_plus=TAU_PLUS),
        temperature=True,
    ),
    "hcl": Objective(
        "HCL",
        on_views(refcl.hcl, tau_plus=TAU_PLUS, beta=BETA),
        against_memory(refcl.reweighted_contrastive, tau_plus=TAU_PLUS, beta=BETA),
        temperature=True,
    ),
    "macl": Objective("MACL", on_views(refcl.macl), against_memory(refcl.model_aware_contrastive), temperature=True),
    "fixed_entropy": _everywhere("fixed entropy", asked.fixed_entropy),
    "sig_lip": _everywhere("SigLIP", on_embeddings(refcl.sig_lip), learned=(("log_scale", LOG_SCALE), ("bias", BIAS))),
    "align_uniform": Objective("align + uniform", on_views(refcl.align_uniform)),
    "triplet": _everywhere("triplet", on_similarities(refcl.triplet, margin=MARGIN)),
    "semi_hard_triplet": _everywhere("semi-hard triplet", on_similarities(refcl.semi_hard_triplet, margin=MARGIN)),
    "pair_contrastive": Objective("pair margin", asked.pair_contrastive),
    "label_smoothing": _softmax("softmax, smoothed", label_smoothing=SMOOTHING),
    "margin": _softmax("softmax, margin", margin=MARGIN),
    "sup_con": Objective("SupCon", asked.sup_con, temperature=True, group=SUPERVISED),
    "rotation": Objective("rotation", group=PRETEXT),
    "jigsaw": Objective("jigsaw", group=PRETEXT),
    "context": Objective("context", group=PRETEXT),
    "colourisation": Objective("colourisation", group=PRETEXT),
}
PAPERS = tuple(name for name, entry in OBJECTIVES.items() if entry.group == PAPER)  # in the order of Table 1
PAPERS_WORDS = {"softmax": "info_nce", "simple": "simple_loss"} | {
    "hard_softmax": "hard_info_nce", "hard_simple": "hard_simple_loss"
}  # fmt: skip
# Names of the API that are no loss of their own here: the same loss with other keys.
ELSEWHERE = {
    "softmax_contrastive": "it is info_nce on given similarities",
    "simple_contrastive": "it is simple_loss on given similarities",
    "hard_softmax_contrastive": "it is hard_info_nce on given similarities",
    "hard_simple_contrastive": "it is hard_simple_loss on given similarities",
    "inst_disc": "it is info_nce with --keys bank",
    "moco": "it is info_nce with --keys queue",
    "cmc": "of two views it is clip",
    "cpc": "it needs a sequence",
}


def loss_named(word: str) -> str:
    """Return the name of a loss as the API spells it.

    Parameters
    ----------
    word : str
        The name, with hyphens for underscores and capitals where one likes; the paper's own words are taken too.

    Returns
    -------
    str
        A key of `OBJECTIVES`.

    Raises
    ------
    StudyError
        Where there is no such loss, with the nearest name.

    Examples
    --------
    >>> from refcl.experiment.objectives import loss_named
    >>> loss_named("NT-Xent"), loss_named("hard-softmax")
    ('nt_xent', 'hard_info_nce')
    """
    name = word.strip().lower().replace("-", "_")
    name = PAPERS_WORDS.get(name, name)
    if name in OBJECTIVES:
        return name
    if name in ELSEWHERE:
        raise StudyError(f"no loss of a study is called {word!r}: {ELSEWHERE[name]}.")
    near = get_close_matches(name, [*OBJECTIVES, *PAPERS_WORDS], n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose from {' '.join(OBJECTIVES)}, or all."
    raise StudyError(f"no loss is called {word!r}; {hint}")


def losses_with(keys: str, *, pictures: bool) -> list[str]:
    """Return every loss that goes with some keys, pretext tasks where the samples are pictures.

    Examples
    --------
    >>> from refcl.experiment.objectives import losses_with
    >>> losses_with("bank", pictures=False)[:5]
    ['info_nce', 'simple_loss', 'hard_info_nce', 'hard_simple_loss', 'nce']
    """
    return [name for name, entry in OBJECTIVES.items() if keys in entry.keys and (pictures or entry.group != PRETEXT)]


def check_keys(losses: Iterable[str], keys: str) -> None:
    """Refuse losses that do not go with the keys of a study.

    Parameters
    ----------
    losses : iterable of str
        Names of `OBJECTIVES`.
    keys : str
        Of `refcl.experiment.keys.SOURCES`.

    Raises
    ------
    StudyError
        Where one of them goes with other keys only.

    Examples
    --------
    >>> from refcl.experiment.objectives import check_keys
    >>> check_keys(["info_nce", "nt_xent"], "same")
    """
    for loss in losses:
        fitting = OBJECTIVES[loss].keys
        if keys not in fitting:
            raise StudyError(f"the {loss} loss goes with --keys {' or '.join(fitting)}, not with {keys}.")


def prepare_loss(run: Run, keys: str) -> Loss:
    """Return what each batch of a run asks, given where its keys come from."""
    objective = OBJECTIVES[run.loss]
    prepare = objective.views if keys == SAME else objective.memory
    if prepare is None:
        raise ValueError(f"the {run.loss} loss does not go with keys {keys!r}.")
    return prepare(run)


def start_learned(loss: str, *, like: Array) -> tuple[Array, ...]:
    """Return what a loss learns beside the encoder, before the first step: (1,) arrays in the order of their names."""
    return tuple(constant([start], like=like) for _, start in OBJECTIVES[loss].learned)


__all__ = [
    "OBJECTIVES", "PAPER", "PAPERS", "PRETEXT", "SUPERVISED", "Batch", "Loss", "Objective", "Run",
    "check_keys", "loss_named", "losses_with", "prepare_loss", "start_learned",
]  # fmt: skip
