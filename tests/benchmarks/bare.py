"""The same arithmetic in bare NumPy: in place where it can be, one function, nothing asked of the input.

In:  what the other contenders are given.
Out: for each a call without arguments that computes what theirs does.
What it takes beyond the matrix products is what NumPy's own functions cost; what refcl takes beyond it is the price of
rooms that check, and keep what came in. At large N it is slower: it writes the whole matrix of similarities.
"""

from typing import Any

import numpy as np

np.empty(1 << 24, dtype=np.uint8)  # once freed it teaches glibc to keep what is freed: see refcl.strips.workers


def prepare_loss(loss: str, a: np.ndarray, b: np.ndarray, temperature: float) -> Any:
    """Return the call of InfoNCE or of NT-Xent; gradients of both embeddings and of nothing else."""
    return info_nce(a, b, temperature) if loss == "info_nce" else nt_xent(a, b, temperature)


def info_nce(a: np.ndarray, b: np.ndarray, temperature: float) -> Any:
    n = len(a)
    e = np.empty((n, n), dtype=a.dtype)

    def call() -> tuple[Any, ...]:
        (z, length), (other, other_length) = unit(a), unit(b)
        scaled = z / np.float32(temperature)
        s_pos = np.vecdot(scaled, other)
        np.matmul(scaled, other.T, out=e)
        np.exp(e, out=e)
        np.fill_diagonal(e, 0)
        total = e.sum(axis=1)
        loss, share = softplus(np.log(total) - s_pos, n * temperature)
        dz = e @ other
        dz /= total[:, None]
        dz -= other
        dz *= share[:, None]
        np.fill_diagonal(e, -total)
        dother = e.T @ (z * (share / total)[:, None])
        return loss, off_sphere(dz, z, length), off_sphere(dother, other, other_length)

    return call


def nt_xent(a: np.ndarray, b: np.ndarray, temperature: float) -> Any:
    n, both = len(a), np.concatenate([a, b])
    partner = np.roll(np.arange(2 * n), n)
    row = np.arange(2 * n)
    e, weight = np.empty((2, 2 * n, 2 * n), dtype=a.dtype)

    def call() -> tuple[Any, ...]:
        z, length = unit(both)
        scaled = z / np.float32(temperature)
        s_pos = np.vecdot(scaled, z[partner])
        np.matmul(scaled, z.T, out=e)
        np.exp(e, out=e)
        np.fill_diagonal(e, 0)
        e[row, partner] = 0
        total = e.sum(axis=1)
        loss, share = softplus(np.log(total) - s_pos, 2 * n * temperature)
        push = share / total
        np.multiply(e, np.add(push[:, None], push, out=weight), out=e)
        e[row, partner] = -(share + share[partner])
        dz = off_sphere(e @ z, z, length)
        return loss, dz[:n], dz[n:]

    return call


def unit(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    length = np.sqrt(np.vecdot(x, x))[:, None]
    return x / length, length


def off_sphere(dz: np.ndarray, z: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Turn the gradient of rows of length 1, which is overwritten, into that of rows of any length."""
    dz -= z * np.vecdot(z, dz)[:, None]
    dz /= length
    return dz


def softplus(gap: np.ndarray, count: float) -> tuple[Any, np.ndarray]:
    """Return the mean of log(1 + e^gap) and the slope over a count."""
    q = np.exp(-np.abs(gap))
    loss = np.mean(np.maximum(gap, 0) + np.log1p(q))
    return loss, np.where(gap >= 0, 1, q) / ((1 + q) * np.float32(count))


def prepare_step(
    x: np.ndarray, index: np.ndarray, entries: np.ndarray, weights: list[np.ndarray], temperature: float, rate: float
) -> Any:
    """Return the call that takes one training step: parameters, moments, statistics and bank are overwritten."""
    n, bank = len(x), entries.copy()
    layers = [[weight.copy(), np.zeros_like(weight[0])] for weight in weights]
    for layer in layers[:-1]:
        layer += [np.ones_like(layer[1]), np.zeros_like(layer[1])]
    moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in layer] for layer in layers]
    running = [(np.zeros_like(layer[1]), np.ones_like(layer[1])) for layer in layers[:-1]]
    e = np.empty((n, len(bank)), dtype=x.dtype)
    row, step = np.arange(n), 0

    def call() -> tuple[Any, ...]:
        nonlocal step
        step += 1
        h, kept = x, []
        for depth, (weight, bias, *norm) in enumerate(layers):
            y = h @ weight
            y += bias
            if norm:
                y, after, cache = normalize_and_cut(y, *norm, *running[depth])
                kept.append((h, y, *cache))
                h = after
            else:
                kept.append((h,))
                h = y
        z, length = unit(h)
        loss, dz = against_bank(z)
        dh = off_sphere(dz, z, length)
        moved = bank[index]
        moved += z
        bank[index] = unit(moved)[0]
        for layer, moment, (before, *cache) in zip(layers[::-1], moments[::-1], kept[::-1], strict=True):
            grads = []
            if cache:
                standardized, alive, deviation = cache
                dh *= alive
                dgamma, dbeta = np.sum(dh * standardized, axis=0), np.sum(dh, axis=0)
                standardized *= dgamma / n
                dh -= standardized
                dh -= dbeta / n
                dh *= layer[2] / deviation
                grads = [dgamma, dbeta]
            grads = [before.T @ dh, np.sum(dh, axis=0), *grads]
            dh = dh @ layer[0].T
            for parameter, gradient, (mean, square) in zip(layer, grads, moment, strict=True):
                adam(parameter, gradient, mean, square, rate, step)
        return (loss,)

    def against_bank(z: np.ndarray) -> tuple[Any, np.ndarray]:
        scaled = z / np.float32(temperature)
        own = bank[index]
        s_pos = np.vecdot(scaled, own)
        np.matmul(scaled, bank.T, out=e)
        np.exp(e, out=e)
        e[row, index] = 0
        total = e.sum(axis=1)
        loss, share = softplus(np.log(total) - s_pos, n * temperature)
        dz = e @ bank
        dz /= total[:, None]
        dz -= own
        dz *= share[:, None]
        return loss, dz

    return call


def normalize_and_cut(
    y: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Batch norm and relu; ``y`` is standardized in place, and the running statistics follow."""
    n = len(y)
    centre = np.mean(y, axis=0)
    y -= centre
    spread = np.mean(y * y, axis=0)
    deviation = np.sqrt(spread + np.float32(1e-5))
    y /= deviation
    after = gamma * y
    after += beta
    alive = after > 0
    after *= alive
    for running, now in ((mean, centre), (variance, spread * np.float32(n / (n - 1)))):
        running *= np.float32(0.9)
        running += np.float32(0.1) * now
    return y, after, (alive, deviation)


def adam(
    parameter: np.ndarray, gradient: np.ndarray, mean: np.ndarray, square: np.ndarray, rate: float, step: int
) -> None:
    """Overwrite a parameter and its moments, and the gradient as scratch."""
    root = (1 - 0.999**step) ** 0.5
    mean *= np.float32(0.9)
    mean += np.float32(0.1) * gradient
    gradient *= gradient
    gradient *= np.float32(0.001)
    square *= np.float32(0.999)
    square += gradient
    np.sqrt(square, out=gradient)
    gradient += np.float32(1e-8 * root)
    np.divide(mean, gradient, out=gradient)
    gradient *= np.float32(rate * root / (1 - 0.9**step))
    parameter -= gradient
