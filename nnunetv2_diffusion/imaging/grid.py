"""Voxel lattices: a scan's own, and the model's sagittal one (the grid of section 4.1's preprocessing).

Sizes and spacings of the sagittal plane are height (superior-inferior) first; SimpleITK's own tuples are (x, y, z).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

# nnU-Net slices along the axis of largest spacing: a single sagittal slice must be thicker than its pixels are wide.
MIN_THICKNESS_RATIO = 1.1


@dataclass(frozen=True)
class Grid:
    """A voxel lattice in patient space, in SimpleITK's conventions: (x, y, z), mm, LPS, row-major direction."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """The lattice of a 3-D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    def image(self, array: np.ndarray) -> sitk.Image:
        """An image on this grid from an array `[z, y, x]`; ValueError where its shape is not the grid's."""
        if array.shape != self.size[::-1]:
            raise ValueError(
                f"an array of shape {array.shape} does not fit a grid of shape {self.size[::-1]} (z, y, x)"
            )
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image


def to_ras(image: sitk.Image) -> sitk.Image:
    """The same voxels with axes x, y, z running (closest) to right, anterior, superior; nothing is interpolated."""
    return sitk.DICOMOrient(image, "RAS")


def central_sagittal_index(image_ras: sitk.Image) -> int:
    """The index of the central sagittal slice of a volume in RAS+ orientation: n // 2 from the left."""
    return image_ras.GetSize()[0] // 2


def sagittal_slice(image_ras: sitk.Image, index: int) -> sitk.Image:
    """Slice `index` (from the left) of a volume in RAS+ orientation: a 3-D image of size (1, y, z) in its own place."""
    slices = image_ras.GetSize()[0]
    if not 0 <= index < slices:
        raise ValueError(f"there is no sagittal slice {index}: the scan has {slices}, counted from 0 at the left")
    return image_ras[index : index + 1, :, :]


def model_grid(
    image_ras: sitk.Image, spacing: float | Sequence[float] = 1.0, size: int | Sequence[int] | None = None
) -> Grid:
    """The model's grid for a slice or volume in RAS+ orientation.

    The sagittal plane gets pixels of `spacing` millimetres (one number, or height and width) on a lattice centred in
    the field of view, and is cropped or padded about its centre to `size` pixels (one number, or height and width);
    `None` keeps the whole field of view. Slices stay where they are. All sizes share one lattice, so a crop of the
    whole field of view equals the grid of the smaller size. A single slice gets a nominal thickness of at least 1.1
    pixels (see MIN_THICKNESS_RATIO). ValueError for sizes or spacings that are not positive.
    """
    pixel = _pair(spacing, "spacing")[::-1]
    old_size, old_spacing = np.array(image_ras.GetSize()), np.array(image_ras.GetSpacing())
    new_spacing = np.array([old_spacing[0], *pixel], dtype=float)
    # The tolerance keeps a rounding error in the spacing from adding a pixel; one more never leaves the field of view.
    whole = np.maximum(1, np.ceil(old_size * old_spacing / new_spacing - 1e-3)).astype(int)
    new_size = np.array([old_size[0], *_pair(size, "size")[::-1]]).astype(int) if size is not None else whole
    first = (whole - new_size) // 2
    offset = ((old_size - 1) * old_spacing - (whole - 1) * new_spacing) / 2 + first * new_spacing
    direction = np.reshape(image_ras.GetDirection(), (3, 3))
    origin = np.asarray(image_ras.GetOrigin()) + direction @ offset
    if old_size[0] == 1:
        new_spacing[0] = max(new_spacing[0], MIN_THICKNESS_RATIO * max(pixel))
    return Grid(
        tuple(int(n) for n in new_size),
        tuple(float(s) for s in new_spacing),
        tuple(float(o) for o in origin),
        image_ras.GetDirection(),
    )


def _pair(value: float | Sequence[float], what: str) -> tuple[float, float]:
    """(height, width) from one number or two; ValueError where they are not positive."""
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) == 1:
        values = values * 2
    if len(values) != 2 or not all(np.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"{what} {value} is not one or two positive numbers (height and width in the sagittal plane)")
    return values
