"""Files of masks in a folder, and masks as arrays: none is passed over or read short in silence."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.spider_samples import make_mask, make_scan, save
from nnunetv2_diffusion.imaging.volumes import check_same_grid, image_files, list_masks, read_volume


def test_files_of_a_folder(tmp_path):
    for name in ("b.nii.gz", "a.nii.gz", "._a.nii.gz", ".hidden.nii.gz", "a_uncertainty.nii.gz", "a.json", "c.nii"):
        (tmp_path / name).touch()
    (tmp_path / "d.nii.gz").mkdir()
    (tmp_path / "e.nii.gz").symlink_to(tmp_path / "nowhere")
    assert list(image_files(tmp_path, ".nii.gz")) == ["a", "a_uncertainty", "b", "e"]
    assert list_masks(tmp_path, ".nii.gz") == {case: tmp_path / f"{case}.nii.gz" for case in "abe"}
    with pytest.raises(FileNotFoundError, match="is no folder"):
        list_masks(tmp_path / "nowhere", ".nii.gz")


def test_as_an_array(tmp_path):
    mask = make_mask(make_scan())
    volume = read_volume(save(mask, tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(mask))
    np.testing.assert_allclose(volume.spacing, mask.GetSpacing()[::-1])
    assert volume.orientation == "PIR"
    assert volume.diagonal == pytest.approx(np.sqrt((24 * 1.5) ** 2 + (30 * 1.25) ** 2 + (5 * 4.0) ** 2))
    check_same_grid(volume, volume)


def test_truncated_inside_an_intact_gzip(tmp_path):
    """ITK would fill what is missing with zeros: background."""
    path = save(make_mask(make_scan()), tmp_path / "a.nii.gz")
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[: len(content) // 2]))
    with pytest.raises(ValueError, match=r"a\.nii\.gz cannot be read as an image: it is truncated"):
        read_volume(path)
