"""Losses of JAX programs and of many ranks, as people hand them over: what works, and what is said where it cannot."""

import functools
from typing import Any

import numpy as np
import pytest

import refcl
from refcl.oracle import check, from_jax, from_module, from_torch, numeric, world

ONE: dict[str, Any] = {"inputs": tuple(np.random.default_rng(0).standard_normal((2, 4, 6))), "only_inputs": True}


def jax_parts() -> Any:
    jax = pytest.importorskip("jax", reason="the adapter is JAX's")
    jnp = jax.numpy

    def unit(x: Any) -> Any:
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    def info_nce(query: Any, key: Any, temperature: Any) -> Any:
        logits = unit(query) @ unit(key).T / temperature
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits))

    return jax, unit, info_nce


# A temperature that is no array.


@pytest.mark.parametrize("how", ["static", "nondiff", "float"])
def test_a_scalar_that_jax_cannot_trace_is_a_number(how: str) -> None:
    jax, _, info_nce = jax_parts()
    if how == "static":
        candidate = jax.jit(info_nce, static_argnames=("temperature",))
    elif how == "nondiff":
        candidate = jax.custom_vjp(info_nce, nondiff_argnums=(2,))
        candidate.defvjp(
            lambda q, k, t: (info_nce(q, k, t), (q, k)),
            lambda t, rows, g: tuple(g * d for d in jax.grad(info_nce, (0, 1))(*rows, t)),
        )
    else:

        def candidate(query: Any, key: Any, temperature: Any) -> Any:
            return info_nce(query, key, float(temperature))

    report = check(from_jax(candidate), "info_nce", **ONE)
    assert report.ok, str(report)
    assert report.gradient_judged
    assert not report.scalar_judged
    assert "is a plain number to it" in str(report)


def test_a_mistake_is_named_where_the_temperature_is_static() -> None:
    jax, _, info_nce = jax_parts()

    @functools.partial(jax.jit, static_argnames=("temperature",))
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        return info_nce(query, jax.lax.stop_gradient(key), temperature)

    assert check(from_jax(candidate), "info_nce", **ONE).verdict == "keys-detached"


# What to type instead.


def test_a_function_of_jax_without_its_adapter() -> None:
    _, _, info_nce = jax_parts()
    for candidate in (info_nce, numeric(info_nce)):
        report = check(candidate, "info_nce", **ONE)
        assert "wrap the function in from_jax" in report.reason
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module; got a function"):
        from_module(info_nce)


@pytest.mark.parametrize("written", ["around", "inside", "numpy"])
def test_code_of_jax_gets_few_shapes_without_its_adapter(written: str) -> None:
    jax, _, info_nce = jax_parts()
    shapes = set()

    def loss(query: Any, key: Any, temperature: Any) -> Any:
        shapes.add(query.shape)
        return info_nce(query, key, temperature)

    def inside(query: Any, key: Any, temperature: Any) -> Any:
        return jax.value_and_grad(loss, (0, 1, 2))(query, key, temperature)

    def counted(query: Any, key: Any, temperature: Any) -> Any:
        shapes.add(query.shape)
        return refcl.info_nce(query, key, temperature)

    candidate = {"around": jax.value_and_grad(loss, (0, 1, 2)), "inside": inside, "numpy": counted}[written]
    assert check(candidate, "info_nce").ok
    assert (len(shapes) <= 5) == (written != "numpy")


def test_who_communicates_is_sent_to_world() -> None:
    jax, _, info_nce = jax_parts()

    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        return jax.lax.pmean(info_nce(query, key, temperature), "devices")

    assert 'framework="jax"' in check(from_jax(candidate), "info_nce").reason


@pytest.mark.parametrize(
    ("loss", "candidate", "said"),
    [
        ("sup_con", lambda z, labels, temperature=0.1: 0.0, "its temperature directly after z: lambda z, temperature"),
        ("info_nce", lambda batch, temperature: 0.0, "lambda query, key, temperature: mine(…)"),
        ("nt_xent", lambda z, labels, temperature: 0.0, "its labels would be given one of a, b"),
        ("triplet_margin", lambda a, p, n, axis=-1, margin=1.0: 0.0, "lambda anchor, positive, negative, margin: mine"),
    ],
)
def test_arguments_in_another_order(loss: str, candidate: Any, said: str) -> None:
    assert said in check(candidate, loss).reason


def test_a_loss_for_each_anchor_is_told_how_to_say_so() -> None:
    report = check(lambda q, k, temperature: refcl.info_nce(q, k, temperature, reduction="none")[0], "info_nce")
    assert report.reason.endswith('If it is the loss of each anchor, say reduction="none".')


# Ranks that are a mapped axis.


