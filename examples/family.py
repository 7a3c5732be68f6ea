"""The family on the digits
========================

Every loss that fits one encoder, in one picture of the dilemma.

Both views of a sample go through the encoder, as in SimCLR: the keys that all of these losses go with. Three
seeds each.

From a shell::

    python examples/family.py
    python examples/family.py --losses info_nce nt_xent dcl hcl sup_con --temperature 0.1 --out few
"""

# sphinx_gallery_thumbnail_path = 'gallery_pictures/family.png'

import argparse
from pathlib import Path

from refcl.experiment.data import load
from refcl.experiment.info import usable_cores
from refcl.experiment.keys import SAME
from refcl.experiment.objectives import OBJECTIVES
from refcl.experiment.report.table import format_table
from refcl.experiment.study import plan_runs, run_study
from refcl.experiment.train import Settings

# The softmax with a setting has a page of its own, docs/smoothing.md.
LOSSES = [
    loss for loss, entry in OBJECTIVES.items() if SAME in entry.keys and loss not in ("label_smoothing", "margin")
]
HARDEST = 0.0819  # the paper's share of hard negatives on CIFAR-10


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES, metavar="LOSS", help="(default: all)")
    parser.add_argument("--temperature", type=float, default=0.3, help="of the losses that have one (default: 0.3)")
    parser.add_argument("--epochs", type=int, default=100, help="(default: 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--out", type=Path, default=Path("family"), help="a folder (default: family)")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier call stopped")
    options = parser.parse_args(argv)

    runs = plan_runs(options.losses, [options.temperature], HARDEST, options.seeds)
    settings = Settings(keys=SAME, epochs=options.epochs)
    records = run_study(
        load(None), runs, settings, options.out, jobs=usable_cores(), resume=options.resume, progress=True
    )
    print(format_table(records))
    print(f"picture: {options.out / 'dilemma.png'}, report: {options.out / 'report.html'}")


if __name__ == "__main__":
    main()
