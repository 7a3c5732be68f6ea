"""refcl's losses under PyTorch's autograd: the value alone, and refcl's own gradients flow on from it.

In:  tensors, on the CPU or on a GPU, and the settings of the function of the same name in ``refcl``.
Out: the loss, a tensor with a gradient.

>>> import torch
>>> import refcl.torch
>>> query = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
>>> temperature = torch.tensor(0.5, requires_grad=True)
>>> loss = refcl.torch.info_nce(query, torch.tensor([[1.0, 0.5], [0.5, 1.0]]), temperature)
>>> loss.backward()
>>> tuple(query.grad.shape), temperature.grad > 0
((2, 2), tensor(True))

Where the loss is one number, one pass makes it and its gradients, and ``backward`` only scales them; with
``reduction="none"`` the gradients are made once the upstream gradient is there. Large inputs go strip by strip as they
do in ``refcl``: through NumPy on the memory of a CPU's tensors, through CuPy, where it is installed, on a GPU's.

Second derivatives (``create_graph=True``, ``torch.func.hessian``) are there for ``softmax_contrastive``, ``info_nce``,
``nt_xent`` and ``clip`` of one positive, in what they then take; of other losses, and third ones, they raise a
NotImplementedError.
Tensors in half precision, as ``torch.autocast`` makes them, are computed in float32, and so is everything inside a
region of autocast; the gradients come back in the tensors' own dtype.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, NamedTuple

import torch
from torch._C._functorch import TransformType
from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters

from refcl import losses
from refcl.core.pair import AnyPair, P, Pair, value_signature
from refcl.losses.second_order import SECOND_ORDER, lacking


class _Slot(NamedTuple):
    """Stands for a tensor, which autograd wants by itself."""

    number: int


@dataclass(frozen=True, eq=False)
class _Asked:
    """A call without its tensors: no tuple, which PyTorch's transforms would look into."""

    pair: AnyPair
    inputs: tuple[Any, ...]  # slots, numbers, and tuples of them
    settings: dict[str, Any]
    count: int  # of its tensors
    flowing: tuple[int, ...]  # the slots that a gradient comes back for, in order

    def answered(self, tensors: Any, upstream: Any = None) -> tuple[Any, list[Any]]:
        """Return the value, and the gradients of the tensors that get one."""
        inputs, settings = _filled(self.inputs, tensors), _filled(self.settings, tensors)
        with _full_precision(tensors):
            value, grads = self.pair(*inputs, **settings, upstream=upstream)
        return value, _at_slots(self.inputs, tuple(grads))


def _under_autograd(pair: Pair[P, Any, Any]) -> Callable[P, Any]:
    """Return the loss alone, as a function that autograd sees through."""

    def loss(*inputs: Any, **settings: Any) -> Any:
        if "upstream" in settings:
            raise TypeError(f"refcl.torch.{pair.__name__}: there is no argument upstream; autograd passes it.")
        given = pair.bind(*inputs, **settings)
        tensors: list[Any] = []
        lifted = tuple([_lifted(given.pop(name), tensors) for name in pair.arguments])
        flowing = tuple(range(len(tensors)))
        rest = {name: _lifted(value, tensors) for name, value in given.items()}
        if not tensors:
            raise TypeError(f"refcl.torch.{pair.__name__}: expected tensors of PyTorch; for other arrays call refcl.")
        return _Loss.apply(_Asked(pair, lifted, rest, len(tensors), flowing), *tensors)[0]

    update_wrapper(loss, pair.__wrapped__)
    loss.__module__ = __name__
    loss.__annotations__ = {}
    loss.__signature__ = value_signature(pair)  # type: ignore[attr-defined]
    loss.__doc__ = (
        f"`refcl.{pair.__name__}` of PyTorch's tensors under autograd: its arguments but ``upstream``, its value "
        "alone.\n\nSee `refcl.torch` for second derivatives and half precision."
    )
    # torch.compile takes a loss for one operation: it traces the tensors that walk through it, not refcl's Python.
    return torch.compiler.allow_in_graph(loss)  # type: ignore[no-any-return]


