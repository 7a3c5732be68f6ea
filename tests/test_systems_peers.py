"""The systems against code that is not ours: the canonical formula under PyTorch's autograd, and published losses.

Agreement is to float64 rounding, under the convention that each test names.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import check_near
from cases import rows
from peers import open_clip_loss

import refcl

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

RNG = np.random.default_rng(8)
N, D, M, K = 6, 4, 9, 11
QUERY, KEY, MEMORY = rows(RNG, N, D), rows(RNG, N, D), rows(RNG, M, D)
INDEX, NOISE = RNG.integers(0, M, N), RNG.integers(0, M, (N, K))
RTOL = 1e-12


def autograd(loss: Callable[..., Any], *inputs: Any) -> tuple[float, tuple[Any, ...]]:
    """Return a loss of tensors and its gradients, on the host."""
    tensors = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    value = loss(*tensors)
    value.backward()
    return float(value.detach()), tuple(x.grad.numpy() for x in tensors)


def check_agrees(call: tuple[Any, Any], want: tuple[float, tuple[Any, ...]]) -> None:
    value, grads = call
    flat_grads = tuple(x for d in grads for x in (d if isinstance(d, tuple) else (d,)))
    check_near(value, want[0], rtol=RTOL)
    assert len(flat_grads) == len(want[1])
    for got, expected in zip(flat_grads, want[1], strict=True):
        check_near(got, expected, rtol=RTOL)


def unit(x: Any) -> Any:
    return F.normalize(x, dim=1)


def test_instance_discrimination_is_a_cross_entropy_over_the_bank() -> None:
    bank = unit(torch.tensor(MEMORY))

    def loss(query: Any, temperature: Any) -> Any:
        return F.cross_entropy(unit(query) @ bank.T / temperature, torch.tensor(INDEX))

    check_agrees(refcl.inst_disc(QUERY, 0.2, bank=MEMORY, index=INDEX), autograd(loss, QUERY, 0.2))


@pytest.mark.parametrize("stabilizer", [0.0, 1e-7, 1e-2])
def test_nce_as_its_authors_compute_it(stabilizer: float) -> None:
    """Probabilities over a fixed Z, their ratios to the noise, logarithms of both, over the batch."""
    bank, z = unit(torch.tensor(MEMORY)), 40.0
    columns = torch.tensor(np.concatenate([INDEX[:, None], NOISE], axis=1))

    def loss(query: Any, temperature: Any) -> Any:
        p = torch.exp(torch.einsum("nkd,nd->nk", bank[columns], unit(query)) / temperature) / z
        noise = K / M
        own = torch.log(p[:, 0] / (p[:, 0] + noise + stabilizer))
        drawn = torch.log(noise / (p[:, 1:] + noise + stabilizer))
        return -(own.sum() + drawn.sum()) / N

    call = refcl.nce(QUERY, 0.3, bank=MEMORY, index=INDEX, noise=NOISE, log_normalizer=np.log(z), stabilizer=stabilizer)
    check_agrees(call, autograd(loss, QUERY, 0.3))


def test_nce_s_normalizer_as_its_authors_estimate_it() -> None:
    """The mean of the exponentials of the first batch, times the size of the bank."""
    bank, query = unit(torch.tensor(MEMORY)), unit(torch.tensor(QUERY))
    columns = torch.tensor(np.concatenate([INDEX[:, None], NOISE], axis=1))
    z = torch.exp(torch.einsum("nkd,nd->nk", bank[columns], query) / 0.3).mean() * M
    log_z = refcl.nce_log_normalizer(QUERY, 0.3, bank=MEMORY, index=INDEX, noise=NOISE)
    check_near(log_z, np.log(float(z)), rtol=RTOL)


def test_moco_is_a_cross_entropy_with_label_0() -> None:
    queue = unit(torch.tensor(MEMORY))

    def loss(query: Any, key: Any, temperature: Any) -> Any:
        query, key = unit(query), unit(key)
        logits = torch.cat([(query * key).sum(dim=1, keepdim=True), query @ queue.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(N, dtype=torch.long))

    check_agrees(refcl.moco(QUERY, KEY, 0.2, queue=MEMORY), autograd(loss, QUERY, KEY, 0.2))


@pytest.mark.parametrize("core", [False, True, 2])
def test_cmc_adds_cross_entropies_in_both_directions(core: bool | int, rng: np.random.Generator) -> None:
    views = (QUERY, KEY, rows(rng, N, D))
    pairs = {False: [(0, 1), (0, 2), (1, 2)], True: [(0, 1), (0, 2)], 2: [(2, 0), (2, 1)]}[core]

    def loss(a: Any, b: Any, c: Any, temperature: Any) -> Any:
        z, diagonal = [unit(x) for x in (a, b, c)], torch.arange(N)
        one_way = [(z[i] @ z[j].T / temperature, diagonal) for pair in pairs for i, j in (pair, pair[::-1])]
        return sum(F.cross_entropy(*logits) for logits in one_way)

    check_agrees(refcl.cmc(views, 0.2, core=core), autograd(loss, *views, 0.2))


def test_cpc_is_a_cross_entropy_of_bilinear_forms(rng: np.random.Generator) -> None:
    future, weight = rng.standard_normal((3, M, 5)), rng.standard_normal((3, D, 5)) / D

    def loss(context: Any, future: Any, weight: Any) -> Any:
        scores = torch.einsum("nd,tde,tme->tnm", context, weight, future)
        return F.cross_entropy(scores.flatten(0, 1), torch.arange(N).repeat(3))

    check_agrees(refcl.cpc(QUERY, future, weight), autograd(loss, QUERY, future, weight))


def test_cpc_s_paper_transposes_the_form(rng: np.random.Generator) -> None:
    """z_jᵀ W c_i, with W in the shape of a linear layer from contexts to futures."""
    future, weight = rng.standard_normal((N, 5)), rng.standard_normal((5, D)) / D

    def loss(context: Any, future: Any, weight: Any) -> Any:
        return F.cross_entropy(F.linear(context, weight) @ future.T, torch.arange(N))

    value, grads = refcl.cpc(QUERY, future, weight.T)
    check_agrees((value, (grads.dcontext, grads.dfuture, grads.dweight.T)), autograd(loss, QUERY, future, weight))


def test_sig_lip_is_a_logistic_loss_of_labels_1_and_minus_1() -> None:
    labels = 2 * torch.eye(N, dtype=torch.float64) - 1

    def loss(image: Any, text: Any, log_scale: Any, bias: Any) -> Any:
        logits = unit(image) @ unit(text).T * torch.exp(log_scale) + bias
        return -F.logsigmoid(labels * logits).sum() / N

    check_agrees(refcl.sig_lip(QUERY, KEY, 1.5, -2.5), autograd(loss, QUERY, KEY, 1.5, -2.5))


@pytest.mark.parametrize("log_scale", [-0.25, 0.0, 2.0, float(np.log(100.0)), 4.75])
def test_clip_s_clamp_is_that_of_torch(log_scale: float) -> None:
    """At the bounds too, where the derivative is a matter of convention."""
    bounds = (0.0, float(np.log(100.0)))

    def loss(image: Any, text: Any, log_scale: Any) -> Any:
        logits = torch.exp(torch.clamp(log_scale, *bounds)) * unit(image) @ unit(text).T
        diagonal = torch.arange(N)
        return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2

    check_agrees(refcl.clip(QUERY, KEY, log_scale, clamp=bounds), autograd(loss, QUERY, KEY, log_scale))


def test_nt_xent_with_views_added_is_the_tensorflow_code() -> None:
    """Two cross-entropies, each a mean over N, each with the other view first and the own view masked by −1e9."""

    def loss(a: Any, b: Any, temperature: Any) -> Any:
        a, b, masks = unit(a), unit(b), 1e9 * torch.eye(N, dtype=torch.float64)
        aa, bb, ab = (x @ y.T / temperature for x, y in ((a, a), (b, b), (a, b)))
        diagonal = torch.arange(N)
        loss_a = F.cross_entropy(torch.cat([ab, aa - masks], dim=1), diagonal)
        return loss_a + F.cross_entropy(torch.cat([ab.T, bb - masks], dim=1), diagonal)

    check_agrees(refcl.nt_xent(QUERY, KEY, 0.5, add_views=True), autograd(loss, QUERY, KEY, 0.5))


def test_the_contrastive_loss_of_pairs_under_autograd() -> None:
    same = torch.tensor([True, False] * (N // 2))

    def loss(a: Any, b: Any) -> Any:
        distance = torch.linalg.vector_norm(a - b, dim=1)
        return torch.where(same, distance**2, torch.clamp(3.0 - distance, min=0) ** 2).mean() / 2

    call = refcl.pair_contrastive(QUERY, KEY, same=same.numpy(), margin=3.0)
    check_agrees(call, autograd(loss, QUERY, KEY))


def tensorflow_addons_semi_hard(s: Any, labels: Any, margin: float) -> Any:
    """Return the loss of every ordered pair of one label: TensorFlow Addons' rule, on similarities, by loops.

    The nearest negative further off than the positive, or else the furthest one; the mean over all pairs.
    """
    losses = []
    for i in range(len(s)):
        negatives = [s[i, k] for k in range(len(s)) if labels[k] != labels[i]]
        for j in range(len(s)):
            if j != i and labels[j] == labels[i]:
                further = [x for x in negatives if x < s[i, j]]
                taken = torch.stack(further).max() if further else torch.stack(negatives).min()
                losses.append(torch.clamp(taken - s[i, j] + margin, min=0))
    return torch.stack(losses).mean()


def test_semi_hard_triplets_as_tensorflow_addons_mines_them(rng: np.random.Generator) -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])  # one positive each
    s = rng.uniform(-1, 1, (N, N))
    settings = {
        "positive": np.array([1, 0, 3, 2, 5, 4]),
        "ignore": np.eye(N, dtype=bool),
        "margin": 0.4,
        "otherwise": "easiest",
    }
    want = autograd(lambda s: tensorflow_addons_semi_hard(s, labels, 0.4), s)
    check_agrees(refcl.semi_hard_triplet(s, **settings), want)
    assert refcl.semi_hard_triplet(s, **{**settings, "otherwise": "skip"})[0] < want[0], "no row needs the policy"


def test_open_clip_s_loss() -> None:
    loss = open_clip_loss()
    scale = 4.0

    def clip(image: Any, text: Any) -> Any:
        return loss.ClipLoss()(unit(image), unit(text), scale)

    def sig_lip(image: Any, text: Any) -> Any:
        return loss.SigLipLoss()(unit(image), unit(text), scale, -2.5)

    value, grads = refcl.clip(QUERY, KEY, np.log(scale))
    check_agrees((value, grads[:2]), autograd(clip, QUERY, KEY))
    value, grads = refcl.sig_lip(QUERY, KEY, np.log(scale), -2.5)
    check_agrees((value, grads[:2]), autograd(sig_lip, QUERY, KEY))


def test_pytorch_metric_learning_s_semi_hard_miner() -> None:
    """It keeps all of the band, of which the loss here takes the hardest."""
    miners = pytest.importorskip("pytorch_metric_learning.miners", reason="pytorch-metric-learning is not installed")
    from pytorch_metric_learning.distances import CosineSimilarity

    embeddings, labels = torch.tensor(np.concatenate([QUERY, KEY])), torch.arange(N).repeat(2)
    miner = miners.TripletMarginMiner(margin=0.3, type_of_triplets="semihard", distance=CosineSimilarity())
    anchors, positives, negatives = (x.numpy() for x in miner(embeddings, labels))
    z = unit(embeddings).numpy()
    s = z @ z.T
    partner = (np.arange(2 * N) + N) % (2 * N)
    loss, grads = refcl.semi_hard_triplet(
        s, margin=0.3, positive=partner, ignore=np.eye(2 * N, dtype=bool), reduction="none"
    )
    assert set(anchors) == set(np.flatnonzero(loss)), "an anchor has semi-hard negatives where its loss is not 0"
    assert (positives == partner[anchors]).all()
    taken = {(int(i), int(k)) for i, k in np.argwhere(grads.ds > 0)}
    assert taken <= set(zip(anchors.tolist(), negatives.tolist(), strict=True))
