"""The verdicts that the page exports: which scans somebody rejected."""

from __future__ import annotations

import csv
from pathlib import Path

from nnunetv2_diffusion.files import naming

COLUMNS = ("scan", "result", "verdict", "comment")
ACCEPT, REJECT = "accept", "reject"
_EXPORT = "export the verdicts again"


def rejected_scans(file: str | Path) -> set[str]:
    """The names of rejected scans in a csv file of verdicts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no table of verdicts, or holds a verdict that is none.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: expected the verdicts that the page of results exported")
    with naming(file, _EXPORT), file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if not {"scan", "verdict"} <= set(reader.fieldnames or ()):
            raise ValueError(f"{file} has no columns scan and verdict; {_EXPORT}")
        rows = [(row["scan"], (row["verdict"] or "").strip()) for row in reader]
        strange = sorted({verdict for _, verdict in rows} - {ACCEPT, REJECT, ""})
        if strange:
            raise ValueError(f"{file} holds the verdict {strange[0]!r}; expected {ACCEPT}, {REJECT} or nothing")
    return {scan for scan, verdict in rows if verdict == REJECT}
