"""What was the colour? It is taken out of each picture, and the encoder is asked to put it back, a number a pixel.

In:  pictures.  Out: pictures without what was taken out, and the numbers that it was.
Of a colour picture remains the luminance. Of a grey one remains where there is ink, but not how much.
"""

import numpy as np

from refcl.core.arrays import Array, constant, namespace
from refcl.experiment.data import Data
from refcl.experiment.errors import StudyError

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601; they add up to 1


def ink_level(data: Data) -> float:
    """Return what stands for ink of any strength: the mean of the pixels that are not empty.

    Parameters
    ----------
    data : Data
        Grey pictures; read here: the training part and the value of an empty pixel.

    Returns
    -------
    float
        In standard deviations.

    Raises
    ------
    StudyError
        Where the pictures have no empty pixel, or all ink is of one strength: nothing would be left to ask, or to see.

    Examples
    --------
    >>> from refcl.experiment.data import load
    >>> from refcl.experiment.pretext.colourisation import ink_level
    >>> round(ink_level(load()), 2)
    0.78
    """
    x = data.training.x
    ink = x[x != np.float32(data.blank)]
    if ink.size == x.size or np.all(ink == ink[:1]):
        raise StudyError(
            f"colourisation of grey pictures needs empty pixels, of value 0, beside ink of more than one strength, "
            f"which those of {data.name} do not have; give another loss."
        )
    return float(ink.mean(dtype=np.float64))


def without_strength(x: Array, *, blank: float, ink: float) -> tuple[Array, Array]:
    """Take the strength of the ink out of grey pictures.

    Parameters
    ----------
    x : (N, F) array of float32 or float64
        A grey picture a row.
    blank : float
        The value of an empty pixel.
    ink : float
        What every other pixel becomes; see `ink_level`.

    Returns
    -------
    outline : (N, F) array
        Of two values.
    inked : (N, F) array of booleans
        Where there is ink: the pixels whose value is to be found.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.pretext.colourisation import without_strength
    >>> without_strength(np.array([[-1.0, 0.0, 2.0]]), blank=-1.0, ink=1.0)[0]
    array([[-1.,  1.,  1.]])
    """
    xp = namespace(x)
    empty = constant(blank, like=x)
    inked = x != empty
    return xp.where(inked, constant(ink, like=x), empty), inked


def without_colour(x: Array) -> tuple[Array, Array]:
    """Take the colour out of pictures of red, green and blue.

    Parameters
    ----------
    x : (N, F) array of float32 or float64
        A picture a row, three numbers a pixel.

    Returns
    -------
    grey : (N, F) array
        The luminance of each pixel, three times.
    colour : (N, F) array
        What is missing: red, green and blue less the luminance.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.pretext.colourisation import without_colour
    >>> grey, colour = without_colour(np.array([[1.0, 0.0, 0.0]]))
    >>> grey, colour
    (array([[0.299, 0.299, 0.299]]), array([[ 0.701, -0.299, -0.299]]))
    """
    xp = namespace(x)
    pixels = xp.reshape(x, (x.shape[0], -1, len(LUMINANCE)))  # (N, H W, 3)
    luminance = sum(share * pixels[:, :, c : c + 1] for c, share in enumerate(LUMINANCE))  # (N, H W, 1)
    grey = xp.reshape(xp.broadcast_to(luminance, pixels.shape), x.shape)
    return grey, x - grey
