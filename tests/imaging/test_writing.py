"""Images are written whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.spider_samples import files_of, make_scan, read
from nnunetv2_diffusion.imaging.writing import write_image


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.nii.gz"])
def test_compressed_and_whole(tmp_path: Path, name: str):
    scan = sitk.Cast(make_scan(), sitk.sitkInt16)
    write_image(scan, tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name), sitk.GetArrayFromImage(scan))
    assert (tmp_path / name).stat().st_size < sitk.GetArrayFromImage(scan).nbytes
    assert files_of(tmp_path) == [name]


def test_partial_file_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    plain = sitk.WriteImage
    monkeypatch.setattr(sitk, "WriteImage", lambda image, path, **more: (seen.append(path), plain(image, path, **more)))
    (tmp_path / "partial").mkdir()
    write_image(make_scan(), tmp_path / "a.nii.gz", partial_folder=tmp_path / "partial")
    assert [Path(path).parent.name for path in seen] == ["partial"]
    assert files_of(tmp_path) == ["a.nii.gz"]


def test_what_cannot_be_written_leaves_the_older_file(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"older")
    with pytest.raises(OSError, match=r"a\.png cannot be written: is the disk full or the folder read-only\?"):
        write_image(make_scan(), tmp_path / "a.png")  # a picture holds no floats
    assert (tmp_path / "a.png").read_bytes() == b"older"
    assert files_of(tmp_path) == ["a.png"]


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.nii.gz", "a.nii"])
def test_a_disk_that_is_full_meanwhile(tmp_path: Path, name: str):
    """Files may grow to 4000 bytes in this process: ITK says nothing where a NIfTI file is cut there."""
    code = (
        "import resource, sys\nimport numpy as np\nimport SimpleITK as sitk\n"
        "from nnunetv2_diffusion.imaging.writing import write_image\n"
        "image = sitk.GetImageFromArray(np.random.default_rng(0).random((20, 30, 40)))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "try: write_image(image, sys.argv[1])\nexcept OSError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / name)]
    output = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    assert output == f"{tmp_path / name} cannot be written: is the disk full or the folder read-only?\n"
    assert files_of(tmp_path) == []
