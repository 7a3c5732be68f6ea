"""One thing in which a candidate differs, in words and as data."""

from typing import NamedTuple


class Difference(NamedTuple):
    """What was measured, what should have been, and the line of mathematics to change.

    Attributes
    ----------
    what : str
        One sentence.
    where : str
        Which entries, inputs or batches.
    measured, expected : str
        Numbers or formulas.
    change : str
        What to write instead.
    name : str
        Its id in the catalogue, where it has one.
    """

    what: str
    where: str = ""
    measured: str = ""
    expected: str = ""
    change: str = ""
    name: str = ""

    def lines(self) -> list[str]:
        """Return it as a few lines of text."""
        place = f" [{self.where}]" if self.where else ""
        found = [f"{self.what}{place}."]
        formulas = [f"{word} {x}" for word, x in (("measured", self.measured), ("expected", self.expected)) if x]
        found += [f"  {'; '.join(formulas)}"] if formulas else []
        found += [f"  change it to: {self.change}"] if self.change else []
        return found
