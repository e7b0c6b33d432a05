"""The samples of a mask: label maps of the slice that is measured, from memory or from the file beside the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.anatomy.conformal import Calibration
from nnunetv2_diffusion.imaging.grid import Grid, to_ras
from nnunetv2_diffusion.imaging.reading import as_scan, read_image
from nnunetv2_diffusion.nnunet_names import samples_file

_TOLERANCE = 1e-3  # mm, single precision of NIfTI


@dataclass(frozen=True)
class Samples:
    """Where a mask's samples come from.

    Attributes:
        take: gives, for the index of a sagittal slice of the volume in RAS+ orientation, their label maps [S, z, y].
        folds: that drew them, one after the other.
        calibration: of their model.
    """

    take: Callable[[int], np.ndarray]
    folds: int = 1
    calibration: Calibration | None = None


def samples_beside(mask: Path, case: str, image: sitk.Image) -> Samples | None:
    """The samples that `--save-samples` left for a mask; None where there are none.

    Args:
        mask: its file; the samples lie in the folder SAMPLES beside it.
        case: its name.
        image: what the mask's file holds.
    """
    file = samples_file(mask.parent, case)
    return Samples(partial(_slices, file, image)) if file.is_file() else None


def _slices(file: Path, image: sitk.Image, index: int) -> np.ndarray:
    """Slice `index` of every sample, [S, z, y].

    Raises:
        ValueError: the samples do not lie on the grid of their mask, or do not read.
    """
    drawn = read_image(file).image
    array, mask = sitk.GetArrayFromImage(drawn), as_scan(image)
    grid = Grid.of(mask)
    dimension = image.GetDimension()
    spacing = np.allclose(drawn.GetSpacing()[:dimension], image.GetSpacing(), rtol=0, atol=_TOLERANCE)
    if drawn.GetDimension() != dimension + 1 or drawn.GetSize()[:dimension] != image.GetSize() or not spacing:
        raise ValueError(f"{file} does not lie on the grid of its mask: predict both again with --save-samples")
    volumes = array.reshape(len(array), *grid.size[::-1])
    return np.stack([sitk.GetArrayFromImage(to_ras(grid.image(volume)))[:, :, index] for volume in volumes])
