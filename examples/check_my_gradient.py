"""Check my gradient
=================

Somebody's own InfoNCE and its gradient, held against differences and against refcl.

Two questions, and both are needed. Does the gradient belong to the value? Fourth-order central differences of the value
tell. Is the value the loss that was meant? Differences cannot know: a wrong loss with its own right gradient passes.

From a shell::

    python examples/check_my_gradient.py
"""

# sphinx_gallery_thumbnail_path = 'gallery_pictures/check_my_gradient.png'

import argparse

import numpy as np

import refcl

TOLERANCE = 1e-8  # differences are good to about 1e-10 here; the slips are off by half and more
VERDICTS = {  # (refcl agrees, differences agree)
    (True, True): "right",
    (False, True): "another loss, and its gradient fits it",
    (False, False): "the gradient does not fit the value",
    (True, False): "differences too coarse: lower the step",
}
SLIPS = {
    "as it should be": "",
    "τ missing on the positive": "positive without temperature",
    "backward forgets the normalization": "no projection",
}


def my_info_nce(query, key, temperature, slip=""):
    """Return InfoNCE and its gradients as one might write them, with a slip on request."""
    query_length = np.linalg.norm(query, axis=1, keepdims=True)
    key_length = np.linalg.norm(key, axis=1, keepdims=True)
    z, c = query / query_length, key / key_length  # (N, D), (M, D)
    s, n = z @ c.T, len(query)  # (N, M)
    p = np.exp(s / temperature)
    p /= p.sum(axis=1, keepdims=True)
    own = np.eye(n, len(key))  # (N, M) 1 at the positive
    on_positive = 1.0 if slip == "positive without temperature" else 1.0 / temperature
    s_pos = np.diag(s)
    loss = np.mean(np.log(np.exp(s / temperature).sum(axis=1)) - on_positive * s_pos)

    ds = (p / temperature - on_positive * own) / n
    dz, dc = ds @ c, ds.T @ z
    dtemperature = -np.sum(p * s) / (n * temperature**2)
    if slip != "positive without temperature":
        dtemperature += np.sum(s_pos) / (n * temperature**2)
    if slip == "no projection":
        return loss, (dz, dc, dtemperature)
    dquery = (dz - z * np.sum(z * dz, axis=1, keepdims=True)) / query_length
    dkey = (dc - c * np.sum(c * dc, axis=1, keepdims=True)) / key_length
    return loss, (dquery, dkey, dtemperature)


def differences(function, inputs, step):
    """Return the gradient of a function by fourth-order central differences, one array per input."""
    gradients = []
    for i, x in enumerate(inputs):
        gradient = np.zeros(np.shape(x))
        for entry in np.ndindex(gradient.shape):

            def moved(by, i=i, x=x, entry=entry):
                there = np.array(x, dtype=float)
                there[entry] += by
                return function(*inputs[:i], there, *inputs[i + 1 :])

            near, far = moved(step) - moved(-step), moved(2 * step) - moved(-2 * step)
            gradient[entry] = (8 * near - far) / (12 * step)
        gradients.append(gradient)
    return gradients


def distance(found, expected):
    """Return the largest relative error among gradients, each relative to the norm of what was expected."""
    return max(np.linalg.norm(f - e) / np.linalg.norm(e) for f, e in zip(found, expected, strict=True))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    # Not 1, not square, rows of unequal length: many slips are invisible otherwise.
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--anchors", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=7)
    parser.add_argument("--dimension", type=int, default=3)
    options = parser.parse_args(argv)

    rng = np.random.default_rng(0)
    query = rng.standard_normal((options.anchors, options.dimension))
    key = rng.standard_normal((options.candidates, options.dimension))
    inputs = (query, key, options.temperature)
    reference, grads = refcl.info_nce(*inputs)
    grads = grads[: len(inputs)]  # the rest is of what was not passed
    step = min(3e-4, 3e-3 * options.temperature)

    print(f"{'my InfoNCE':<36}{'value off by':>14}{'gradient off by, against':>30}")
    print(f"{'':<36}{'':>14}{'differences':>18}{'refcl':>12}")
    for title, slip in SLIPS.items():
        value, mine = my_info_nce(*inputs, slip)

        def only_value(*moved, slip=slip):
            return my_info_nce(*moved, slip)[0]

        off = abs(value - reference)
        to_differences = distance(mine, differences(only_value, inputs, step))
        to_reference = distance(mine, grads)
        verdict = VERDICTS[max(off, to_reference) < TOLERANCE, to_differences < TOLERANCE]
        print(f"{title:<36}{off:>14.0e}{to_differences:>18.0e}{to_reference:>12.0e}   {verdict}")


if __name__ == "__main__":
    main()
