"""How large a reliability campaign is, and where its figures go: both from the environment; see docs/reliability.md."""

from __future__ import annotations

import csv
import os
from pathlib import Path

# The long forms' sizes and the variables that change them.
KILLS = ("SPINESEGDIFF_KILLS", 50)
MUTANTS = ("SPINESEGDIFF_MUTANTS", 10_000)
SCANS = ("SPINESEGDIFF_SCANS", 2_000)
FIGURES = "SPINESEGDIFF_CAMPAIGN_FIGURES"


def size(campaign: tuple[str, int]) -> int:
    """How often the long form does what it does."""
    variable, usual = campaign
    return int(os.environ.get(variable, usual))


def note(campaign: str, target: str, **figures: object) -> None:
    """Append a line to the csv file that FIGURES names; nothing without it."""
    if not (named := os.environ.get(FIGURES)):
        return
    path = Path(named)
    row = {"campaign": campaign, "target": target, "figures": "; ".join(f"{k} {v}" for k, v in figures.items())}
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
