"""SPIDER's label values become the three structures, and others are refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_diffusion.dataset_conversion.spider_labels import spider_to_labels


class TestLabels:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
    def test_every_value_of_spider(self, dtype):
        values = [0, *range(1, 26), 100, *range(101, 126), *range(201, 226)]
        expected = [0] + [2] * 25 + [1] + [2] * 25 + [3] * 25
        mask = sitk.GetImageFromArray(np.array(values, dtype=dtype).reshape(1, 7, 11))
        mask.SetOrigin((3, 4, 5))
        labels = spider_to_labels(mask)
        assert sitk.GetArrayFromImage(labels).ravel().tolist() == expected
        assert labels.GetPixelID() == sitk.sitkUInt8
        assert labels.GetOrigin() == (3, 4, 5)

    @pytest.mark.parametrize("value", [26, 99, 126, 200, 226, 255, 256, 300, -1, 1.5, float("nan"), float("inf")])
    def test_foreign_values(self, value):
        dtype = np.float32 if isinstance(value, float) else np.int16
        mask = sitk.GetImageFromArray(np.array([0, 1, value], dtype=dtype).reshape(1, 1, 3))
        with pytest.raises(ValueError, match=f"the value {value:g}, which is not SPIDER's"):
            spider_to_labels(mask)