def of_a_device(query: Any, key: Any, temperature: Any, *, offset: bool = True, gradient: str = "all") -> Any:
    jax, unit, _ = jax_parts()
    stop, me, n = jax.lax.stop_gradient, jax.lax.axis_index("devices"), len(key)
    keys = jax.lax.all_gather(unit(key), "devices")
    keys = keys if gradient == "all" else stop(keys).at[me].set(unit(key))
    logits = unit(query) @ keys.reshape(-1, key.shape[1]).T / temperature
    positive = jax.numpy.arange(n) + (me * n if offset else 0)
    losses = jax.nn.logsumexp(logits, axis=1) - logits[jax.numpy.arange(n), positive]
    return jax.lax.pmean(losses.mean(), "devices"), {"logits": logits}


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({}, "correct"),
        ({"offset": False}, "rank-offset-missing"),
        ({"gradient": "own"}, "remote-gradients-dropped"),
    ],
)
def test_a_loss_over_a_named_axis(settings: dict[str, Any], verdict: str) -> None:
    pytest.importorskip("jax", reason="its devices are JAX's")
    report = world(functools.partial(of_a_device, **settings), "info_nce", framework="jax", **ONE)
    assert report.verdict == verdict, str(report)
    assert report.scalar_judged
    assert "It returns 2 things" in str(report)


# Ranks that are processes.


def of_a_process(query: Any, key: Any, temperature: Any) -> Any:
    torch = pytest.importorskip("torch", reason="its processes are PyTorch's")
    normalize = torch.nn.functional.normalize
    n, rank, keys = len(query), torch.distributed.get_rank(), [torch.zeros_like(key), torch.zeros_like(key)]
    torch.distributed.all_gather(keys, key.detach())
    keys[rank] = key
    logits = normalize(query) @ normalize(torch.cat(keys)).T / temperature
    return torch.nn.functional.cross_entropy(logits, rank * n + torch.arange(n))


@pytest.mark.filterwarnings("ignore:os.fork")  # where other tests have started JAX, which the ranks do not touch
def test_a_loss_beside_other_things_in_its_processes() -> None:
    pytest.importorskip("torch", reason="its processes are PyTorch's")
    for more in (lambda loss: {"contrastive_loss": loss}, lambda loss: (loss, 0.5), lambda loss: loss):
        report = world(
            from_torch(lambda query, key, temperature, of=more: of(of_a_process(query, key, temperature))),
            "info_nce",
            framework="torch.distributed",
            **ONE,
        )
        assert report.verdict == "remote-gradients-dropped", str(report)
    report = world(lambda query, key, temperature: 1.0, "info_nce", framework="torch.distributed")
    assert "it returned a float, which has no gradient" in report.reason


@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_rank_that_raises_does_not_let_the_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="its processes are PyTorch's")
    from refcl.oracle.candidates import processes

    def raises(query: Any, key: Any, temperature: Any) -> Any:
        if torch.distributed.get_rank():
            raise ValueError("no such rank")
        return of_a_process(query, key, temperature)

    def once_more(query: Any, key: Any, temperature: Any) -> Any:
        for _ in range(1 + torch.distributed.get_rank()):
            loss = of_a_process(query, key, temperature)
        return loss

    monkeypatch.setattr(processes, "FAILED", 0.2)
    report = world(raises, "info_nce", framework="torch.distributed")
    assert report.reason == "rank 1 raised ValueError: no such rank"  # long before its patience ends
    monkeypatch.setattr(processes, "PATIENCE", 1.0)
    report = world(once_more, "info_nce", framework="torch.distributed")
    assert "the ranks do not all reach the same collectives" in report.reason


@pytest.mark.parametrize(
    ("framework", "said"),
    [
        ("numpy", 'world(candidate, …, framework="torch")'),
        ("torch", 'world(candidate, …, framework="torch.distributed")'),
    ],
)
def test_a_framework_that_was_not_said(framework: str, said: str) -> None:
    pytest.importorskip("torch", reason="its functions are PyTorch's")

    def of_a_rank(query: Any, key: Any, comm: Any) -> Any:
        return of_a_process(query / query.norm(), key, 0.2)

    report = world(of_a_rank, "info_nce", framework=framework, temperature=0.2)
    assert said in report.reason


def test_where_the_communicator_goes() -> None:
    report = world(lambda query, key, temperature: 0.0, "info_nce")
    assert "its last argument, temperature, would be given the communicator" in report.reason
    pytest.importorskip("jax", reason="its devices are JAX's")
    report = world(lambda query, key, comm: 0.0, "info_nce", framework="jax", temperature=0.2)
    assert 'it takes comm, which framework="jax" does not hand over' in report.reason


