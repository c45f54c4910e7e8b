"""The lists of checks: what is expected of EC2 and where that is known from. Runs nothing."""

import csv
from dataclasses import dataclass
from pathlib import Path

LISTS = {
    "all": Path(__file__).with_name("checks.tsv"),
    "ipv6": Path(__file__).with_name("ipv6.tsv"),
    "admin": Path(__file__).with_name("admin.tsv"),
}
"""By the names of their tables."""


@dataclass(frozen=True)
class Line:
    """A line of a list."""

    action: str
    what: str
    source: str
    stock: bool
    """LocalStack passes it without our package, too: measured."""


def read(file: Path) -> dict[str, Line]:
    """By the id of the check."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines, delimiter="\t"))
    return {name: Line(action, what, source, stock == "yes") for name, action, what, source, stock in rows[1:]}
