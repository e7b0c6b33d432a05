"""Images and masks from one grid to another, to the model's and back."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.grid import Grid

_INTERPOLATORS = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
# Halving a pixel spacing puts every new pixel midway between two old ones; a nudge makes all of them choose alike.
_TIE_BREAK_MM = 1e-4


def resample_to_grid(
    image: sitk.Image, grid: Grid, interpolator: str = "linear", default_value: float = 0
) -> sitk.Image:
    """`image` at the voxel centres of `grid`; `default_value` outside of it, the pixel type kept.

    `interpolator` is "linear" (images) or "nearest" (masks).
    """
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(_INTERPOLATORS[interpolator])
    resampler.SetDefaultPixelValue(default_value)
    if interpolator == "nearest":
        nudge = np.reshape(grid.direction, (3, 3)) @ np.full(3, _TIE_BREAK_MM)
        resampler.SetTransform(sitk.TranslationTransform(3, nudge.tolist()))
    return resampler.Execute(image)


def resample_to_image(
    mask_or_map: sitk.Image, reference_image: sitk.Image, interpolator: str = "nearest", default_value: float = 0
) -> sitk.Image:
    """A mask or map on the model's grid, put back on the scan's own grid; `default_value` where it says nothing.

    A single slice fills exactly the slice of the scan that it was taken from: its nominal thickness is disregarded.
    """
    if mask_or_map.GetSize()[0] == 1:
        mask_or_map = _with_thickness_of(mask_or_map, reference_image)
    return resample_to_grid(mask_or_map, Grid.of(reference_image), interpolator, default_value)


def _with_thickness_of(slice_ras: sitk.Image, reference_image: sitk.Image) -> sitk.Image:
    """A copy of a one-slice image as thick as the scan's slices are apart along the scan's closest axis."""
    slice_ras = sitk.Image(slice_ras)
    normal = np.reshape(slice_ras.GetDirection(), (3, 3))[:, 0]
    axis = int(np.argmax(np.abs(normal @ np.reshape(reference_image.GetDirection(), (3, 3)))))
    slice_ras.SetSpacing((reference_image.GetSpacing()[axis], *slice_ras.GetSpacing()[1:]))
    return slice_ras