def test_gradients_of_all_ranks_rows_are_too_many() -> None:
    def of_a_rank(query: Any, key: Any, comm: Any) -> Any:
        positive = comm.rank * len(query) + np.arange(len(query))
        return refcl.info_nce(query, np.concatenate(comm.all_gather(key)), 0.2, positive=positive)

    report = world(of_a_rank, "info_nce", temperature=0.2)
    assert "a rank's gradient of key has shape (6, 12); expected (3, 12), of its own rows" in report.reason


def test_neither_positives_nor_masks_are_shifted_by_the_rank() -> None:
    def of_a_rank(a: Any, b: Any, comm: Any) -> Any:
        n, z = len(a), [np.concatenate(comm.all_gather(x)) for x in (a, b)]
        m, i, rows = len(z[0]), np.arange(len(a)), np.concatenate(z)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        mine = np.concatenate([comm.rank * n + i, m + comm.rank * n + i])
        logits = rows[mine] @ rows.T / 0.2
        as_rank_0 = np.concatenate([i, m + i])
        logits[np.arange(2 * n), as_rank_0] = -np.inf
        positive = logits[np.arange(2 * n), np.roll(as_rank_0, n)]
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - positive)

    report = world(of_a_rank, "nt_xent", temperature=0.2)
    assert report.verdict == "rank-offset-missing", str(report)
    assert "each rank masks the row that is itself on rank 0" in str(report)


# What a gradient that is not the value's is made of.


def log_softmax_parts(query: Any, key: Any, temperature: Any) -> Any:
    """The value, ∂L/∂s and what stands around it: rows of length 1, and the way back through their length."""
    rows = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, key)]

    def back(k: int, dz: Any) -> Any:
        x, z = (query, key)[k], rows[k]
        return (dz - np.sum(dz * z, axis=1, keepdims=True) * z) / np.linalg.norm(x, axis=1, keepdims=True)

    value, grads = refcl.softmax_contrastive(rows[0] @ rows[1].T, temperature)
    return value, grads.ds, rows, back


def test_a_matrix_that_stands_transposed_in_a_backward() -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        value, ds, (a, b), back = log_softmax_parts(query, key, temperature)
        return value, (back(0, ds.T @ b), back(1, ds @ a))

    said = str(check(candidate, "info_nce"))
    assert said.count("with ∂L/∂s transposed stands where") == 2


def of_everyone(query: Any, key: Any, comm: Any) -> Any:
    """Everyone's rows on every rank, with the ranks that anchors and candidates live on, and one's own rows."""
    n = len(query)
    rows = [np.concatenate(comm.all_gather(x)) for x in (query, key)]
    rank = np.arange(n * comm.size) // n
    return (*log_softmax_parts(*rows, 0.2), rank, slice(comm.rank * n, (comm.rank + 1) * n))


def test_the_share_of_other_ranks_is_missing_in_both_gradients() -> None:
    def of_a_rank(query: Any, key: Any, comm: Any) -> Any:
        value, ds, (a, b), back, rank, here = of_everyone(query, key, comm)
        ds = np.where(rank[:, None] == rank, ds, 0.0)
        return value, (back(0, ds @ b)[here], back(1, ds.T @ a)[here])

    report = world(of_a_rank, "info_nce", temperature=0.2, whole=True)
    assert "the share of the other ranks' rows counts 0 times" in str(report)


def test_a_share_that_goes_to_another_rank() -> None:
    def of_a_rank(query: Any, key: Any, comm: Any) -> Any:
        value, ds, (a, b), back, rank, here = of_everyone(query, key, comm)
        sent = [(np.where(rank[:, None] == r, ds, 0.0).T @ a).reshape(comm.size, -1, a.shape[1]) for r in (0, 1, 2)]
        sent[0] = sent[0][[0, 2, 1]]  # what rank 0's anchors send to the other two is exchanged
        return value, (back(0, ds @ b)[here], back(1, np.concatenate(sum(sent)))[here])

    said = str(world(of_a_rank, "info_nce", ranks=3, temperature=0.2, whole=True))
    assert "what rank 0's rows send to rank 2, at rank 1, stands where what rank 0's rows send to rank 1" in said


@pytest.mark.parametrize(("averaged", "ok"), [(False, True), (True, False)])
def test_values_add_up_where_gradients_do(averaged: bool, ok: bool) -> None:
    def of_a_rank(query: Any, key: Any, comm: Any) -> Any:
        _, ds, (a, b), back, _, here = of_everyone(query, key, comm)
        share = np.zeros_like(ds)
        share[here] = ds[here]
        mine = refcl.info_nce(a[here], b, 0.2, positive=np.arange(len(a))[here], reduction="sum")[0] / len(a)
        return mine, (back(0, ds @ b)[here], back(1, comm.all_reduce(share).T @ a)[here])

    assert world(of_a_rank, "info_nce", temperature=0.2, averaged=averaged).ok == ok


