"""The picture of each derivation, drawn with refcl's own numbers: ``python docs/_ext/pictures.py``.

In:  refcl.
Out: ``docs/images/derivations/<page>.svg``, one for each function below, named after its page, and those of
`page_pictures` in ``docs/images/pages``. They are kept beside the
pages, so that a code host shows them as well; a test draws them again and compares.
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from picture_tools import BLUE, GREEN, INK, LOOK, ORANGE, PALE, PICTURES, arrow, bars, numbers, picture

sys.path.insert(0, str(Path(__file__).parents[2]))

import page_pictures  # noqa: F401 - enters its pictures

import refcl
from refcl import hardness, metrics
from refcl.walk import layers, penalty, pooling, sphere

HOME = Path(__file__).parents[1] / "images"


@picture(3)
def encoder_picture(axes: Any) -> None:
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    _, grads = layers.linear(x, np.zeros((3, 2)), np.zeros(2), upstream=dy)
    numbers(axes[0], x.T, "xᵀ (D_in, N)")
    numbers(axes[1], dy, "times dy (N, D_out)")
    numbers(axes[2], grads.dweight, "is dW (D_in, D_out)")


@picture(2)
def batch_norm(axes: Any) -> None:
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((12, 1)), rng.standard_normal((12, 1))
    dy = dy + 0.8 + 0.7 * x
    y, grads = layers.batch_norm(x, np.ones(1), np.zeros(1), training=True, upstream=dy)
    for panel, values, title in ((axes[0], dy, "what arrives, dy"), (axes[1], grads.dx, "what goes on, dx")):
        slope, level = np.polyfit(y[:, 0], values[:, 0], 1)
        ends = np.array([y.min(), y.max()])
        panel.scatter(y, values, color=BLUE, s=18)
        panel.plot(ends, level + slope * ends, color=ORANGE)
        panel.axhline(0, color=INK, lw=0.8)
        panel.set(xlabel="normalised value", title=title, ylim=(-2, 4))


@picture(1)
def sphere_picture(axes: Any) -> None:
    h, dz = np.array([[1.5, 0.9]]), np.array([[0.25, 0.75]])
    z, grads = sphere.l2_normalize(h, upstream=dz)
    turn = np.linspace(0, np.pi, 100)
    axes.plot(np.cos(turn), np.sin(turn), color=PALE)
    arrow(axes, (0, 0), h[0], INK, "h")
    arrow(axes, (0, 0), z[0], BLUE)
    axes.annotate("z", z[0], (0, -12), textcoords="offset points", color=BLUE)
    arrow(axes, z[0], dz[0], GREEN, "dz")
    arrow(axes, h[0], grads.dh[0], ORANGE, "dh: dz without its part along z, divided by the length of h")
    axes.set(xlim=(-1.1, 4.2), ylim=(-0.05, 1.75), aspect="equal")
    axes.axis("off")


@picture(1)
def similarity(axes: Any) -> None:
    turns = np.array([0.35, 1.1, 1.9, 2.9])
    z, other = np.array([[np.cos(0.8), np.sin(0.8)]]), np.stack([np.cos(turns), np.sin(turns)], axis=1)
    ds = refcl.softmax_contrastive(z @ other.T, 0.5, positive=np.array([0]))[1].ds[0]
    around = np.linspace(0, np.pi, 100)
    axes.plot(np.cos(around), np.sin(around), color=PALE)
    for k, row in enumerate(other):
        axes.plot(*row, "o", color=BLUE if k == 0 else ORANGE)
        axes.annotate("" if k == 0 else f"ds = {ds[k]:.2f}", row, (7, 3), textcoords="offset points")
    axes.plot(*z[0], "o", color=INK)
    for name, row in (("anchor", z[0]), ("positive", other[0])):  # inside the circle, away from the arrows
        axes.annotate(name, row, (-7, -5), textcoords="offset points", ha="right", va="top")
    at = z[0]
    for k, row in enumerate(other):
        step = -0.6 * ds[k] * row
        arrow(axes, at, step, BLUE if k == 0 else ORANGE)
        at = at + step
    axes.set(xlim=(-1.6, 2.4), ylim=(-0.05, 1.35), aspect="equal")
    axes.axis("off")


@picture(1)
def pairing(axes: Any) -> None:
    positive, ignore = np.array([1, 0, 4, 3]), np.zeros((4, 7), dtype=bool)
    ignore[0, 3:5] = ignore[2, 0] = True
    who = np.where(ignore, 0, 1)
    who[np.arange(4), positive] = 2
    axes.imshow(who, cmap=matplotlib.colors.ListedColormap([PALE, ORANGE, BLUE]), aspect="equal")
    for (i, k), kind in np.ndenumerate(who):
        axes.text(k, i, ("", "s⁻", "s⁺")[kind], ha="center", va="center", color="white")
    axes.set_xticks(range(7), [f"candidate {k}" for k in range(7)], rotation=30, ha="right", size=7)
    axes.set_yticks(range(4), [f"anchor {i}" for i in range(4)], size=7)
    axes.spines[:].set_visible(False)


@picture(1)
def pooling_picture(axes: Any) -> None:
    s_pos, s_neg = np.array([0.8]), np.array([[0.7, 0.5, 0.1, -0.3]])
    all_of_them = np.ones((1, 4), dtype=bool)
    soft = 0.2 * pooling.soft_maximum(s_pos, s_neg, 0.2, negatives=all_of_them)[1].ds_neg[0]
    top = pooling.maximum(s_pos, s_neg, negatives=all_of_them)[1].ds_neg[0]
    rows = {"maximum": top, "soft maximum, τ = .2": soft, "weighted sum": np.full(4, 0.25)}
    bars(axes, rows, [f"s = {s:g}" for s in s_neg[0]], "share of the push")


@picture(2)
def penalty_picture(axes: Any) -> None:
    gap = np.linspace(-4, 4, 201)
    for room, colour in ((penalty.softplus, BLUE), (penalty.identity, ORANGE), (penalty.hinge, GREEN)):
        loss, grads = room(gap)
        axes[0].plot(gap, loss, color=colour, label=room.__name__)
        axes[1].plot(gap, grads.dgap, color=colour)
    axes[0].set(xlabel="gap", title="loss")
    axes[1].set(xlabel="gap", title="slope: how hard the anchor pushes")
    axes[0].legend()


@picture(1)
def reduce(axes: Any) -> None:
    losses = np.array([0.1, 0.5, 1.0, 2.0, 4.0])
    likely = np.exp(-losses)
    rows = {"mean of −log P": np.full(5, 1 / 5), "−log of mean P: another loss": likely / likely.sum()}
    bars(axes, rows, [f"loss {loss:g}" for loss in losses], "weight of the anchor")


@picture(4)
def losses(axes: Any) -> None:
    s = np.array([[0.8, 0.7, 0.2, -0.3], [0.1, 0.6, 0.5, 0.0], [-0.2, 0.4, 0.3, 0.1]])
    found = {
        "softmax, τ = .2": refcl.softmax_contrastive(s, 0.2, reduction="sum"),
        "the two hardest": refcl.hard_softmax_contrastive(s, 0.2, hardest=2, reduction="sum"),
        "simple": refcl.simple_contrastive(s, reduction="sum"),
        "triplet": refcl.triplet(s, reduction="sum"),
    }
    for panel, (name, (_, grads)) in zip(axes, found.items(), strict=True):
        numbers(panel, grads.ds, f"ds of {name}", colours="PuOr_r")


@picture(3)
def memory(axes: Any) -> None:
    shown = {
        "info_nce: the batch's keys": (np.eye(3), 3),
        "inst_disc: the whole bank": (np.eye(3, 7, 2), 7),
        "moco: its own key | the queue": (np.hstack([np.eye(3), np.zeros((3, 5))]), 3),
    }
    for panel, (name, (mine, batch)) in zip(axes, shown.items(), strict=True):
        who = np.where(mine == 1, 2, 1)
        if name.startswith("moco"):
            who[:, :batch] = np.where(mine[:, :batch] == 1, 2, 0)
        panel.imshow(who, cmap=matplotlib.colors.ListedColormap([PALE, ORANGE, BLUE]), vmin=0, vmax=2, aspect="equal")
        panel.set_title(name.replace(": ", "\n"), size=8)
        panel.set(xticks=[], yticks=[], xlabel="candidates", ylabel="anchors")
        panel.spines[:].set_visible(False)


@picture(2)
def cmc(axes: Any) -> None:
    turns = np.pi / 2 + 2 * np.pi * np.arange(4) / 4
    places = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    for panel, name, joined in (
        (axes[0], "the full graph: 12 directions", [(i, j) for i in range(4) for j in range(i)]),
        (axes[1], "around a core: 6 directions", [(i, 0) for i in range(1, 4)]),
    ):
        for pair in joined:
            panel.plot(*places[list(pair)].T, color=ORANGE)
        panel.plot(*places.T, "o", color=BLUE, ms=16)
        for k, place in enumerate(places):
            panel.text(*place, str(k), color="white", ha="center", va="center")
        panel.set(xlim=(-1.6, 1.6), ylim=(-1.3, 1.3), aspect="equal", title=name)
        panel.axis("off")


@picture(1)
def cpc(axes: Any) -> None:
    rng = np.random.default_rng(0)
    counts, rho = np.array([2, 4, 8, 16, 32, 64, 128, 256]), 0.9
    bound = []
    for many in counts:
        c = rng.standard_normal((max(1, 4000 // many), many))
        z = rho * c + np.sqrt(1 - rho**2) * rng.standard_normal(c.shape)
        scores = [
            -((b[None] - rho * a[:, None]) ** 2) / (2 * (1 - rho**2)) + b[None] ** 2 / 2
            for a, b in zip(c, z, strict=True)
        ]
        loss = np.mean([refcl.softmax_contrastive(s, 1.0)[0] for s in scores])
        bound.append(refcl.mutual_information_bound(np.asarray(loss), int(many)))
    axes.semilogx(counts, np.log(counts), color=ORANGE, ls="--", base=2, label="log M: no more can be shown")
    axes.axhline(-np.log(1 - rho**2) / 2, color=GREEN, ls=":", label="I, the truth")
    axes.semilogx(counts, bound, color=BLUE, marker="o", base=2, label="log M − L")
    axes.set(xlabel="candidates M", ylabel="nats", ylim=(0, 2.2))
    axes.legend()


@picture(1)
def pairwise(axes: Any) -> None:
    other = np.linspace(-1, 1, 101)
    s = np.stack([np.full(101, 0.8), np.full(101, 0.3), other], axis=1)
    where = np.zeros(101, dtype=int)
    softmax = refcl.softmax_contrastive(s, 0.3, positive=where, reduction="sum")[1].ds[:, 1]
    alone = penalty.softplus(np.zeros(101))[1].dgap / 0.3  # at the threshold
    axes.plot(other, softmax, color=BLUE, label="softmax: they compete")
    axes.plot(other, alone, color=ORANGE, label="every pair by itself")
    axes.set(xlabel="similarity of another negative", ylabel="push on this one", ylim=(0, None))
    axes.legend()


@picture(2)
def margins(axes: Any) -> None:
    near = np.linspace(-0.2, 1.0, 241)
    s = np.stack([np.full(241, 0.5), near, np.full(241, -0.9)], axis=1)
    where = np.zeros(241, dtype=int)
    settings = {"margin": 0.3, "positive": where, "reduction": "none"}
    axes[0].plot(near, refcl.triplet(s, **settings)[0], color=BLUE, label="triplet")
    semi = refcl.semi_hard_triplet(s, otherwise="skip", **settings)[0]
    axes[0].plot(near, semi, color=ORANGE, ls="--", label="semi-hard")
    axes[0].axvline(0.5, color=INK, lw=0.8)
    axes[0].set(xlabel="similarity of the negative; the line: of the positive", ylabel="loss")
    axes[0].legend()
    a, b = np.zeros((121, 1)), np.linspace(0, 3, 121)[:, None]
    for same, colour in ((True, GREEN), (False, ORANGE)):
        loss = [
            refcl.pair_contrastive(a[i : i + 1], b[i : i + 1], same=np.array([same]), margin=2.0)[0] for i in range(121)
        ]
        axes[1].plot(b, loss, color=colour, label="like" if same else "unlike, margin 2")
    axes[1].set(xlabel="distance of the pair", ylim=(0, 2.5))
    axes[1].legend()


@picture(1)
def two_sided(axes: Any) -> None:
    rng = np.random.default_rng(0)
    image, noise = rng.standard_normal((2, 6, 4))
    text, thetas = image + 0.5 * noise, np.linspace(-1, 6, 141)
    for clamp, colour, name in (
        (None, BLUE, "as it is: clamp after the step"),
        ((0.0, np.log(100.0)), ORANGE, "clamped inside the loss"),
    ):
        slopes = [refcl.clip(image, text, theta, clamp=clamp)[1].dlog_scale for theta in thetas]
        axes.plot(thetas, slopes, color=colour, ls="-" if clamp is None else "--", label=name)
    axes.axhline(0, color=INK, lw=0.8)
    axes.set(xlabel="θ", ylabel="dθ")
    axes.legend()


@picture(1)
def positives(axes: Any) -> None:
    s = np.array([[0.9, 0.6, 0.3, 0.5, -0.2]])
    mask = np.array([[True, True, True, False, False]])
    rows = {form: refcl.supervised_contrastive(s, 0.3, positives=mask, form=form)[1].ds[0] for form in ("out", "in")}
    names = [f"{'positive' if p else 'negative'}\ns = {x:g}" for x, p in zip(s[0], mask[0], strict=True)]
    bars(axes, {f"mean {form}side": ds for form, ds in rows.items()}, names, "ds: below 0 pulls")


@picture(1)
def targets(axes: Any) -> None:
    s = np.array([[0.9, 0.6, 0.3, 0.5, -0.2]])
    rows = {
        "all on the first": refcl.softmax_contrastive(s, 0.3)[1].ds[0],
        "smoothed by .3": refcl.softmax_contrastive(s, 0.3, label_smoothing=0.3)[1].ds[0],
        "half on the first, half on the second": refcl.softmax_contrastive(s, 0.3, None, np.eye(2, 5).sum(0)[None] / 2)[
            1
        ].ds[0],
    }
    bars(axes, rows, [f"s = {x:g}" for x in s[0]], "ds: below 0 pulls")


@picture(1)
def decoupled(axes: Any) -> None:
    ahead = np.linspace(-0.5, 1.0, 121)
    s = np.stack([ahead, np.zeros(121), np.zeros(121)], axis=1)
    where = np.zeros(121, dtype=int)
    for loss, colour in ((refcl.softmax_contrastive, BLUE), (refcl.decoupled_contrastive, ORANGE)):
        pull = -loss(s, 0.2, positive=where, reduction="sum")[1].ds[:, 0]
        axes.plot(ahead, pull, color=colour, label=loss.__name__)
    axes.set(xlabel="how far the positive is ahead of two negatives", ylabel="pull on the positive", ylim=(0, 6))
    axes.legend()


@picture(1)
def reweighting(axes: Any) -> None:
    negatives = np.linspace(-1, 1, 81)
    s = np.concatenate([[0.9], negatives])[None]
    rows = {
        "softmax": refcl.softmax_contrastive(s, 0.5)[1].ds,
        "HCL, weights let through": refcl.reweighted_contrastive(s, 0.5, beta=1.0, tau_plus=0.0, detach=False)[1].ds,
        "HCL, weights detached": refcl.reweighted_contrastive(s, 0.5, beta=1.0, tau_plus=0.0, detach=True)[1].ds,
    }
    for (name, ds), colour in zip(rows.items(), (BLUE, ORANGE, GREEN), strict=True):
        axes.plot(negatives, 81 * ds[0, 1:] / -ds[0, 0], color=colour, label=name)
    axes.axhline(0, color=INK, lw=0.8)
    axes.set(xlabel="similarity of the negative", ylabel="share, in equal shares")
    axes.legend()


@picture(1)
def align_uniform(axes: Any) -> None:
    rng = np.random.default_rng(0)
    counts, s_pos, anchors = np.array([3, 10, 30, 100, 300]), 0.9, 4000
    for tau, colour in ((0.5, BLUE), (0.2, ORANGE)):
        mu = tau * np.sinh(1 / tau)
        off = []
        for many in counts:
            s = np.concatenate([np.full((anchors, 1), s_pos), rng.uniform(-1, 1, (anchors, many))], axis=1)
            loss = refcl.softmax_contrastive(s, tau, positive=np.zeros(anchors, dtype=int))[0]
            off.append(loss - np.log(many) + s_pos / tau - np.log(mu))
        axes.loglog(counts, off, color=colour, marker="o", label=f"τ = {tau:g}")
        axes.loglog(counts, off[-1] * counts[-1] / counts, color=colour, ls=":", lw=1)
    axes.set(xlabel="negatives; dotted: one over their number", ylabel="off the limit by")
    axes.legend()


@picture(1)
def moving_temperatures(axes: Any) -> None:
    rng = np.random.default_rng(0)
    taus = np.geomspace(0.02, 3, 80)
    for spread, colour in ((0.15, BLUE), (0.5, ORANGE), (1.0, GREEN)):
        s = np.concatenate([[0.9], spread * np.sort(rng.uniform(-1, 1, 8))])[None]
        found = hardness.temperature_for_entropy(s, 1.2)[0]
        axes.semilogx(taus, [hardness.penalty_entropy(s, tau)[0] for tau in taus], color=colour)
        axes.plot(found, 1.2, "o", color=colour, label=f"negatives within ±{spread:g}: τ = {found:.2f}")
    axes.axhline(1.2, color=INK, lw=0.8)
    axes.set(xlabel="τ", ylabel="entropy of the relative penalty")
    axes.legend()


@picture(2)
def second_order(axes: Any) -> None:
    s = np.array([[0.8, 0.7, 0.5, 0.1]])
    for panel, tau in zip(axes, (0.2, 1.0), strict=True):
        rows = [refcl.hessian_vector_product(s, v[None], tau)[0] for v in np.eye(4)]
        numbers(panel, rows, f"H of one row, τ = {tau:g}", digits=2)
        panel.set_xticks(range(4), ["s⁺", "s⁻", "s⁻", "s⁻"])


@picture(3)
def metrics_picture(axes: Any) -> None:
    labels = np.repeat([0, 1, 2], 4)
    rng = np.random.default_rng(2)
    centres = np.repeat(2 * np.pi * np.arange(3) / 3, 4)
    even = 2 * np.pi * np.arange(12) / 12
    shown = {
        "even, classes torn": rng.permutation(even),
        "classes together": centres + np.tile([-0.25, -0.1, 0.1, 0.25], 3),
        "nearly collapsed": 1.5 + 0.2 * rng.standard_normal(12),
    }
    for panel, (name, turns) in zip(axes, shown.items(), strict=True):
        z = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        panel.add_patch(matplotlib.patches.Circle((0, 0), 1, fill=False, color=PALE))
        panel.scatter(*z.T, c=np.array([BLUE, ORANGE, GREEN])[labels], s=28)
        values = f"uniformity {metrics.uniformity(z)[0]:.2f}, tolerance {metrics.tolerance(z, labels):.2f}"
        panel.set_title(f"{name}\n{values}".replace("-", "−"), size=8)
        panel.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
        panel.axis("off")


@picture(4)
def ranks(axes: Any) -> None:
    for step, panel in enumerate(axes):
        met = np.zeros((4, 4))
        for rank in range(4):
            for earlier in range(step):
                met[rank, (rank - earlier) % 4] = 1
            met[rank, (rank - step) % 4] = 2
        panel.imshow(met, cmap=matplotlib.colors.ListedColormap([PALE, "#9ecae1", BLUE]), vmin=0, vmax=2)
        panel.set_title(f"step {step}", size=9)
        panel.set(xticks=range(4), yticks=range(4), xlabel="block of candidates")
        panel.spines[:].set_visible(False)
    axes[0].set_ylabel("rank")


def draw(name: str, home: Path) -> Path:
    """Draw one picture into its folder at home, the same to the byte each time."""
    panels, onto, of = PICTURES[name]
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(6.0, 2.5), layout="constrained")
        onto(figure.subplots(1, panels) if panels > 1 else figure.subplots())
        path = home / of / f"{name.removesuffix('_picture')}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path


if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        print(draw(name, HOME))
