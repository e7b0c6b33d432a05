"""A mask in RAS+ orientation, and samples of it if there are any -> levels, measurements, and what there is to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nnunetv2_diffusion.anatomy.conformal import intervals_said
from nnunetv2_diffusion.anatomy.intervals import measure_samples, with_intervals
from nnunetv2_diffusion.anatomy.landmarks import Landmarks, find_landmarks
from nnunetv2_diffusion.anatomy.levels import Levels, find_levels
from nnunetv2_diffusion.anatomy.measurements import measure_shapes, table_of
from nnunetv2_diffusion.anatomy.midsagittal import find_midsagittal
from nnunetv2_diffusion.anatomy.sample_masks import Samples
from nnunetv2_diffusion.anatomy.structures import SpineSlice, Values, known_values
from nnunetv2_diffusion.anatomy.volume_levels import levels_in_volume
from nnunetv2_diffusion.measures import disc_name, vertebra_name
from nnunetv2_diffusion.spider import STRUCTURES, VERTEBRAE


@dataclass(frozen=True)
class MeasuredVolume:
    """Levels uint8 [z, y, x], the measurements' table, what is written to json, and what a picture marks."""

    levels: np.ndarray
    table: pd.DataFrame
    report: dict[str, Any]
    landmarks: Landmarks
    index: int


def measure_volume(
    labels: np.ndarray,
    spacing: tuple[float, float, float],
    values: Values | None = None,
    name: str = "",
    samples: Samples | None = None,
) -> MeasuredVolume:
    """Measure the mid-sagittal slice of a mask and number its structures in all slices.

    Args:
        labels: [z, y, x], z to superior, y to anterior; 0 in slices that were not segmented.
        spacing: (z, y, x) in mm.
        values: the labels of each structure; None finds out (`structures.known_values`).
        name: of the scan, for the table.
        samples: of the mask.

    Raises:
        ValueError: no vertebrae, other labels, or structures that do not lie as in a sagittal slice.
    """
    values = known_values(labels) if values is None else values
    structures = {key: np.isin(labels, list(values.get(key, ()))) for key in STRUCTURES}
    if not structures[VERTEBRAE].any():
        raise ValueError(f"no vertebrae are labelled (labels {_listed(labels)})")
    index, remarks = find_midsagittal(structures)
    plane = SpineSlice.of_labels(labels[:, :, index], spacing[:2], values)
    levels = find_levels(plane)
    shapes = measure_shapes(plane, levels)
    table, about = table_of(levels, shapes, name), None
    if samples is not None:
        drawn = samples.take(index)
        masks = (SpineSlice.of_labels(one, spacing[:2], values) for one in drawn)
        table = with_intervals(table, measure_samples(masks, levels))
        table, about = intervals_said(table, len(drawn) // samples.folds, samples.calibration)
    report = {
        "slice": index,
        "slices": int(labels.shape[2]),
        "remarks": [*remarks, *_said(levels)],
        "levels_doubt": levels.doubts,
        "vertebrae": [vertebra_name(n) for n in levels.bodies],
        "discs": [disc_name(n) for n in levels.discs],
        "interval": about,
        "measurements": as_json(table),
    }
    landmarks = find_landmarks(levels, shapes, plane.spacing)
    volume = levels_in_volume(structures, levels.labels, index, spacing)
    return MeasuredVolume(volume, table, report, landmarks, index)


def as_json(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The table's rows without the scan, None for what is not known."""
    kept = table.drop(columns="scan").astype(object)
    return kept.where(kept.notna(), None).to_dict("records")


def _said(levels: Levels) -> list[str]:
    said = [f"{name}: {text}" for name, texts in levels.remarks.items() for text in texts]
    if levels.scraps:
        said.append(f"{len(levels.scraps)} piece(s), {sum(levels.scraps):.0f} mm2 in all, belong to no level")
    return said


def _listed(labels: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in np.unique(labels)[:8])
