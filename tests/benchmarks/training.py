"""One training step, in refcl's pieces, in PyTorch's and in bare NumPy.

In:  nothing but a seed: an MLP 64-256-256-32 with batch norm, a batch of 128, a memory bank of 1257 entries.
Out: for each a call without arguments that takes a step of Adam and returns the loss before it.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from contenders import TEMPERATURE, Call

WIDTHS, BATCH, BANK, RATE = (64, 256, 256, 32), 128, 1257, 2e-3


def start() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return a batch (B, F), which samples it holds (B,), the bank (N, D) and the weights, each (in, out)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, WIDTHS[0]), dtype=np.float32)
    bank = rng.standard_normal((BANK, WIDTHS[-1]), dtype=np.float32)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    weights = [
        rng.standard_normal((before, after), dtype=np.float32) * np.float32((2 / before) ** 0.5)
        for before, after in pairwise(WIDTHS)
    ]
    return x, rng.permutation(BANK)[:BATCH], bank, weights


def prepare_refcl() -> Call:
    """The step that `refcl.experiment.train` takes."""
    from refcl import inst_disc
    from refcl.experiment.keys import Bank, bank_candidates, updated_bank
    from refcl.experiment.optim import adam, start_adam
    from refcl.walk.encoder import he_init, initial_running, mlp, updated_running
    from refcl.walk.sphere import l2_normalize

    x, index, entries, weights = start()
    layers = he_init(np.random.default_rng(0), WIDTHS, batch_norm=True, dtype="float32")
    params = tuple((weight, *layer[1:]) for weight, layer in zip(weights, layers, strict=True))
    state: Any = (params, initial_running(params), start_adam(params), Bank(entries))

    def call() -> tuple[Any, ...]:
        nonlocal state
        params, running, moments, bank = state
        h, cache = mlp.forward(x, params)
        z, on_sphere = l2_normalize.forward(h)
        entries, own, _ = bank_candidates(bank, index)
        value, grads = inst_disc(z, TEMPERATURE, bank=entries, index=own, normalize=False)
        bank = updated_bank(bank, z, index)
        dh = l2_normalize.backward(grads.dquery, on_sphere)
        _, dparams = mlp.backward(dh, cache, to_input=False)
        params, moments = adam(params, dparams, moments, rate=RATE)
        state = params, updated_running(cache, running), moments, bank
        return (value,)

    return call


def prepare_eager() -> Call:
    """The same step in PyTorch, as its users write it."""
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy, normalize

    x, index, bank = (torch.from_numpy(array) for array in start()[:3])
    layers: list[nn.Module] = []
    for weight in start()[3]:
        linear = nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight.T))
            linear.bias.zero_()
        layers += [linear, nn.BatchNorm1d(weight.shape[1]), nn.ReLU()]
    encoder = nn.Sequential(*layers[:-2])
    optimizer = torch.optim.Adam(encoder.parameters(), lr=RATE)

    def call() -> tuple[Any, ...]:
        z = normalize(encoder(x), dim=1)
        value = cross_entropy(z @ bank.T / TEMPERATURE, index)
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
        with torch.no_grad():
            bank[index] = normalize(0.5 * bank[index] + 0.5 * z, dim=1)
        return (value.detach(),)

    return call


def prepare_bare() -> Call:
    """The same step in bare NumPy, everything in place."""
    import bare

    call: Call = bare.prepare_step(*start(), TEMPERATURE, RATE)
    return call


PREPARE = {"refcl": prepare_refcl, "eager": prepare_eager, "bare": prepare_bare}
