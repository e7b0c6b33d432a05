"""The grey scale that models see: section 4.1's clipping and scaling, for training and prediction alike."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.grid import Grid
from nnunetv2_diffusion.imaging.reading import as_scan

UPPER_PERCENTILE = 98.0
LOWER_PERCENTILE = 2.0
INTENSITY_MAX = 255.0


def normalize_intensity(image: sitk.Image) -> sitk.Image:
    """Clip at the scan's 98th percentile and scale to 0-255 (section 4.1); float32, same geometry.

    Zero stays zero: magnitude MRI has no negative values. Where a scan has them, the lower end is its 2nd percentile if
    that is negative, so that a few stray negative voxels do not move the scale. ValueError for more than one channel,
    NaN or infinite voxels, and a scan without contrast (constant, or zero up to its 98th percentile).
    """
    image = as_scan(image)
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("the image has NaN or infinite voxels: replace them by finite grey values")
    if array.min() == array.max():
        raise ValueError(f"the image is constant (every voxel is {array.flat[0]}): there is nothing to segment in it")
    low, high = np.percentile(array, (LOWER_PERCENTILE, UPPER_PERCENTILE))
    low = min(0.0, float(low))
    if high <= low:
        raise ValueError(f"the image is almost empty: its 98th percentile is {high:g}, so no grey scale can be set")
    scaled = (np.clip(array, low, high).astype(np.float64) - low) * (INTENSITY_MAX / (high - low))
    return Grid.of(image).image(scaled.astype(np.float32))
