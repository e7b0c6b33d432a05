"""SPIDER's label values and the three structures that are made of them."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.grid import Grid
from nnunetv2_diffusion.spider import LABELS, VALUES


def _lookup_table() -> np.ndarray:
    table = np.full(256, -1, dtype=np.int16)
    for structure, ranges in VALUES.items():
        for values in ranges:
            table[values.start : values.stop] = LABELS[structure]
    return table


_TABLE = _lookup_table()


def spider_to_labels(mask: sitk.Image) -> sitk.Image:
    """A SPIDER mask as uint8 labels (0 background, 1 spinal canal, 2 vertebrae, 3 discs), on the same grid.

    ValueError names the values that are not SPIDER's.
    """
    array = sitk.GetArrayViewFromImage(mask)
    values = np.unique(array)
    foreign = [
        value for value in values if not (value == np.floor(value) and 0 <= value < 256 and _TABLE[int(value)] >= 0)
    ]
    if foreign:
        listed = ", ".join(f"{value:g}" for value in foreign[:5]) + (", …" if len(foreign) > 5 else "")
        raise ValueError(
            f"the mask holds the value {listed}, which is not SPIDER's: "
            "expected 0, vertebrae 1-25 and 101-125, spinal canal 100, discs 201-225"
        )
    return Grid.of(mask).image(_TABLE[array.astype(np.uint8)].astype(np.uint8))
