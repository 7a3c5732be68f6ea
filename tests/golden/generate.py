"""Write the golden data, a file a function, from the cards: see `goldens`.

python tests/golden/generate.py [FUNCTION ...]
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cases import CARDS

HERE = Path(__file__).resolve().parent


def main(names: list[str]) -> None:
    """Write each file whole or not at all."""
    for name in names or [name for name, card in CARDS.items() if card.golden]:
        path, made = HERE / f"{name}.json", CARDS[name].golden
        assert made is not None, f"{name} has no golden data"
        temporary = path.with_suffix(".partial")
        lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in made())
        temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        os.replace(temporary, path)


if __name__ == "__main__":
    main(sys.argv[1:])
