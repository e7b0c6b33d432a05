"""Section 4.1's grey scale against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.spider_samples import (
    make_scan,
)
from nnunetv2_diffusion.imaging.grid import Grid
from nnunetv2_diffusion.imaging.intensity import normalize_intensity


def image_with(array: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(array, isVector=False)


def array_of(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


class TestNormalizeIntensity:
    def test_clips_at_98th_percentile_and_scales_to_255(self):
        array = np.random.default_rng(0).integers(0, 2000, (5, 20, 30)).astype(np.int16)
        scan = make_scan(size=(30, 20, 5))
        filled = image_with(array)
        filled.CopyInformation(scan)
        result = normalize_intensity(filled)
        ordered = np.sort(array.ravel().astype(np.float64))
        position = 0.98 * (array.size - 1)
        low, high = ordered[int(np.floor(position))], ordered[int(np.ceil(position))]
        percentile = low + (position - np.floor(position)) * (high - low)
        expected = np.minimum(array, percentile) / percentile * 255
        assert result.GetPixelID() == sitk.sitkFloat32
        np.testing.assert_allclose(array_of(result), expected, atol=1e-4)
        assert Grid.of(result) == Grid.of(scan)

    def test_stray_negative_voxels_do_not_move_the_scale(self):
        array = np.full((10, 10, 10), 100, dtype=np.float32)
        array[:5] = 50
        array[0, 0, 0] = -10000
        result = array_of(normalize_intensity(image_with(array)))
        assert result[0, 0, 0] == 0
        assert result[9, 9, 9] == 255
        assert result[1, 1, 1] == pytest.approx(127.5)

    def test_scans_with_negative_values_keep_their_contrast(self):
        array = np.linspace(-3, 3, 1000, dtype=np.float32).reshape(10, 10, 10)
        result = array_of(normalize_intensity(image_with(array))).ravel()
        low, high = np.percentile(array, (2, 98))
        np.testing.assert_allclose(result, (np.clip(array.ravel(), low, high) - low) / (high - low) * 255, atol=1e-3)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((4, 5, 6)), "constant"),
            (np.full((4, 5, 6), 7, dtype=np.int16), "constant"),
            (np.where(np.arange(120).reshape(4, 5, 6) < 1, 9, 0), "98th percentile is 0"),
            (np.where(np.arange(120.0).reshape(4, 5, 6) < 1, np.nan, 1.0), "NaN"),
            (np.where(np.arange(120.0).reshape(4, 5, 6) < 1, np.inf, 1.0), "NaN or infinite"),
            (np.random.default_rng(0).random((3, 4, 5, 6)), "dimensions"),
        ],
    )
    def test_bad_scans(self, array, message):
        with pytest.raises(ValueError, match=message):
            normalize_intensity(image_with(array))

    def test_colour_is_refused(self):
        with pytest.raises(ValueError, match="one grey value a voxel"):
            normalize_intensity(sitk.GetImageFromArray(np.ones((4, 5, 6, 3)), isVector=True))
