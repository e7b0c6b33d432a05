"""The reader of images: what it returns, and what it refuses."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from helpers.spider_samples import (
    make_scan,
    save,
)
from nnunetv2_diffusion.imaging.grid import to_ras
from nnunetv2_diffusion.imaging.reading import as_scan, read_scan


def array_of(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


class TestReadScan:
    @pytest.mark.parametrize("name", ["scan.mha", "scan.nrrd", "scan.nii", "scan.nii.gz"])
    def test_reads_what_was_written(self, tmp_path, name):
        scan = make_scan()
        result = read_scan(save(scan, tmp_path / name))
        np.testing.assert_array_equal(array_of(result), array_of(scan))
        np.testing.assert_allclose(result.GetDirection(), scan.GetDirection(), atol=1e-6)

    @pytest.mark.parametrize("name", ["scan.mha", "scan.nrrd", "scan.nii", "scan.nii.gz"])
    @pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
    def test_truncated(self, tmp_path, name, keep):
        path = save(make_scan(), tmp_path / name)
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
        with pytest.raises(ValueError, match=rf"{name} cannot be read as an image"):
            read_scan(path)

    def test_truncated_inside_an_intact_gzip(self, tmp_path):
        path = save(make_scan(), tmp_path / "scan.nii.gz")
        content = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(content[: len(content) // 2]))
        with pytest.raises(ValueError, match="truncated"):
            read_scan(path)

    def test_scaled_nifti_is_not_taken_for_truncated(self, tmp_path):
        image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
        image.header.set_slope_inter(0.5, 1.0)
        nibabel.save(image, tmp_path / "scaled.nii")
        result = read_scan(tmp_path / "scaled.nii")
        expected = nibabel.load(tmp_path / "scaled.nii").get_fdata()
        np.testing.assert_allclose(array_of(result).transpose(2, 1, 0), expected, rtol=1e-6)

    def test_missing_and_folder(self, tmp_path):
        for path in (tmp_path / "none.mha", tmp_path):
            with pytest.raises(FileNotFoundError, match="does not exist or is not a file"):
                read_scan(path)

    def test_text_file(self, tmp_path: Path):
        (tmp_path / "notes.mha").write_text("not an image")
        with pytest.raises(ValueError, match="not an image file"):
            read_scan(tmp_path / "notes.mha")

    def test_a_single_time_point_is_a_scan(self):
        scan = make_scan()
        assert as_scan(sitk.JoinSeries(scan)).GetSize() == scan.GetSize()

    def test_pictures_become_a_sagittal_slice(self, tmp_path):
        array = np.arange(30, dtype=np.uint8).reshape(5, 6)
        picture = sitk.GetImageFromArray(array)
        picture.SetSpacing((0.5, 0.75))
        scan = read_scan(save(picture, tmp_path / "slice.png"))
        assert scan.GetSize() == (6, 5, 1)
        ras = to_ras(scan)
        assert ras.GetSize() == (1, 6, 5)
        # In RAS+ the first row of the array is the lowest one, the first column the most posterior one.
        np.testing.assert_array_equal(array_of(ras)[:, :, 0], array[::-1, ::-1])
        np.testing.assert_allclose(ras.GetSpacing()[1:], (0.5, 0.75), rtol=1e-3)


class TestNames:
    def test_a_name_that_is_not_utf_8(self, tmp_path):
        """Given to ITK, it would end the process."""
        save(make_scan(), tmp_path / "a.mha").rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/sc\xe4n.mha")))
        (path,) = tmp_path.iterdir()
        with pytest.raises(ValueError, match=r"sc\\xe4n\.mha has a name that is not UTF-8: rename it"):
            read_scan(path)

    def test_other_letters(self, tmp_path):
        path = save(make_scan(), tmp_path / "Wirbelsäule 脊椎.nii.gz")
        np.testing.assert_array_equal(array_of(read_scan(path)), array_of(make_scan()))

    def test_links(self, tmp_path):
        save(make_scan(), tmp_path / "a.mha")
        (tmp_path / "good.mha").symlink_to(tmp_path / "a.mha")
        (tmp_path / "lost.mha").symlink_to(tmp_path / "nowhere.mha")
        np.testing.assert_array_equal(array_of(read_scan(tmp_path / "good.mha")), array_of(make_scan()))
        with pytest.raises(FileNotFoundError, match=r"lost\.mha is a link to .*nowhere\.mha, which does not exist"):
            read_scan(tmp_path / "lost.mha")
