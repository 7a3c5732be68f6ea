"""Train a PyTorch module with refcl's gradients
=============================================

Two views of each digit go through a small ``torch.nn`` module, and `refcl.torch.info_nce` says how near they should be;
its gradient flows on into the module and into a temperature that is learned. The same call on many rows takes memory
O(N D): the matrix of similarities is never whole, neither forward nor backward.

From a shell, with PyTorch and array-api-compat installed::

    python examples/train_in_pytorch.py --rows 16384

On one machine it printed, with its own defaults::

    loss 4.32 -> 2.90, temperature 0.50 -> 0.40
    4096 rows: 24 MiB; the similarities alone would be 64 MiB
"""

# sphinx_gallery_thumbnail_path = 'gallery_pictures/train_in_pytorch.png'

import argparse
from pathlib import Path

from refcl.experiment.data import load

try:
    import torch

    import refcl.torch
except ImportError:  # this page is built where PyTorch need not be
    torch = None

DIMENSION = 64


def trained(steps, *, batch=128, seed=0):
    """Train an encoder of digits; return it, the temperature before and after, and the losses."""
    torch.manual_seed(seed)
    x = torch.from_numpy(load().training.x)  # (N, 64) float32
    encoder = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 32))
    log_temperature = torch.nn.Parameter(torch.tensor(0.5).log())  # its exponential stays positive
    optimizer = torch.optim.Adam([*encoder.parameters(), log_temperature], lr=1e-3)
    start, losses = log_temperature.exp().item(), []
    for _ in range(steps):
        sample = x[torch.randint(x.shape[0], (batch,))]
        query, key = (encoder(sample + 0.4 * torch.randn_like(sample)) for _ in range(2))
        loss = refcl.torch.info_nce(query, key, log_temperature.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return encoder, (start, log_temperature.exp().item()), losses


def most_memory():
    """Return the most that this program has had resident, in MiB; Linux keeps the account."""
    # getrusage would count what its parent had too.
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 2**10


def memory_of_a_call(rows):
    """Return by how much value and gradients of N rows raise the most that was resident, in MiB."""
    query, key = torch.randn(2, rows, DIMENSION)
    query.requires_grad_()
    refcl.torch.info_nce(query[:128], key[:128], 0.1).backward()  # what is set up once
    query.grad, before = None, most_memory()
    refcl.torch.info_nce(query, key, 0.1).backward()
    return most_memory() - before


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rows", type=int, default=4096)
    options = parser.parse_args(argv)
    if torch is None:
        print("PyTorch or array-api-compat is not installed; python -m pip install torch array-api-compat")
        return
    _, (start, end), losses = trained(options.steps)
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}, temperature {start:.2f} -> {end:.2f}")
    if not Path("/proc/self/status").exists():
        print("how much memory a call takes is shown on Linux only")
        return
    taken, matrix = memory_of_a_call(options.rows), options.rows**2 * 4 / 2**20
    print(f"{options.rows} rows: {taken:.0f} MiB; the similarities alone would be {matrix:.0f} MiB")


if __name__ == "__main__":
    main()
