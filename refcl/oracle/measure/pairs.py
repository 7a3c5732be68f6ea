"""Which similarities does the value depend on, with which sign and how strongly?

In:  a bench.
Out: differences between the measured derivatives and the right ones: entries that do not count, entries that should
not, turned signs, weights, and targets where the two losses differ by something linear.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from refcl.oracle.evidence import Result
from refcl.oracle.measure.bench import OWN, Bench, entry_name
from refcl.oracle.measure.freedoms import expected
from refcl.oracle.measure.gradient import named_factor
from refcl.oracle.measure.readings import READINGS
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.probes import Probe

DRAWS = 5


class Measured(NamedTuple):
    """Derivatives by every entry at some random similarities."""

    drawn: list[Any]
    got: Any  # (K, E)
    want: Any  # (K, E)
    scale: float
    tell: float  # below this a derivative is zero
    known: Any = None  # (E,) where it is known who is positive: labels

    @property
    def positive(self) -> Any:
        """(E,) where the right loss pulls on every draw."""
        return np.all(self.want < -self.tell, axis=0) if self.known is None else self.known

    @property
    def used(self) -> Any:
        return np.any(np.abs(self.want) > self.tell, axis=0)

    @property
    def counted(self) -> Any:
        return np.any(np.abs(self.got) > self.tell, axis=0)


def measured(bench: Bench, tell: float = 2e-7) -> Measured | None:
    drawn = [bench.draw(k) for k in range(DRAWS)]
    try:
        got = np.array([bench.gradient(s) for s in drawn])
        want = np.array([bench.right_gradient(s) for s in drawn])
    except (ValueError, np.linalg.LinAlgError):
        return None
    if not (np.all(np.isfinite(got)) and np.all(np.isfinite(want))):
        return None
    scale = float(np.max(np.abs(want))) or 1.0
    return Measured(drawn, got, want, scale, tell * max(scale, float(np.max(np.abs(got)))), _known(bench))


def _known(bench: Bench) -> Any:
    """Return who is a positive, where labels or a mask say it."""
    inputs, companions = bench.inputs(bench.draw(0))
    held = bench.lab.question.settings | bench.lab.question.companions(inputs) | companions
    if "labels" in held:
        return np.array([held["labels"][i] == held["labels"][j] for i, j in bench.entries])
    if "positives" in held:
        mask, first = held["positives"], bench.rows[0][0]
        ends = [(bench.rows[i], bench.rows[j]) for i, j in bench.entries] if bench.gram else []
        if bench.gram:
            return np.array([a == first != b and bool(mask[i, j]) for (a, i), (b, j) in ends])
        return np.array([bool(mask[e]) for e in bench.entries])
    law = expected(bench)
    if law is not None:
        return np.array([bool(law.positive[i, j] or (bench.gram and law.positive[j, i])) for i, j in bench.entries])
    if bench.lab.question.row.hinge:
        positive = held.get("positive")
        return np.array([j == (i if positive is None else positive[i]) for i, j in bench.entries])
    return None


class Kind(NamedTuple):
    """A class of entries."""

    first: str
    second: str
    relation: str  # "positive", "same", "other", "extra"


def kinds(bench: Bench, m: Measured) -> dict[Kind, list[int]]:
    found: dict[Kind, list[int]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for name, _ in bench.rows:
        counts[name] += 1
    for e, (i, j) in enumerate(bench.entries):
        if not bench.gram:
            relation = "positive" if m.positive[e] else ("extra" if j >= bench.shape[0] else "other")
            found[Kind("row", "column", relation)].append(e)
            continue
        (a, k), (b, h) = bench.rows[i], bench.rows[j]
        paired = k == h and a != b and b not in ("bank", "queue")
        relation = "positive" if m.positive[e] else "same" if paired else "other"
        if b == OWN:
            relation = "own" if bench.entries[e][0] == h // bench.each else "other"
        elif relation == "other" and a != b and h >= counts[a] and b not in ("bank", "queue"):
            relation = "extra"
        found[Kind(a, b, relation)].append(e)
    return found


def words(bench: Bench, kind: Kind) -> str:
    """Say which entries a class holds."""
    q = bench.lab.question
    a, b = kind.first, kind.second
    if kind.relation == "positive":
        if "index" in bench.companions:
            return f"the positive, {a} i with its own bank row bank[index[i]],"
        return "the positives" + (f" ({a} i with {b} i)" if bench.gram and a != b else "")
    if not bench.gram:
        return "the extra candidates (columns past the N anchors)" if kind.relation == "extra" else "the negatives"
    if kind.relation == "extra":
        return f"the extra {_plural(b)} (rows of {b} past the first N, without a {a} of their own)"
    if b == OWN:
        whose = f"{a} i with its own, [i]" if kind.relation == "own" else f"{a} i with another row's, [j], j ≠ i"
        return f"own_negatives ({whose})"
    if b in ("queue", "bank"):
        return f"the {b} (negatives: {a} with rows of the {b})"
    if a == b:
        one = "view" if q.two_sided or a in ("a", "b") else "input"
        return f"rows of the same {one} {a} ({a} i with {a} j)" if len(q.inputs) > 1 else f"rows of {a}"
    if q.row.memory == "queue":
        return "the other anchors' keys of the same batch (query i with key j)"
    return (
        f"rows of different views, {a} i with {b} j (i ≠ j)"
        if q.recipe.candidates == "all" or q.in_a_tuple or q.recipe.inside == "uniform"
        else f"{a} i with {b} j (i ≠ j)"
    )


def _plural(name: str) -> str:
    return "queries" if name == "query" else name + "s"


def listed(bench: Bench, which: list[int], most: int = 5) -> str:
    return "; ".join(entry_name(bench, e) for e in which[:most]) + (" …" if len(which) > most else "")


def who_meets_whom(bench: Bench, m: Measured) -> list[Difference]:
    """Say which entries do not count, and which should not."""
    found = []
    if not np.any(m.counted):
        return [say("constant value")]
    for kind, all_of in kinds(bench, m).items():
        use = [e for e in all_of if m.used[e]]
        missing = [e for e in use if not m.counted[e]]
        added = [e for e in all_of if m.counted[e] and not m.used[e]]
        said = words(bench, kind)
        only = _some_similarities(bench, m, all_of)
        if only:
            found.append(say("counts by its similarity", listed(bench, use), entries=said, only=only))
        elif missing and len(missing) == len(use) and kind.relation != "positive" and _linear(m):
            found.append(say("no denominator", listed(bench, missing), entries=said))
        elif missing and len(missing) == len(use):
            # a class that is small where it counts at all could be hidden
            found.append(_left_out(bench, kind, said, missing))
        elif missing:
            found.append(_partly(bench, m, said, use, missing))
        if added:
            everyone = len(added) == len(all_of)
            which = "" if everyone else f" ({len(added)} of {len(all_of)})"
            role = _role(m, added)
            if set(bench.lab.question.pair.settings) & {"uniform_weight"}:
                role = "pairs of the uniformity, which is taken over both views together (one set, stacked)"
            as_what = f" as {role}, and should not count" if kind.relation != "positive" else ""
            if kind.relation != "positive":
                said += which
            found.append(say("counts and should not", listed(bench, added), entries=said, role=as_what))
    return found


def _some_similarities(bench: Bench, m: Measured, which: list[int]) -> str:
    """Say from which similarity on entries count that all should, or up to which: a clip, a threshold, a ReLU."""
    s = np.array([[x[bench.entries[e]] for e in which] for x in m.drawn])
    told = np.abs(m.want[:, which]) > 10 * m.tell
    on = np.abs(m.got[:, which]) > m.tell
    for sign, size, side in (("s", s, "above"), ("s", -s, "below"), ("|s|", -np.abs(s), "below")):
        inside, outside = size[told & on], size[told & ~on]
        if len(inside) > 1 and len(outside) > 1 and np.min(inside) > np.max(outside):
            tau = bench.lab.question.temperature(bench.lab.scalar)
            a, b = sorted((abs(float(np.min(inside))), abs(float(np.max(outside)))))
            a = a if np.min(inside) * np.max(outside) > 0 else -a
            logits = f", logits from {a / tau:.3g} to {b / tau:.3g}" if tau else ""
            return f"{side} a bound of {sign} between {a:.3g} and {b:.3g}{logits}"
    return ""


def _linear(m: Measured) -> bool:
    """Return whether the derivatives are the same on every draw, where the right ones are not."""
    spread, wanted = np.ptp(m.got, axis=0), np.ptp(m.want, axis=0)
    return bool(np.max(spread) < 1e-5 * m.scale and np.max(wanted) > 1e-3 * m.scale)


def _role(m: Measured, which: list[int]) -> str:
    signs = np.sign(np.sum(m.got[:, which]))
    return "negatives (candidates of the denominator)" if signs > 0 else "positives"


def _left_out(bench: Bench, kind: Kind, said: str, missing: list[int]) -> Difference:
    q, where = bench.lab.question, listed(bench, missing)
    if kind.relation == "positive":
        unread = ": the similarity to the positive is never read"
        if "index" in bench.companions:
            return say("positive unread", where, entries=f"{said} has", on_what=unread)
        unread = " on the value: the positive is not read (constant, or compared with itself)"
        return say("positive unread", where, entries=f"{said} have", on_what=unread)
    if q.in_a_tuple:
        first, second = (bench.rows[k][0] for k in bench.entries[missing[0]])
        return say("views never compared", where, first=first, second=second)
    other = ""
    if bench.gram and kind.first != kind.second and q.recipe.candidates == "all":
        other = ": the negatives are those of the anchor's own view only, the other view's rows are missing"
    elif bench.gram and kind.first == kind.second and len(q.inputs) > 1:
        other = ": only the other view's rows are candidates"
    return say("left out", where, entries=said, why=f": they do not count{other}")


def _partly(bench: Bench, m: Measured, said: str, use: list[int], missing: list[int]) -> Difference:
    left_out = set(missing)
    rows = np.array([[bench.rows[i][1] for i in bench.entries[e]] if bench.gram else bench.entries[e] for e in use])
    gone = np.array([e in left_out for e in use])
    n = int(np.max(rows)) + 1
    ranks = bench.lab.question.recipe.ranks
    for block in range(1, n):
        if np.array_equal(gone, rows[:, 0] // block != rows[:, 1] // block) and n % block == 0:
            if ranks > 1 and block == n // ranks:
                return say("nothing gathered", listed(bench, missing), entries=said)
            return say("chunks", listed(bench, missing), entries=said, rows=block)
    heard = {i for e in np.flatnonzero(m.counted) for i in bench.entries[e][: 1 + bench.gram]}
    anchors = sorted({bench.entries[e][0] for e in use} - heard)
    silent = np.flatnonzero(m.used & ~m.counted)
    among = sorted({i for e in silent for i in bench.entries[e]}) if bench.gram else []
    who = ""
    if anchors:
        who = f": anchor {_rows_named(bench, anchors)} is left out altogether (skipped, no term of its own)"
    elif len(among) > 2 and len(silent) == len(among) * (len(among) - 1) // 2:  # who is an anchor meets the others
        who = f": {_rows_named(bench, among)} do not meet one another, they are no anchors (only candidates of others)"
    some = f"{len(missing)} of {len(use)} of {said}"
    return say("left out", listed(bench, missing), entries=some, why=f" and do not count{who}")


def _rows_named(bench: Bench, which: list[int]) -> str:
    return ", ".join(f"{bench.rows[i][0]} {bench.rows[i][1]}" if bench.gram else str(i) for i in which)


def all_turned(bench: Bench, m: Measured) -> list[Difference]:
    """Say that every class of entries has the opposite sign."""
    return signs(bench, m) if _turned_by_class(bench, m) else []


def signs(bench: Bench, m: Measured) -> list[Difference]:
    """Say where the loss pushes what it should pull."""
    both = (np.abs(m.got) > m.tell) & (np.abs(m.want) > m.tell)
    turned = both & (np.sign(m.got) != np.sign(m.want))
    if _turned_by_class(bench, m) or (np.any(both) and np.all(turned[both])):
        return [say("every sign turned")]
    found = []
    for kind, all_of in kinds(bench, m).items():
        here = [e for e in all_of if np.any(both[:, e])]
        wrong = [e for e in here if np.all(turned[both[:, e], e])]
        if wrong and len(wrong) == len(here) and kind.relation == "positive" and not np.any(m.got < -m.tell):
            found.append(say("nothing pulled", listed(bench, wrong), entries=words(bench, kind)))
        elif wrong and len(wrong) == len(here):
            push = "pushed apart" if kind.relation == "positive" else "pulled together"
            found.append(say("sign turned", listed(bench, wrong), entries=words(bench, kind), moved=push))
    return found


def _turned_by_class(bench: Bench, m: Measured) -> bool:
    """Return whether each class has one sign, and the other one than it should, on whatever draw it counts."""
    classes = 0
    for which in kinds(bench, m).values():
        got, want = m.got[:, which], m.want[:, which]
        a, b = np.sign(got[np.abs(got) > m.tell]), np.sign(want[np.abs(want) > m.tell])
        if not len(a) and not len(b):
            continue
        if not len(a) or not len(b) or np.ptp(a) or np.ptp(b) or a[0] == b[0]:
            return False
        classes += 1
    return classes > 1


def named(bench: Bench, c: float) -> list[str]:
    """Return the names of the constants that a number may be on the bench."""
    inputs, companions = bench.inputs(bench.draw(0))
    r: Any = Result(Probe("", inputs, bench.lab.scalar, companions=companions), None, None)  # type: ignore[arg-type]
    return named_factor(bench.lab.question, r, c)


def weights(bench: Bench, m: Measured) -> list[Difference]:
    """Say which class counts more or less than it should, by a constant."""
    found, ones, times = [], 0, set()
    grouped = kinds(bench, m)
    for kind, all_of in grouped.items():
        here = [e for e in all_of if m.used[e]]
        if not here:
            continue
        got, want = m.got[:, here], m.want[:, here]
        c = float(np.sum(got * want) / np.sum(want * want))
        if np.max(np.abs(got - c * want)) > 1e-5 * m.scale:
            s = np.array([[x[bench.entries[e]] for e in here] for x in m.drawn])
            read = [r for r, _, slope in READINGS if np.allclose(got, want * slope(s), atol=1e-5 * m.scale)]
            found += [say("read otherwise by some", entries=words(bench, kind), reading=r) for r in read[:1]]
            continue
        times.add(round(c, 4))
        if abs(c - 1) < 1e-5:
            ones += 1
            continue
        if c == 0 or abs(c) < 1e-9:
            continue
        names = named(bench, c)
        if "noise" in bench.companions and abs(c * bench.companions["noise"].shape[1] - 1) < 1e-6:
            names = ["1/K: the noise is averaged (mean), not added"]
        also = f" ({' or '.join(names[:2])})" if names else ""
        found.append(say("weighs", entries=words(bench, kind), times=c, names=also))
    return found if found and (ones or len(found) < len(grouped) or len(times) > 1) else []


def apart(bench: Bench, m: Measured) -> list[Difference]:
    """Say how often each pair counts as a negative and as a positive, where no pair sees another."""
    q = bench.lab.question
    if q.recipe.inside != "apart" or q.recipe.reduction != "mean":
        return []
    facts = q.facts(bench.inputs(m.drawn[0])[0], bench.lab.scalar)
    most = 1 / ((facts.temperature or 1.0) * facts.anchors)  # σ(l) and σ(−l) add up to it
    found = []
    for kind, which in kinds(bench, m).items():
        same: dict[tuple[float, float], list[int]] = defaultdict(list)
        right = (0.0, 1.0) if kind.relation == "positive" else (1.0, 0.0)
        for e in which:
            pushed = m.want[:, e] + most * right[1]
            slopes = np.stack([pushed, pushed - most], axis=1)
            often = np.linalg.lstsq(slopes, m.got[:, e], rcond=None)[0]
            if np.max(np.abs(slopes @ often - m.got[:, e])) > 1e-5 * m.scale:
                return []
            down, up = (round(float(x), 4) + 0.0 for x in often)
            same[down, up].append(e)
        said = words(bench, kind)
        for (down, up), here in same.items():
            if (down, up) != right and any(np.any(np.abs(m.got[:, e]) > m.tell) for e in here):
                part = said if len(here) == len(which) else f"{len(here)} of {len(which)} of {said}"
                found.append(say("pairs counted", listed(bench, here), entries=part, down=down, up=up))
    return found