def _lifted(tree: Any, tensors: list[Any]) -> Any:
    """Return a tree with a slot in each tensor's place; half precision becomes float32, which autograd turns back."""
    if isinstance(tree, tuple):
        return tuple([_lifted(branch, tensors) for branch in tree])
    if not isinstance(tree, torch.Tensor):
        return tree
    tensors.append(tree.float() if tree.dtype in (torch.float16, torch.bfloat16) else tree)
    return _Slot(len(tensors) - 1)


def _filled(tree: Any, tensors: Any) -> Any:
    """Return a tree with the tensors back in their slots."""
    if isinstance(tree, _Slot):
        return tensors[tree.number]
    if isinstance(tree, dict):
        return {name: _filled(branch, tensors) for name, branch in tree.items()}
    return tuple([_filled(branch, tensors) for branch in tree]) if isinstance(tree, tuple) else tree


def _at_slots(tree: Any, grads: Any) -> list[Any]:
    """Return those gradients whose argument was a tensor."""
    if isinstance(tree, _Slot):
        return [grads]
    if not isinstance(tree, tuple):
        return []
    return [grad for branch, part in zip(tree, grads, strict=True) for grad in _at_slots(branch, part)]


def _full_precision(tensors: Any) -> Any:
    """Return a region without autocast, whose matrix products would be in half precision."""
    return torch.autocast(tensors[0].device.type, enabled=False)


