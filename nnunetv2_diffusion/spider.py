"""Facts about SPIDER (doi 10.5281/zenodo.10159290): files, label values, structures, and the datasets made of it."""

from __future__ import annotations

import re

DOI = "10.5281/zenodo.10159290"
LICENCE = "CC BY 4.0"
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


def case_name(patient: int, contrast: str) -> str:
    """The name of a case in the nnU-Net datasets: `SPIDER_001_t2`."""
    return f"SPIDER_{patient:03d}_{contrast}"


def parse_case(case: str) -> tuple[int, str] | None:
    """(patient, contrast) of a case's name; None for another name."""
    match = re.fullmatch(r"SPIDER_(\d+)_(t1|t2)", case)
    return (int(match[1]), match[2]) if match else None
