"""What was found, for people and for programs.

In:  a question, the judged probes and a diagnosis.
Out: a `Report`: ``ok``, ``verdict``, text and JSON.
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from refcl.oracle.compare import Part
from refcl.oracle.diagnose import Finding
from refcl.oracle.evidence import Invariant
from refcl.oracle.mistakes import CATALOGUE, links
from refcl.oracle.names.difference import Difference

MOST_LINES = 24  # of a report in a terminal
# What of a report is no part of its JSON.
OF_THE_TEXT = ("gradient_count", "scalar_name", "more_names", "picture", "trace")


@dataclass(frozen=True)
class Judged:
    """One probe and how each part of the answer fared."""

    name: str
    sizes: str
    dtype: str
    scalar: float | None
    corner: bool
    parts: tuple[Part, ...]

    @property
    def passed(self) -> bool:
        return all(p.distance <= 1.0 for p in self.parts)

    @property
    def worst(self) -> Part:
        return max(self.parts, key=lambda p: p.distance)


@dataclass(repr=False)
class Report:
    """The answer of `check`.

    Attributes
    ----------
    ok : bool
        True where value and gradients are right on every decisive probe.
    verdict : str
        "correct"; the name of a mistake ("a + b" where two were made at once, "a or b" where both explain everything);
        "differs" where what was measured has no name but is said in ``differences``;
        "unknown" where it is wrong and nothing that was measured explains it; "not judged" where nothing could be
        compared, or where what came is right and gradients came on some batches only.
    differences : list of Difference
        In what it differs: what, where, measured, expected, change, name.
    right_for : list of str
        Settings of the loss under which it would be right.
    findings : list of Finding
        Each explains everything that was compared.
    probes : list of Judged
        Every batch that was tried.
    """

    verdict: str
    loss: str
    settings: dict[str, Any]
    gradient_judged: bool = False
    gradient_count: int = 0  # on how many decisive batches gradients were returned
    scalar_judged: bool = False
    scalar_name: str | None = None
    more_names: tuple[str, ...] = ()  # further scalars with a gradient, such as a bias
    more_judged: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    probes: list[Judged] = field(default_factory=list)
    invariants: list[Invariant] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    indistinguishable: list[str] = field(default_factory=list)
    reason: str = ""
    trace: str = ""
    differences: list[Difference] = field(default_factory=list)
    right_for: list[str] = field(default_factory=list)
    picture: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.verdict == "correct"

    @property
    def judged(self) -> bool:
        return self.verdict != "not judged"

    @property
    def failed(self) -> list[Judged]:
        """The decisive probes that failed."""
        return [p for p in self.probes if not p.passed and not p.corner]

    @property
    def conventions(self) -> list[str]:
        """Who means what was found."""
        return [f.convention for f in self.findings if f.convention]

    def to_json(self) -> str:
        """Return everything as JSON; numbers that are not finite become null."""
        return json.dumps(_plain(self._as_dict()), indent=2, ensure_ascii=False)

    def _as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"ok": self.ok, **vars(self)}
        found["findings"] = [
            {"ids": list(f.ids), "detail": f.detail, "convention": f.convention, "mistakes": _mistakes(f)}
            for f in self.findings
        ]
        found["probes"] = [
            {
                "name": p.name,
                "sizes": p.sizes,
                "dtype": p.dtype,
                "scalar": p.scalar,
                "decisive": not p.corner,
                "passed": p.passed,
                "parts": [part._asdict() for part in p.parts],
            }
            for p in self.probes
        ]
        found |= {k: [x._asdict() for x in found[k]] for k in ("invariants", "differences")}
        return {k: x for k, x in found.items() if k not in OF_THE_TEXT}

    def __repr__(self) -> str:
        first = f": {self.differences[0].what}" if self.differences else f": {self.reason}" if self.reason else ""
        return f"<{self.loss}: {self.verdict}{first}>"

    def _repr_html_(self) -> str:
        from refcl.oracle.html import fragment

        return fragment(self)

    def to_html(self) -> str:
        """Return the report as a page of its own, with the picture and the table of differences."""
        from refcl.oracle.html import page

        return page(self)

    def __str__(self) -> str:
        if not self.judged:
            trace = "\n".join(self.trace.splitlines()[-16:])
            return f"{self.loss}: could not be judged: {self.reason}" + (f"\n\n{trace}" if trace else "")
        lines = [f"{self.loss}({_settings(self.settings)}): {self.verdict.upper() if self.ok else self.verdict}"]
        lines.append("  " + self._compared())
        failed = self.failed
        if failed:
            off = "differs by less than counts on" if self.ok else "failed on"
            lines.append(f"  {off} {', '.join(p.name for p in failed)}")
            lines += [] if self.ok else self._worst(failed)
        for finding in self.findings:
            lines += _explained(finding)
        for d in self.differences[:4] if not self.findings else []:
            lines += ["  " + x for x in d.lines()]
        if len(self.differences) > 4:
            lines.append(f"  and {len(self.differences) - 4} more differences: report.differences")
        asked = [x for x in self.right_for if not any(x in d.what for d in self.differences)]
        lines += [f"  it would be right for {x}" for x in asked]
        lines += [f"  law: {i}" for i in self.invariants if not i.holds][:3]
        lines += [f"  seen: {e}" for e in self.evidence]
        lines += [f"  note: {n}" for n in self.notes]
        for p in self.probes:
            if p.corner and not p.passed and p.name == "zero row":
                lines.append(f"  corner, not decisive: differs on {p.name} ({_part(p.worst)})")
        if self.indistinguishable:
            lines.append(f"  not told apart from the right loss here: {', '.join(self.indistinguishable)}")
        if len(lines) > MOST_LINES:
            lines = [*lines[: MOST_LINES - 1], "  … the rest is in report.differences and report.to_json()"]
        return "\n".join(lines)

    def _compared(self) -> str:
        what = ["value", *(["gradients"] if self.gradient_judged else [])]
        if self.scalar_judged:
            what.append(f"gradient of the {self.scalar_name}")
        missing = [] if self.gradient_judged else [f"gradients ({self._gradients_returned()})"]
        if self.scalar_name and not self.scalar_judged:
            missing.append(f"gradient of the {self.scalar_name}")
        what += [f"gradient of the {name}" for name in self.more_judged]
        missing += [f"gradient of the {name}" for name in self.more_names if name not in self.more_judged]
        said = f"compared: {', '.join(what)} on {len(self.probes)} batches"
        scalars = sorted({p.scalar for p in self.probes if p.scalar is not None})
        if scalars:
            said += f", {self.scalar_name} {', '.join(f'{s:.4g}' for s in scalars)}"
        return said + (f"; not judged: {', '.join(missing)}" if missing else "")

    def _gradients_returned(self) -> str:
        if not self.gradient_count:
            return "none were returned"
        decisive = sum(not p.corner for p in self.probes)
        return f"but on {self.gradient_count} of {decisive} batches, where they were returned"

    def _worst(self, failed: list[Judged]) -> list[str]:
        # The plainest failing probe shows most: extremes hide what everything else says.
        shown = failed[0]
        off = [p for p in shown.parts if p.distance > 1.0][:3]
        right = [p.name for p in shown.parts if p.distance <= 1.0]
        lines = [f"  on {shown.name} ({shown.sizes}, {shown.dtype}): {_part(p)}" for p in off]
        also = ", ".join("value" if name == "value" else f"d{name}" for name in right)
        return [*lines, f"  right there: {also}"] if right else lines


def _part(p: Part) -> str:
    what = "value" if p.name == "value" else f"d{p.name}"
    place = f"[{', '.join(map(str, p.where))}]" if p.where else ""
    said = f"{what}{place} = {p.got:.10g}, expected {p.wanted:.10g}"
    if p.distance <= 1.0:
        return f"{what} right"
    if p.where and math.isfinite(p.ratio):
        said += f"; ratio {p.ratio:.4g}, cosine {p.cosine:.5g}"
    return said


def _explained(finding: Finding) -> list[str]:
    lines = []
    for id_ in finding.ids:
        mistake = CATALOGUE[id_]
        lines += [
            f"  {id_}: {mistake.effect}.",
            f"    it computes   {mistake.wrong}",
            f"    change it to  {mistake.right}",
        ]
        lines += [f"    seen at       {address}" for address in links(mistake)[:1]]
    if finding.detail:
        lines.append(f"    here          {finding.detail}")
    if finding.convention:
        lines.append(f"    convention    {finding.convention}; if that is meant, say {said_scale(finding.convention)}")
    return lines


def said_scale(convention: str) -> str:
    """Return the setting that asks for a convention, whose sentence begins with its factor."""
    return f'scale="{convention.partition(":")[0]}"'


def _mistakes(finding: Finding) -> list[dict[str, Any]]:
    found = []
    for id_ in finding.ids:
        m = CATALOGUE[id_]
        found.append({"id": id_, "effect": m.effect, "wrong": m.wrong, "right": m.right, "links": links(m)})
    return found


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in settings.items() if not hasattr(v, "shape"))


def _plain(x: Any) -> Any:
    """Return what JSON can hold."""
    if isinstance(x, dict):
        return {str(k): _plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(v) for v in x]
    if hasattr(x, "tolist"):
        return _plain(x.tolist())
    if isinstance(x, float) and not math.isfinite(x):
        return None
    return x if isinstance(x, str | int | float | bool) or x is None else str(x)
