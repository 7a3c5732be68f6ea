"""Train and probe in thirty lines
===============================

An encoder learns the digits without labels.

Two views of each image go through one encoder, InfoNCE pulls them together, Adam follows its gradient. Before and
after, five labels a class and the nearest neighbour tell how much of the classes the embedding holds.

From a shell::

    python examples/train_and_probe.py
    python examples/train_and_probe.py --epochs 100 --temperature 1
"""

# sphinx_gallery_thumbnail_path = 'gallery_pictures/train_and_probe.png'

import argparse

import numpy as np
from threadpoolctl import threadpool_limits

from refcl import info_nce
from refcl.experiment.data import load
from refcl.experiment.optim import adam, start_adam
from refcl.experiment.probe import few_label_accuracy, linear_accuracy
from refcl.experiment.views import view
from refcl.metrics import uniformity
from refcl.walk.encoder import he_init, initial_running, mlp, updated_running
from refcl.walk.sphere import l2_normalize


def embed(x, params, running):
    h, _ = mlp.forward(x, params, training=False, running=running)
    return l2_normalize.forward(h)[0].astype(np.float64)


def report(name, digits, params, running):
    known, new = embed(digits.training.x, params, running), embed(digits.held_out.x, params, running)
    labels, truth = digits.training.y, digits.held_out.y
    few = few_label_accuracy(known, labels, new, truth, seed=0)
    linear = linear_accuracy(known, labels, new, truth)
    spread, _ = uniformity(new)
    print(f"{name:<10} few labels {few:.1%}, linear classifier {linear:.1%}, uniformity {-spread:.2f}")


@threadpool_limits.wrap(limits=1, user_api="blas")  # products this small are done before a second thread wakes
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=256)
    options = parser.parse_args(argv)

    digits, rng = load(), np.random.default_rng(0)
    x = digits.training.x  # (1257, 64) float32
    params = he_init(rng, (x.shape[1], options.width, options.width, 32), batch_norm=True, dtype="float32")
    running, state = initial_running(params), start_adam(params)
    report("untrained", digits, params, running)

    for _ in range(options.epochs):
        for batch in np.split(rng.permutation(len(x)), range(options.batch, len(x), options.batch))[:-1]:
            views = [view(x[batch], rng, image=digits.image, blank=digits.blank) for _ in range(2)]
            h, cache = mlp.forward(np.concatenate(views), params)  # (2B, 32)
            query, key = np.split(h, 2)
            _, grads = info_nce(query, key, options.temperature)
            _, dparams = mlp.backward(np.concatenate([grads.dquery, grads.dkey]), cache)
            params, state = adam(params, dparams, state, rate=1e-3)
            running = updated_running(cache, running)

    report("trained", digits, params, running)


if __name__ == "__main__":
    main()
