"""A validated case's measurements beside its reference's: what errors are taken of, and intervals calibrated on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

from nnunetv2_diffusion.anatomy.instances import instance_dice
from nnunetv2_diffusion.anatomy.intervals import measure_samples, values_of, with_intervals
from nnunetv2_diffusion.anatomy.levels import find_levels
from nnunetv2_diffusion.anatomy.matching import match_levels
from nnunetv2_diffusion.anatomy.measurements import measure
from nnunetv2_diffusion.anatomy.midsagittal import check_sagittal, find_midsagittal
from nnunetv2_diffusion.anatomy.sample_masks import Samples, samples_beside
from nnunetv2_diffusion.anatomy.structures import SpineSlice, Values
from nnunetv2_diffusion.imaging.grid import Grid, to_ras
from nnunetv2_diffusion.imaging.reading import as_scan, read_image
from nnunetv2_diffusion.spider import STRUCTURES

REFERENCE, DRAWN = "reference", "drawn"


@dataclass(frozen=True)
class Comparison:
    """A case's mask beside its reference.

    Attributes:
        table: of `measures.COLUMNS`, and of `REFERENCE` (NaN where the reference has no such value) and `DRAWN`, how
            many samples there are.
        instances: `instances.instance_dice` of their levels.
        doubts: about the mask's count, see `levels.Levels`.
    """

    table: pd.DataFrame
    instances: pd.DataFrame
    doubts: list[str] = field(default_factory=list)


def compare_case(case: str, reference: Path, mask: Path, values: Values) -> Comparison:
    """A case's measurements, with intervals where samples lie beside the mask, and those of its reference.

    Both are measured in the mask's mid-sagittal slice. The reference's structures count as the mask's that they
    overlap, so that a count that starts a level too high is no error of every height.

    Args:
        case: its name, for the column scan.
        reference, mask: files on one grid.
        values: the labels of each structure.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, they lie on different grids, or one of the two
            cannot be measured; the message names the case.
    """
    images = [read_image(path).image for path in (mask, reference)]
    try:
        return _compared(case, *images, values, samples_beside(mask, case, images[0]))
    except ValueError as error:
        raise ValueError(f"{case} cannot be compared: {error}") from error


def _compared(
    case: str, mask: sitk.Image, reference: sitk.Image, values: Values, samples: Samples | None
) -> Comparison:
    volumes = [to_ras(as_scan(image)) for image in (mask, reference)]
    check_sagittal(volumes[0], "the mask")
    grids = [Grid.of(volume) for volume in volumes]
    if grids[0].size != grids[1].size or not np.allclose(grids[0].spacing, grids[1].spacing, rtol=1e-3):
        raise ValueError(f"mask and reference lie on different grids, {grids[0].size} and {grids[1].size} voxels")
    labels = [sitk.GetArrayFromImage(volume) for volume in volumes]
    index, _ = find_midsagittal({name: np.isin(labels[0], list(values.get(name, ()))) for name in STRUCTURES})
    spacing = grids[0].spacing[:0:-1]
    spines = [SpineSlice.of_labels(one[:, :, index], spacing, values) for one in labels]
    levels = find_levels(spines[0])
    table = measure(spines[0], levels, case)
    drawn = None if samples is None else samples.take(index)
    if drawn is not None:
        masks = (SpineSlice.of_labels(one, spacing, values) for one in drawn)
        table = with_intervals(table, measure_samples(masks, levels))
    true_levels = find_levels(spines[1])
    true = measure(spines[1], match_levels(true_levels, levels))
    table = table.assign(**{REFERENCE: values_of(table, [true])[0], DRAWN: 0 if drawn is None else len(drawn)})
    return Comparison(table, instance_dice(true_levels.labels, levels.labels), levels.doubts)
