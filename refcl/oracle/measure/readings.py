"""What may be read in the place of a similarity.

In:  similarities s.
Out: what is said, ℓ(s) and its slope ℓ'(s).
"""

import numpy as np

READINGS = (
    ("the absolute value |s| (its sign has no effect)", np.abs, np.sign),
    ("the square s² (its sign has no effect)", lambda s: s * s, lambda s: 2 * s),
    ("max(s, 0): negative similarities are clipped at 0 (ReLU)", lambda s: np.maximum(s, 0), lambda s: (s > 0) * 1.0),
    (
        "-√(2 - 2s), the negative Euclidean distance, not squared",
        lambda s: -np.sqrt(2 - 2 * s),
        lambda s: 1 / np.sqrt(2 - 2 * s),
    ),
    ("-(2 - 2s), the negative squared distance", lambda s: 2 * s - 2, lambda s: np.full_like(s, 2.0)),
    (
        "√(2 - 2s), the Euclidean distance, with a positive sign",
        lambda s: np.sqrt(2 - 2 * s),
        lambda s: -1 / np.sqrt(2 - 2 * s),
    ),
    (
        "the distance 1 - s, its sign turned: similar pairs are pushed apart",
        lambda s: 1 - s,
        lambda s: np.full_like(s, -1.0),
    ),
    ("(1 + s)/2 (or s/2: a constant cancels in a softmax)", lambda s: (1 + s) / 2, lambda s: np.full_like(s, 0.5)),
    ("1 - arccos(s)/π, the angle", lambda s: 1 - np.arccos(s) / np.pi, lambda s: 1 / (np.pi * np.sqrt(1 - s * s))),
    (
        "1 - 2 arccos(s)/π, the angle",
        lambda s: 1 - 2 * np.arccos(s) / np.pi,
        lambda s: 2 / (np.pi * np.sqrt(1 - s * s)),
    ),
    ("-arccos(s), the angle", lambda s: -np.arccos(s), lambda s: 1 / np.sqrt(1 - s * s)),
    ("exp(s)", np.exp, np.exp),
    (
        "-log(1 + d²), d² = 2 - 2s, Student's t kernel",
        lambda s: -np.log1p(2 - 2 * s),
        lambda s: 2 / (3 - 2 * s),
    ),
    ("1/(1 + d²), d² = 2 - 2s, Student's t kernel", lambda s: 1 / (3 - 2 * s), lambda s: 2 / (3 - 2 * s) ** 2),
    ("(1 + s)², a polynomial kernel", lambda s: (1 + s) ** 2, lambda s: 2 * (1 + s)),
    ("softplus(s)", lambda s: np.logaddexp(0, s), lambda s: 1 / (1 + np.exp(-s))),
    ("s³", lambda s: s**3, lambda s: 3 * s * s),
    ("tanh(s)", np.tanh, lambda s: 1 - np.tanh(s) ** 2),
    ("a sigmoid of s", lambda s: 1 / (1 + np.exp(-s)), lambda s: np.exp(-s) / (1 + np.exp(-s)) ** 2),
)
