"""Facts about SPIDER (doi 10.5281/zenodo.10159290): files, series, structures, label values, the datasets of them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

DOI = "10.5281/zenodo.10159290"
RECORD_URL = f"https://zenodo.org/api/records/{DOI.rpartition('.')[2]}"
LICENCE = "CC BY 4.0"
LICENCE_URL = "https://creativecommons.org/licenses/by/4.0/"
CITATION = (
    "J. W. van der Graaf, M. L. van Hooff, C. F. M. Buckens, M. Rutten, J. L. C. van Susante, R. J. Kroeze, "
    "M. de Kleuver, B. van Ginneken, N. Lessmann: Lumbar spine segmentation in MR images: a dataset and a public "
    "benchmark. Scientific Data 11, 264 (2024). https://doi.org/10.1038/s41597-024-03090-w"
)
IMAGES, MASKS = "images", "masks"
OVERVIEW_FILE, GRADINGS_FILE = "overview.csv", "radiological_gradings.csv"

# The structures that the paper segments, and their labels in the nnU-Net datasets.
CANAL, VERTEBRAE, DISCS = "spinal_canal", "vertebrae", "discs"
STRUCTURES = (CANAL, VERTEBRAE, DISCS)
LABELS = {"background": 0, CANAL: 1, VERTEBRAE: 2, DISCS: 3}

# SPIDER's own values: vertebrae from L5 upwards 1-25, partly visible ones 101-125; discs from L5/S1 upwards 201-225.
CANAL_VALUE, PARTLY_VISIBLE, FIRST_DISC = 100, 100, 201
VALUES = {
    "background": (range(0, 1),),
    CANAL: (range(CANAL_VALUE, CANAL_VALUE + 1),),
    VERTEBRAE: (range(1, 26), range(PARTLY_VISIBLE + 1, PARTLY_VISIBLE + 26)),
    DISCS: (range(FIRST_DISC, FIRST_DISC + 25),),
}

MODALITIES = {"T1w": ("t1",), "T2w": ("t2",), "T1wT2w": ("t1", "t2")}
# In order of preference: two patients of SPIDER (41, 141) have no t2, so their t2_SPACE stands in.
SERIES_OF_CONTRAST = {"t1": ("t1",), "t2": ("t2", "t2_SPACE")}

# Paper, section 4.3: the 18 oblique scans (T1w and T2w of these patients) are trained on but not evaluated.
OBLIQUE_PATIENTS = frozenset({1, 50, 58, 130, 133, 152, 160, 186, 251})

# nnU-Net's number and name of each dataset, by modality and dimension.
DATASETS = {
    ("T1w", "2d"): (501, "SPIDER_T1w"),
    ("T2w", "2d"): (502, "SPIDER_T2w"),
    ("T1wT2w", "2d"): (503, "SPIDER_T1wT2w"),
    ("T1w", "3d"): (511, "SPIDER_T1w_3D"),
    ("T2w", "3d"): (512, "SPIDER_T2w_3D"),
    ("T1wT2w", "3d"): (513, "SPIDER_T1wT2w_3D"),
}

_SERIES_NAME = re.compile(r"^(\d+)_(t1|t2|t2_SPACE)$")
_FILE_SUFFIX = ".mha"


def case_name(patient: int, contrast: str) -> str:
    """The name of a case in the nnU-Net datasets: `SPIDER_001_t2`."""
    return f"SPIDER_{patient:03d}_{contrast}"


def parse_case(case: str) -> tuple[int, str] | None:
    """(patient, contrast) of a case's name; None for another name."""
    match = re.fullmatch(r"SPIDER_(\d+)_(t1|t2)", case)
    return (int(match[1]), match[2]) if match else None


def published_splits_file(modality: str) -> str:
    """The name of a modality's folds in the paper's published code: `SPIDER_T2w.json`."""
    return f"SPIDER_{modality}.json"


@dataclass(frozen=True, order=True)
class Series:
    """One examination that becomes one case; `contrast` is t1 or t2, `series` SPIDER's own name for it."""

    patient: int
    contrast: str
    series: str

    @property
    def case(self) -> str:
        """The case's name in the nnU-Net dataset."""
        return case_name(self.patient, self.contrast)

    @property
    def name(self) -> str:
        """SPIDER's own name of the examination, in its overview: `1_t2`."""
        return f"{self.patient}_{self.series}"

    @property
    def file_name(self) -> str:
        """The name of the scan's file in images/ and of its mask in masks/."""
        return f"{self.name}{_FILE_SUFFIX}"

    @property
    def mask_file_name(self) -> str:
        """The name of its mask's file in masks/: the scan's own."""
        return self.file_name

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
    if not (root / IMAGES).is_dir():
        raise FileNotFoundError(f"{root} is not a SPIDER folder: expected {root / IMAGES} with <patient>_<series>.mha")
    files = [*(root / IMAGES).glob(f"*{_FILE_SUFFIX}"), *(root / MASKS).glob(f"*{_FILE_SUFFIX}")]
    names = {path.name.removesuffix(_FILE_SUFFIX) for path in files} | _names_in_overview(root / OVERVIEW_FILE)
    matches = [_SERIES_NAME.match(name) for name in names]
    found = {(int(match[1]), match[2]) for match in matches if match}
    if not found:
        raise ValueError(f"{root / IMAGES} holds no scan: expected files like 1_t1.mha, 1_t2.mha or 41_t2_SPACE.mha")
    return found


def _names_in_overview(path: Path) -> set[str]:
    """The series that overview.csv lists; none where the file is absent."""
    if not path.is_file():
        return set()
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows, columns = list(reader), reader.fieldnames or []
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as csv ({error}): expected SPIDER's own {OVERVIEW_FILE}") from error
    if "new_file_name" not in columns:
        raise ValueError(f"{path} has no column new_file_name: expected SPIDER's own {OVERVIEW_FILE}")
    return {row["new_file_name"].strip() for row in rows if row["new_file_name"]}


def select_cases(found: set[tuple[int, str]]) -> list[Series]:
    """The cases of all contrasts, ordered: at most one t1 and one t2 a patient (t2_SPACE where there is no t2)."""
    cases = []
    for patient in sorted({patient for patient, _ in found}):
        for contrast, candidates in SERIES_OF_CONTRAST.items():
            series = next((name for name in candidates if (patient, name) in found), None)
            if series is not None:
                cases.append(Series(patient, contrast, series))
    return cases
