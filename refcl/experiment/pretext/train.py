"""Data -> an encoder trained on a pretext task.

In:  the training part, a task and the settings of the study.
Out: the encoder, which started where it starts under every loss; the head that answered is gone.
"""

from collections.abc import Callable
from typing import TypeAlias

from refcl.core.arrays import Array
from refcl.experiment import optim
from refcl.experiment.data import Data
from refcl.experiment.device import generator_beside
from refcl.experiment.keys import Params
from refcl.experiment.objectives import Run
from refcl.experiment.pretext.heads import side_by_side
from refcl.experiment.pretext.tasks import TASKS, Question, Task
from refcl.experiment.seeding import generator
from refcl.experiment.train import Chosen, Model, Send, Settings, descend, start_model
from refcl.walk.encoder import he_init, mlp, updated_running
from refcl.walk.layers import Statistics

Running: TypeAlias = tuple[Statistics, ...]
Both: TypeAlias = tuple[Params, Params]  # of the encoder and of the head


def train_pretext(data: Data, run: Run, settings: Settings, send: Send, tick: Callable[[int], None]) -> Model:
    """Train an encoder on a pretext task.

    Parameters
    ----------
    data : Data
        Read here: the training part, which must be pictures.
    run : Run
        The task, as its ``loss``, and the seed.
    settings : Settings
        Everything else; ``keys`` and ``queue`` are not looked at.
    send : callable
        Moves a NumPy array to the device.
    tick : callable
        Called with the number of finished epochs after each.

    Returns
    -------
    Model
        Depends on the arguments only.

    Raises
    ------
    StudyError
        Where the samples are no pictures, or none that the task can use; before anything is trained.
    """
    task = TASKS[run.loss](data, settings.views, send)
    x = send(data.training.x)
    model = start_model(run.seed, x.shape[1], settings, send)
    head = start_head(run.seed, task, settings, send)
    changes = generator_beside(run.seed, "views", like=x)

    def gradients(params: Both, running: Running, sample: Array, chosen: Chosen) -> tuple[Both, Running]:
        return task_gradients(params, running, task, task.ask(sample, changes))

    (params, _), running = descend(x, (model.params, head), model.running, gradients, run.seed, settings, tick)
    return Model(params, running)


def start_head(seed: int, task: Task, settings: Settings, send: Send) -> Params:
    """Return the untrained head of a seed: a linear layer from a sample's representations to the outputs, or two."""
    widths = (task.patches * settings.dimension, *task.hidden, task.outputs)
    head: Params = optim.tree_map(send, he_init(generator(seed, "head"), widths, batch_norm=True, dtype="float32"))
    return head


def task_gradients(params: Both, running: Running, task: Task, question: Question) -> tuple[Both, Running]:
    """Return the gradients of one batch for the encoder and the head, and the running statistics after it."""
    encoder, head = params
    h, encoded = mlp.forward(question.x, encoder)  # (V B, D)
    side, laid = side_by_side.forward(h, patches=task.patches)  # (B, V D)
    outputs, answered = mlp.forward(side, head)  # (B, K)
    _, grads = task.loss(outputs, **question.answer)
    (doutputs,) = grads
    dside, dhead = mlp.backward(doutputs, answered)
    dh = side_by_side.backward(dside, laid)
    _, dencoder = mlp.backward(dh, encoded, to_input=False)
    return (dencoder, dhead), updated_running(encoded, running)
