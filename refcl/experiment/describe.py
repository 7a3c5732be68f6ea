"""What would be run.

In:  data, a plan and its settings.  Out: lines for a person, and a picture of the views.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from refcl.experiment.data import Data
from refcl.experiment.objectives import OBJECTIVES, Run
from refcl.experiment.plots.look import save, style
from refcl.experiment.plots.views import draw_views
from refcl.experiment.train import Settings

VIEWS = "views.png"
MIB = 2**20


def memory_of(data: Data, settings: Settings) -> int:
    """Return about how many bytes one job of a study takes at most.

    Parameters
    ----------
    data : Data
        Both parts.
    settings : Settings
        Of the runs.

    Returns
    -------
    int
        Python and its libraries; the samples, as they are kept and once as they are loaded; the batch against its
        candidates; strips of similarities while it is measured. Nothing grows with the square of the samples.
    """
    samples = data.training.y.size + data.held_out.y.size
    features = data.training.x.shape[1]
    candidates = data.training.y.size if settings.keys == "bank" else settings.batch + settings.queue
    widest = max(features, *settings.hidden, settings.dimension)
    return int(
        180 * MIB
        + samples * features * 4  # standardised
        + samples * features * 8  # as a file may hold them, while it is read
        + data.training.y.size * (features + 6 * settings.dimension) * 4  # views of all, and their embeddings
        + settings.batch * candidates * 4 * 8  # similarities, and what is made of them
        + 2048 * widest * 4 * 12  # a strip of samples on its way through the encoder
        + 512 * data.training.y.size * 8 * 4  # a strip of similarities
    )


def describe_study(data: Data, runs: Sequence[Run], settings: Settings, folder: Path) -> str:
    """Say what a study would do, and draw what its encoder would see.

    Parameters
    ----------
    data : Data
        Both parts.
    runs : sequence of Run
        The plan.
    settings : Settings
        Of the runs.
    folder : pathlib.Path
        Where ``views.png`` goes.

    Returns
    -------
    str
        Lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        picture = save(draw_views(data, settings.views), folder / VIEWS)
    widths = " → ".join(map(str, (data.training.x.shape[1], *settings.hidden, settings.dimension)))
    steps = data.training.y.size // settings.batch
    by_loss = Counter(run.loss for run in runs)
    temperatures = {
        loss: sorted({run.temperature for run in runs if run.loss == loss and run.temperature is not None})
        for loss in by_loss
    }
    strength = ", ".join(f"{name} {value:g}" for name, value in settings.views._asdict().items())
    rows = [
        ("data", data.said),
        ("encoder", f"{widths}, batch norm and relu between"),
        ("views", strength if data.image is not None else f"{strength} (no pictures: noise and dropout alone)"),
        ("keys", settings.keys),
        (
            "training",
            f"{settings.epochs} epochs of {steps} steps of {settings.batch} samples, {settings.optimizer}, "
            f"rate {settings.learning_rate:g}",
        ),
        *(
            (
                "runs" if k == 0 else "",
                f"{count} of {loss} ({OBJECTIVES[loss].label})"
                + (f" at τ = {', '.join(f'{t:g}' for t in temperatures[loss])}" if temperatures[loss] else ""),
            )
            for k, (loss, count) in enumerate(by_loss.items())
        ),
        ("seeds", ", ".join(map(str, sorted({run.seed for run in runs})))),
        ("memory", f"about {memory_of(data, settings) / MIB:.0f} MiB a job"),
        ("picture", str(picture)),
    ]
    return "\n".join(f"{name:<10}{text}" for name, text in rows)
