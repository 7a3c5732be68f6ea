"""Where all randomness of a study comes from.

In:  a seed and a purpose.  Out: a generator of its own for each purpose, so that what one part draws shifts no other.
"""

import numpy as np


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of a seed for one purpose.

    Parameters
    ----------
    seed : int
        Of the run, >= 0.
    purpose : str
        What the numbers are for, such as "views".

    Returns
    -------
    numpy.random.Generator
        Independent between purposes and between seeds; the same for the same two.

    Examples
    --------
    >>> from refcl.experiment.seeding import generator
    >>> a, b = generator(0, "views"), generator(0, "order")
    >>> bool(a.random() == b.random())
    False
    >>> bool(generator(0, "views").random() == generator(0, "views").random())
    True
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode())))
