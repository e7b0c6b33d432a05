"""Masks and maps as arrays, and checking that two of them lie on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.reading import read_image

UNCERTAINTY_SUFFIX = "_uncertainty"
SPACING_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Volume:
    """An image file: array `[z, y, x]` (or `[y, x]`), spacing in mm in the array's order, orientation code or None."""

    path: Path
    array: np.ndarray
    spacing: tuple[float, ...]
    orientation: str | None

    @property
    def diagonal(self) -> float:
        """Length in mm of the image's diagonal: no two of its voxels lie farther apart."""
        return float(np.linalg.norm(np.multiply(self.array.shape, self.spacing)))


def read_volume(path: str | Path) -> Volume:
    """Read an image of any dimension.

    Raises:
        FileNotFoundError, ValueError: as `reading.read_image`.
    """
    image = read_image(path).image
    orientation = None
    if image.GetDimension() == 3:
        orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    return Volume(Path(path), sitk.GetArrayFromImage(image), image.GetSpacing()[::-1], orientation)


def check_same_grid(image: Volume, reference: Volume) -> None:
    """Demand that `image` has `reference`'s shape, spacing and axis orientation.

    Raises:
        ValueError: they differ; the message names both files and both values.
    """
    remedy = "both must lie on the grid of the same scan"
    for what, ours, theirs in (
        ("shape", image.array.shape, reference.array.shape),
        ("orientation", image.orientation, reference.orientation),
    ):
        if ours != theirs:
            raise ValueError(f"{image.path} has {what} {ours}, but {reference.path} has {theirs}; {remedy}")
    if not np.allclose(image.spacing, reference.spacing, rtol=SPACING_TOLERANCE, atol=0):
        raise ValueError(
            f"{image.path} has spacing {_rounded(image.spacing)} mm, but {reference.path} has "
            f"{_rounded(reference.spacing)} mm; {remedy}"
        )


def image_files(folder: str | Path, file_ending: str) -> dict[str, Path]:
    """Name without the ending -> file of the images in a folder, sorted.

    Hidden files are none (macOS leaves a `._` beside each image); a link to nothing is one, so that its reader tells.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    files = [path for path in sorted(folder.iterdir()) if path.name.endswith(file_ending) and not path.is_dir()]
    return {path.name.removesuffix(file_ending): path for path in files if not path.name.startswith(".")}


def list_masks(folder: str | Path, file_ending: str) -> dict[str, Path]:
    """As `image_files`; uncertainty maps beside masks are passed over."""
    files = image_files(folder, file_ending)
    return {case: path for case, path in files.items() if not case.endswith(UNCERTAINTY_SUFFIX)}


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
