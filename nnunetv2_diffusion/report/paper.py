"""The figures that the SpineSegDiff paper prints, to stand beside ours.

Source: Monzon, Iff, Konukoglu, Jutzeler, "Diffusion-Based Semantic Segmentation of Lumbar Spine MRI Scans of Lower Back
Pain Patients": Tables 1 to 3, sections 4.2 and 4.3.
"""

from __future__ import annotations

import pandas as pd

from nnunetv2_diffusion.spider import CANAL, DISCS, STRUCTURES, VERTEBRAE

SOURCE = "Monzon et al., Diffusion-Based Semantic Segmentation of Lumbar Spine MRI Scans of Lower Back Pain Patients"

# family, modality, then mean and standard deviation for each of STRUCTURES, and the mean Dice
_TABLE_1 = (
    ("SpineSegDiff", "T1w", 0.93, 0.04, 0.91, 0.03, 0.89, 0.05, 0.908),
    ("SpineSegDiff", "T2w", 0.93, 0.04, 0.92, 0.04, 0.90, 0.04, 0.917),
    ("SpineSegDiff", "T1w + T2w", 0.92, 0.04, 0.92, 0.02, 0.90, 0.05, 0.913),
    ("IISDM", "T1w", 0.87, 0.10, 0.91, 0.04, 0.89, 0.05, 0.890),
    ("IISDM", "T2w", 0.86, 0.12, 0.91, 0.04, 0.89, 0.05, 0.887),
    ("IISDM", "T1w + T2w", 0.90, 0.03, 0.92, 0.05, 0.89, 0.04, 0.903),
    ("nnU-Net", "T1w", 0.91, 0.02, 0.91, 0.03, 0.84, 0.06, 0.887),
    ("nnU-Net", "T2w", 0.91, 0.03, 0.92, 0.03, 0.85, 0.06, 0.893),
    ("nnU-Net", "T1w + T2w", 0.91, 0.03, 0.92, 0.03, 0.84, 0.05, 0.890),
)

# T, then mean and standard deviation for each of STRUCTURES; T = 0 is nnU-Net itself. The paper does not name the
# modality, but its T = 0 is, to the last digit, Table 1's nnU-Net on T1w + T2w.
TABLE_2_MODALITY = "T1w + T2w"
_TABLE_2 = (
    (0, 0.91, 0.03, 0.92, 0.03, 0.84, 0.05),
    (30, 0.92, 0.05, 0.92, 0.04, 0.89, 0.05),
    (100, 0.92, 0.06, 0.91, 0.04, 0.89, 0.06),
    (300, 0.92, 0.06, 0.91, 0.04, 0.89, 0.05),
    (500, 0.92, 0.06, 0.91, 0.04, 0.89, 0.06),
    (1000, 0.92, 0.07, 0.91, 0.03, 0.89, 0.05),
)

# Table 3 calls all of these patients; those of spondylolisthesis and herniation are affected discs.
TABLE_3 = {
    "Spondylolisthesis": 42,
    "Disc herniation": 72,
    "Modic changes": 149,
    "Endplate changes": 177,
    "Disc narrowing": 193,
    "Disc bulging": 200,
}

# Section 4.2: the p-values that the text names, of SpineSegDiff on T1w + T2w.
SECTION_4_2 = {
    ("Upper endplate changes", DISCS): "0.0310",
    ("Lower endplate changes", DISCS): "0.0120",
    ("Lower endplate changes", CANAL): "0.0337",
    ("Spondylolisthesis", CANAL): "0.0048",
    ("Spondylolisthesis", VERTEBRAE): "0.0039",
    ("Spondylolisthesis", DISCS): "< 0.0001",
    ("Disc herniation", CANAL): "0.0263",
    ("Disc degeneration", DISCS): "0.0003",
}
SECTION_4_2_MODEL = ("SpineSegDiff", "T1w + T2w")


def table_1() -> pd.DataFrame:
    """Table 1 in long form: family, modality, structure (and "mean"), dice_mean, dice_std (none for the mean)."""
    rows = []
    for family, modality, *values, mean in _TABLE_1:
        for structure, average, deviation in zip(STRUCTURES, values[::2], values[1::2], strict=True):
            rows.append((family, modality, structure, average, deviation))
        rows.append((family, modality, "mean", mean, float("nan")))
    return pd.DataFrame(rows, columns=["family", "modality", "structure", "dice_mean", "dice_std"])


def table_2() -> pd.DataFrame:
    """Table 2 in long form: timesteps, structure, dice_mean, dice_std."""
    rows = [
        (timesteps, structure, average, deviation)
        for timesteps, *values in _TABLE_2
        for structure, average, deviation in zip(STRUCTURES, values[::2], values[1::2], strict=True)
    ]
    return pd.DataFrame(rows, columns=["timesteps", "structure", "dice_mean", "dice_std"])