def test_a_gradient_of_the_temperature_that_every_rank_holds_whole_is_a_factor() -> None:
    def of_a_rank(query: Any, key: Any, temperature: Any, comm: Any) -> Any:
        rows, n = [np.concatenate(comm.all_gather(x)) for x in (query, key)], len(query)
        value, grads = refcl.info_nce(*rows, temperature)
        here = slice(comm.rank * n, (comm.rank + 1) * n)
        return value, (grads.dquery[here], grads.dkey[here], grads.dtemperature)

    report = world(of_a_rank, "info_nce", ranks=3, averaged=False)
    assert report.verdict == "temperature-gradient-wrong"
    assert "it is world size times what it should be" in str(report)


# Numbers that have a reason.


def test_a_mean_over_pairs_of_views_is_a_factor_with_a_name() -> None:
    report = check(lambda views, temperature: refcl.cmc(views, temperature)[0] / 6, "cmc")
    assert report.verdict == "scaled-by-constant"
    assert "1/(V(V-1)), V views" in str(report)


def test_a_class_that_is_counted_with_oneself() -> None:
    def candidate(z: Any, labels: Any) -> Any:
        positives = np.sum(labels[:, None] == labels, axis=1) - 1
        weight = (positives / (positives + 1) / len(z)).astype(z.dtype)
        losses, grads = refcl.sup_con(z, 0.2, labels=labels, reduction="none", upstream=weight)
        return np.sum(losses * weight), (grads.dz,)

    report = check(candidate, "sup_con", temperature=0.2)
    assert "the sum over its P positives is divided by P + 1" in str(report)


def test_a_number_that_is_subtracted_from_one_s_own_logit() -> None:
    def candidate(a: Any, b: Any, temperature: Any) -> Any:
        x, n = np.concatenate([a, b]), len(a)
        length = np.linalg.norm(x, axis=1, keepdims=True)
        z, less = x / length, 10 * np.eye(2 * n, dtype=a.dtype)
        value, grads = refcl.softmax_contrastive(
            z @ z.T - less * temperature, temperature, positive=np.roll(np.arange(2 * n), n)
        )
        dz = (grads.ds + grads.ds.T) @ z
        dx = (dz - np.sum(dz * z, axis=1, keepdims=True) * z) / length
        return value, (dx[:n], dx[n:], grads.dtemperature - np.sum(grads.ds * less))

    report = check(candidate, "nt_xent")
    assert "as where 10 is subtracted from one's own logit" in str(report)


@pytest.mark.slow
def test_pairs_that_count_as_negatives_and_as_positives() -> None:
    def candidate(image: Any, text: Any, log_scale: Any, bias: Any) -> Any:
        """Each block of two rows counts once more as negatives, its positives too."""
        value, grads = refcl.sig_lip(image, text, log_scale, bias)
        n, block = len(image), np.arange(len(image)) // 2
        lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text)]
        a, b = image / lengths[0], text / lengths[1]
        s, scale = a @ b.T, np.exp(log_scale)
        more = (block[:, None] == block) / n
        slope = more / (1 + np.exp(-scale * s - bias))
        back = [scale * slope @ b, scale * slope.T @ a]
        drows = [
            (d - np.sum(d * z, axis=1, keepdims=True) * z) / x for d, z, x in zip(back, (a, b), lengths, strict=True)
        ]
        return value + np.sum(more * np.logaddexp(0, scale * s + bias)), (
            grads.dimage + drows[0],
            grads.dtext + drows[1],
            grads.dlog_scale + np.sum(slope * scale * s),
            grads.dbias + np.sum(slope),
        )

    said = str(check(candidate, "sig_lip"))
    assert "the positives (image i with text i) count as negatives 1 times and as positives 1 times" in said
    assert "count as negatives 2 times and as positives 0 times [image 0 with text 1" in said


@pytest.mark.slow
def test_a_wrong_value_is_explained_where_its_gradient_is_another_s() -> None:
    def candidate(query: Any, key: Any) -> Any:
        """The next row is the positive, and for the last itself: an index that is clamped, which takes its gradient."""
        positive = np.minimum(np.arange(len(query)) + 1, len(query) - 1)
        value, grads = refcl.info_nce(query, key, 0.2, positive=positive)
        return value, (grads.dquery[:, ::-1], grads.dkey)

    said = str(check(candidate, "info_nce", temperature=0.2))
    assert "anchor query 0's positive is key 1, expected key 0" in said
    assert "the gradient dquery is not that of the value" in said
