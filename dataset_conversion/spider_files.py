"""What a SPIDER folder holds: its series, the cases a modality asks for, and the paper's facts about them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

MODALITIES = {"T1w": ("t1",), "T2w": ("t2",), "T1wT2w": ("t1", "t2")}

# In order of preference: two patients of SPIDER (41, 141) have no t2, so their t2_SPACE stands in.
SERIES_OF_CONTRAST = {"t1": ("t1",), "t2": ("t2", "t2_SPACE")}

# The 18 oblique scans (T1w and T2w of 9 patients) that the paper trains on but leaves out of the evaluation.
OBLIQUE_PATIENTS = frozenset({1, 50, 58, 130, 133, 152, 160, 186, 251})

_SERIES_NAME = re.compile(r"^(\d+)_(t1|t2|t2_SPACE)$")
_FILE_SUFFIX = ".mha"


@dataclass(frozen=True, order=True)
class Series:
    """One examination that becomes one case; `contrast` is t1 or t2, `series` SPIDER's own name for it."""

    patient: int
    contrast: str
    series: str

    @property
    def case(self) -> str:
        """The case's name in the nnU-Net dataset."""
        return f"SPIDER_{self.patient:03d}_{self.contrast}"

    @property
    def file_name(self) -> str:
        """The name of the scan's file in images/ and of its mask in masks/."""
        return f"{self.patient}_{self.series}{_FILE_SUFFIX}"

    @property
    def oblique(self) -> bool:
        """Whether the paper counts the scan among its 18 oblique ones."""
        return self.patient in OBLIQUE_PATIENTS and self.series in ("t1", "t2")


def list_series(root: str | Path) -> set[tuple[int, str]]:
    """Every (patient, series name) that a SPIDER folder promises: by images/, by masks/ or by overview.csv.

    A series that is named anywhere belongs to the data set, so that a missing file is noticed and not passed over.
    FileNotFoundError where `root` or its images/ is absent; ValueError where there is no series at all.
    """
    root = Path(root)
    if not (root / "images").is_dir():
        raise FileNotFoundError(
            f"{root} is not a SPIDER folder: expected {root / 'images'} with <patient>_<series>.mha"
        )
    files = [*(root / "images").glob(f"*{_FILE_SUFFIX}"), *(root / "masks").glob(f"*{_FILE_SUFFIX}")]
    names = {path.name.removesuffix(_FILE_SUFFIX) for path in files} | _names_in_overview(root / "overview.csv")
    matches = [_SERIES_NAME.match(name) for name in names]
    found = {(int(match[1]), match[2]) for match in matches if match}
    if not found:
        raise ValueError(f"{root / 'images'} holds no scan: expected files like 1_t1.mha, 1_t2.mha or 41_t2_SPACE.mha")
    return found


def _names_in_overview(path: Path) -> set[str]:
    """The series that overview.csv lists; none where the file is absent."""
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if "new_file_name" not in (reader.fieldnames or []):
            raise ValueError(f"{path} has no column new_file_name: expected SPIDER's own overview.csv")
        return {row["new_file_name"].strip() for row in reader if row["new_file_name"]}


def select_cases(found: set[tuple[int, str]]) -> list[Series]:
    """The cases of all contrasts, ordered: at most one t1 and one t2 a patient (t2_SPACE where there is no t2)."""
    cases = []
    for patient in sorted({patient for patient, _ in found}):
        for contrast, candidates in SERIES_OF_CONTRAST.items():
            series = next((name for name in candidates if (patient, name) in found), None)
            if series is not None:
                cases.append(Series(patient, contrast, series))
    return cases


def parse_patients(text: str) -> tuple[set[int], set[int]]:
    """(named, covered) from text like `1,2,100-114`: the patients named one by one, and all including the ranges.

    ValueError where the text is anything else.
    """
    named, covered = set(), set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(
                f"--patients {text!r} is malformed at {part.strip()!r}: expected numbers and ranges like 1,2,100-114"
            )
        if match[2]:
            covered.update(range(int(match[1]), int(match[2]) + 1))
        else:
            named.add(int(match[1]))
    return named, named | covered


def pick_patients(cases: list[Series], text: str | None) -> list[Series]:
    """The cases of the patients that `text` names (all where it is None); ValueError where one named does not exist."""
    if text is None:
        return cases
    named, covered = parse_patients(text)
    present = {case.patient for case in cases}
    absent = sorted(named - present)
    if absent:
        raise ValueError(f"--patients {text!r} names patient {', '.join(map(str, absent))}, whom the data do not hold")
    picked = [case for case in cases if case.patient in covered]
    if not picked:
        raise ValueError(f"--patients {text!r} picks no one: the data hold patients {min(present)} to {max(present)}")
    return picked
