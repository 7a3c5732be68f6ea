"""The tasks by name: what is asked of a sample, what a right answer is, and how it is charged.

In:  a data set, how strongly a view changes a sample, and what moves an array to the device that will ask.
Out: a task: a function that makes questions of pictures, and what a head needs to know to answer them.
Before the question comes the view that the contrastive losses have, so that no encoder sees other pictures than theirs.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from refcl.core.arrays import Array
from refcl.core.pair import AnyPair
from refcl.experiment.data import Data
from refcl.experiment.pretext.colourisation import ink_level, without_colour, without_strength
from refcl.experiment.pretext.context import DIRECTIONS, Pairs, cut, pairs_of
from refcl.experiment.pretext.heads import cross_entropy, squared_error
from refcl.experiment.pretext.jigsaw import shuffle, shuffles
from refcl.experiment.pretext.pictures import picture_of
from refcl.experiment.pretext.rotation import TURNS, quarter_turns, rotate
from refcl.experiment.train import Send
from refcl.experiment.views import Strength, view

COMPARING = (64,)  # hidden width of a head that has two patches to compare: a linear one could only add them up

View = Callable[..., Array]  # (x, rng) -> another view of x; strength= for a part of it


class Question(NamedTuple):
    """What a batch is asked, and the right answers."""

    x: Array  # (V N, F) what the encoder sees
    answer: dict[str, Array]  # the settings of the task's loss


class Task(NamedTuple):
    """A question about samples: how it is asked, and how an answer is charged."""

    ask: Callable[[Array, np.random.Generator], Question]
    loss: AnyPair  # of the head's outputs
    outputs: int  # classes, or numbers
    patches: int = 1  # V, rows of the encoder for each sample
    hidden: tuple[int, ...] = ()  # widths of the head's hidden layers


def rotation(data: Data, strength: Strength, send: Send = np.asarray) -> Task:
    """Return the task to tell by how many quarters a picture was turned.

    References
    ----------
    Gidaris, Singh and Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018.
    """
    turns = send(quarter_turns(picture_of(data, "rotation")))
    return Task(partial(_ask_rotation, look=_view_of(data, strength), turns=turns), cross_entropy, TURNS)


def _ask_rotation(x: Array, rng: np.random.Generator, *, look: View, turns: Array) -> Question:
    turned, label = rotate(look(x, rng), rng, turns=turns)
    return Question(turned, {"label": label})


def jigsaw(data: Data, strength: Strength, send: Send = np.asarray) -> Task:
    """Return the task to tell in which order the tiles of a picture were laid.

    References
    ----------
    Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016.
    """
    table = send(shuffles(picture_of(data, "jigsaw")))
    return Task(partial(_ask_jigsaw, look=_view_of(data, strength), table=table), cross_entropy, table.shape[0])


def _ask_jigsaw(x: Array, rng: np.random.Generator, *, look: View, table: Array) -> Question:
    shuffled, label = shuffle(look(x, rng), rng, table=table)
    return Question(shuffled, {"label": label})


def context(data: Data, strength: Strength, send: Send = np.asarray) -> Task:
    """Return the task to tell on which side of a first patch a second one lay.

    References
    ----------
    Doersch, Gupta and Efros, "Unsupervised Visual Representation Learning by Context Prediction", ICCV 2015.
    """
    pairs = pairs_of(picture_of(data, "context"))
    pairs = pairs._replace(**{name: send(table) for name, table in pairs._asdict().items() if name != "multiple"})
    ask = partial(_ask_context, look=_view_of(data, strength), pairs=pairs)
    return Task(ask, cross_entropy, len(DIRECTIONS), patches=2, hidden=COMPARING)


def _ask_context(x: Array, rng: np.random.Generator, *, look: View, pairs: Pairs) -> Question:
    patches, label = cut(look(x, rng), rng, pairs=pairs)
    return Question(patches, {"label": label})


def colourisation(data: Data, strength: Strength, send: Send = np.asarray) -> Task:
    """Return the task to tell a picture's colours from its luminance, or a grey one's strength of ink from its outline.

    References
    ----------
    Zhang, Isola and Efros, "Colorful Image Colorization", ECCV 2016.
    """
    picture = picture_of(data, "colourisation")
    look = _view_of(data, strength)
    # What is asked for stays as it is: the picture is moved before the question, and spoilt in the question alone.
    moved = partial(look, strength=strength._replace(brightness=0.0, noise=0.0, dropout=0.0))
    spoilt = partial(look, strength=strength._replace(shift=0, brightness=0.0))
    outputs = picture.height * picture.width * picture.channels
    if picture.channels > 1:
        return Task(partial(_ask_colour, moved=moved, spoilt=spoilt), squared_error, outputs)
    ask = partial(_ask_strength, moved=moved, spoilt=spoilt, blank=data.blank, ink=ink_level(data))
    return Task(ask, squared_error, outputs)


def _ask_colour(x: Array, rng: np.random.Generator, *, moved: View, spoilt: View) -> Question:
    grey, colour = without_colour(moved(x, rng))
    return Question(spoilt(grey, rng), {"target": colour})


def _ask_strength(
    x: Array, rng: np.random.Generator, *, moved: View, spoilt: View, blank: float, ink: float
) -> Question:
    x = moved(x, rng)
    outline, inked = without_strength(x, blank=blank, ink=ink)
    return Question(spoilt(outline, rng), {"target": x, "asked": inked})


def _view_of(data: Data, strength: Strength) -> View:
    return partial(view, image=data.image, blank=data.blank, strength=strength)


TASKS: dict[str, Callable[..., Task]] = {
    "rotation": rotation,
    "jigsaw": jigsaw,
    "context": context,
    "colourisation": colourisation,
}