class _Loss(torch.autograd.Function):
    """The value, and its gradients where it is one number: these are no outputs to anyone but the backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(asked: _Asked, *tensors: Any) -> Any:
        value, grads = asked.answered(tensors)
        return (value, *grads) if value.ndim == 0 else (value,)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.asked, *tensors = inputs
        _, *grads = output
        ctx.mark_non_differentiable(*grads)
        ctx.save_for_backward(*tensors, *grads)
        ctx.save_for_forward(*tensors, *grads)

    @staticmethod
    def backward(ctx: Any, dvalue: Any, *_: Any) -> Any:
        grads = _Gradients.apply(ctx.asked, dvalue, *ctx.saved_tensors)
        return None, *_spread(ctx.asked, grads)

    @staticmethod
    def jvp(ctx: Any, _: Any, *moves: Any) -> Any:
        _once_forward(ctx.asked)
        asked, saved = ctx.asked, ctx.saved_tensors
        tensors, grads = saved[: asked.count], saved[asked.count :]
        if not grads:
            raise NotImplementedError(
                f'refcl.torch.{asked.pair.__name__}: forward mode goes with reduction "mean" or "sum" only.'
            )
        one = torch.ones_like(grads[0].sum())
        slopes = _Gradients.apply(asked, one, *tensors, *grads)
        total = sum(
            (slope * moves[slot]).sum()
            for slot, slope in zip(asked.flowing, slopes, strict=True)
            if moves[slot] is not None
        )
        return total, *[None] * len(grads)


class _Gradients(torch.autograd.Function):
    """The gradients for an upstream gradient: a function of its own, whose own derivative is the second order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(asked: _Asked, dvalue: Any, *tensors_and_grads: Any) -> Any:
        tensors, grads = tensors_and_grads[: asked.count], tensors_and_grads[asked.count :]
        if grads:
            return tuple([grad * dvalue for grad in grads])
        return tuple(asked.answered(tensors, upstream=dvalue)[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.asked, dvalue, *tensors_and_grads = inputs
        tensors = tensors_and_grads[: ctx.asked.count]
        ctx.unused = len(tensors_and_grads) - len(tensors)
        ctx.save_for_backward(dvalue, *tensors)
        ctx.save_for_forward(dvalue, *tensors)

    @staticmethod
    def backward(ctx: Any, *moves: Any) -> Any:
        # The Hessian is symmetric: what the gradients' own gradients send back is how they move along them.
        dvalue, *tensors = ctx.saved_tensors
        ddvalue, *grads = _Moved.apply(ctx.asked, len(moves), dvalue, None, *moves, *tensors)
        return None, ddvalue, *_spread(ctx.asked, grads), *[None] * ctx.unused

    @staticmethod
    def jvp(ctx: Any, _: Any, dvalue_move: Any, *moves: Any) -> Any:
        _once_forward(ctx.asked)
        dvalue, *tensors = ctx.saved_tensors
        along = [torch.zeros_like(tensors[slot]) if moves[slot] is None else moves[slot] for slot in ctx.asked.flowing]
        _, *grads = _Moved.apply(ctx.asked, len(along), dvalue, dvalue_move, *along, *tensors)
        return tuple(grads)


class _Moved(torch.autograd.Function):
    """How the value and its gradients move along a direction; of that, nobody has derived a gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(asked: _Asked, count: int, dvalue: Any, dvalue_move: Any, *moves_and_tensors: Any) -> Any:
        moves, tensors = moves_and_tensors[:count], moves_and_tensors[count:]
        if why := lacking(asked.pair.__name__, asked.inputs, asked.settings):
            raise NotImplementedError(f"refcl.torch.{asked.pair.__name__}: {why}")
        inputs, settings = _filled(asked.inputs, tensors), _filled(asked.settings, tensors)
        along = dict(zip(asked.flowing, moves, strict=True))
        directions = tuple([along[x.number] if isinstance(x, _Slot) else None for x in asked.inputs])
        settings.pop("tile", None)
        with _full_precision(tensors):
            value, grads = SECOND_ORDER[asked.pair.__name__](inputs, directions, dvalue, dvalue_move, **settings)
        return value, *_at_slots(asked.inputs, grads)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.name = inputs[0].pair.__name__

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(f"refcl.torch.{ctx.name}: there is no third derivative of it.")

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError(f"refcl.torch.{ctx.name}: there is no third derivative of it.")


def _once_forward(asked: _Asked) -> None:
    """Refuse forward mode over forward mode, where PyTorch takes what a function's ``jvp`` returns for a constant."""
    if sum(level.key() == TransformType.Jvp for level in retrieve_all_functorch_interpreters()) > 1:
        raise NotImplementedError(
            f"refcl.torch.{asked.pair.__name__}: forward mode over forward mode would lose terms in PyTorch; take "
            "torch.func.hessian, or jacfwd of jacrev."
        )


def _spread(asked: _Asked, grads: Any) -> list[Any]:
    """Return one gradient for each of a call's tensors, None for those that get none."""
    at = dict(zip(asked.flowing, grads, strict=True))
    return [at.get(slot) for slot in range(asked.count)]


align_uniform = _under_autograd(losses.align_uniform)
clip = _under_autograd(losses.clip)
cmc = _under_autograd(losses.cmc)
cpc = _under_autograd(losses.cpc)
dcl = _under_autograd(losses.dcl)
dclw = _under_autograd(losses.dclw)
debiased = _under_autograd(losses.debiased)
decoupled_contrastive = _under_autograd(losses.decoupled_contrastive)
fixed_entropy = _under_autograd(losses.fixed_entropy)
fixed_entropy_contrastive = _under_autograd(losses.fixed_entropy_contrastive)
hard_info_nce = _under_autograd(losses.hard_info_nce)
hard_simple_contrastive = _under_autograd(losses.hard_simple_contrastive)
hard_simple_loss = _under_autograd(losses.hard_simple_loss)
hard_softmax_contrastive = _under_autograd(losses.hard_softmax_contrastive)
hcl = _under_autograd(losses.hcl)
info_nce = _under_autograd(losses.info_nce)
inst_disc = _under_autograd(losses.inst_disc)
macl = _under_autograd(losses.macl)
moco = _under_autograd(losses.moco)
model_aware_contrastive = _under_autograd(losses.model_aware_contrastive)
multi_positive = _under_autograd(losses.multi_positive)
nce = _under_autograd(losses.nce)
nt_xent = _under_autograd(losses.nt_xent)
pair_contrastive = _under_autograd(losses.pair_contrastive)
per_anchor_contrastive = _under_autograd(losses.per_anchor_contrastive)
reweighted_contrastive = _under_autograd(losses.reweighted_contrastive)
semi_hard_triplet = _under_autograd(losses.semi_hard_triplet)
sig_lip = _under_autograd(losses.sig_lip)
simple_contrastive = _under_autograd(losses.simple_contrastive)
simple_loss = _under_autograd(losses.simple_loss)
softmax_contrastive = _under_autograd(losses.softmax_contrastive)
sup_con = _under_autograd(losses.sup_con)
supervised_contrastive = _under_autograd(losses.supervised_contrastive)
triplet = _under_autograd(losses.triplet)
triplet_margin = _under_autograd(losses.triplet_margin)
weighted_decoupled_contrastive = _under_autograd(losses.weighted_decoupled_contrastive)

__all__ = [name for name in losses.__all__ if name in globals()]
