"""A study's runs as a figure to touch: a point a run, its record at the pointer or the tab key, losses to hide.

In:  the records.
Out: a section of the report, and its scripts with the words that let no other script run. The scripts are those of the
book's figure of the same name; both ask for nothing from elsewhere.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from importlib.resources import files

from refcl.experiment.results import Record

SCRIPTS = tuple((files(__package__) / name).read_text(encoding="utf-8") for name in ("touch.js", "study.js"))
FIELDS = (
    *("loss", "temperature", "seed", "uniformity", "tolerance"),
    *("few_label_accuracy", "linear_accuracy", "alignment"),
)


def explorable(records: Sequence[Record]) -> str:
    """Return the section; without scripts it says where the numbers are."""
    held = json.dumps([{name: _plain(record[name]) for name in FIELDS} for record in records], allow_nan=False)
    data = held.replace("</", "<\\/")  # would end the script that holds them
    return f"""<section>
<h2>Every run, to touch</h2>
<p class="note">A point is a run; a line joins one loss in the order of τ (the small numbers), of its first seed.
Choose the axes, hide losses, point at a run for its record.</p>
<div class="touch" data-figure="study"><script type="application/json">{data}</script>
<p>Scripts are off: the table above has the means, <code>results.json</code> every run.</p></div>
</section>"""


def scripts() -> str:
    """Return the scripts as elements."""
    return "\n".join(f"<script>{script}</script>" for script in SCRIPTS)


def allowed() -> str:
    """Return the sources that a content security policy is to allow: these scripts to the byte, and none else."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in SCRIPTS)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _plain(value: object) -> object:
    """Return a value that JSON has: what is not finite is not a number there."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
