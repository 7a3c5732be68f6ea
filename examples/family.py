"""The family on the digits: every loss that fits one encoder, in one picture of the dilemma.

Both views of a sample go through the encoder, as in SimCLR: the keys that all of these losses go with. One run each.

    python examples/family.py
    python examples/family.py --losses softmax nt-xent dcl hcl sup-con --temperature 0.1 --out few
"""

import argparse
from pathlib import Path

from refcl.experiment.catalogue import CATALOGUE, SAME
from refcl.experiment.data import load
from refcl.experiment.info import usable_cores
from refcl.experiment.study import plan_runs, run_study
from refcl.experiment.table import format_table
from refcl.experiment.train import Settings

LOSSES = [loss for loss, entry in CATALOGUE.items() if SAME in entry.keys]
HARDEST = 0.0819  # the paper's share of hard negatives on CIFAR-10


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES, metavar="LOSS", help="(default: all)")
    parser.add_argument("--temperature", type=float, default=0.3, help="of the losses that have one (default: 0.3)")
    parser.add_argument("--epochs", type=int, default=100, help="(default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument("--out", type=Path, default=Path("family"), help="a folder (default: family)")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier call stopped")
    options = parser.parse_args(argv)

    runs = plan_runs(options.losses, [options.temperature], HARDEST, [options.seed])
    settings = Settings(keys=SAME, epochs=options.epochs)
    records = run_study(
        load(None), runs, settings, options.out, jobs=usable_cores(), resume=options.resume, progress=True
    )
    print(format_table(records))
    print(f"picture: {options.out / 'dilemma.png'}, report: {options.out / 'report.html'}")


if __name__ == "__main__":
    main()
