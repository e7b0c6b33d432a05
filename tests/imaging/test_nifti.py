"""NIfTI files as disks and programs leave them: read right, refused by name, or read with a warning."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.grid import to_ras
from nnunetv2_diffusion.imaging.reading import read_image, read_scan

VOXELS = np.random.default_rng(8).integers(0, 900, (24, 30, 5)).astype(np.int16)
AFFINE = np.array([[0.0, 0.0, 4.0, -9.0], [-1.5, 0.0, 0.0, 20.0], [0.0, -1.25, 0.0, 31.0], [0.0, 0.0, 0.0, 1.0]])
# A NIfTI-1 header's fields by their offsets (nifti1.h).
DIM, DATATYPE, PIXDIM, VOX_OFFSET, QFORM_CODE, QUATERN_B, SFORM_X = 40, 70, 76, 108, 252, 256, 280


def write(
    path: Path,
    *,
    qform: np.ndarray | None = None,
    sform: np.ndarray | None = None,
    voxels: np.ndarray = VOXELS,
    kind: type = nibabel.Nifti1Image,
) -> Path:
    """A file with these orientations; a code of 0 for the one that is None."""
    image = kind(voxels, None)
    image.header.set_zooms((1.5, 1.25, 4.0, 1.0)[: voxels.ndim])
    image.set_qform(qform, 0 if qform is None else 1)
    image.set_sform(sform, 0 if sform is None else 2)
    nibabel.save(image, path)
    return path


def patched(path: Path, offset: int, value: bytes) -> Path:
    """Overwrite bytes of the header, in the file as it is unzipped."""
    zipped = path.suffix == ".gz"
    content = bytearray(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
    content[offset : offset + len(value)] = value
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path


def moved(millimetres: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += millimetres
    return affine


def sheared(share: float = 0.02) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 0] += share * affine[:3, 1]
    return affine


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"{re.escape(path.name)} cannot be read as an image: .*{reason}"):
        read_image(path)


def same_voxels(image: sitk.Image) -> bool:
    return np.array_equal(sitk.GetArrayFromImage(image), VOXELS.transpose(2, 1, 0))


class TestWhole:
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_as_nibabel_reads_it(self, tmp_path, name):
        reading = read_image(write(tmp_path / name, qform=AFFINE, sform=AFFINE))
        assert reading.warnings == []
        assert same_voxels(reading.image)
        ras = to_ras(reading.image)
        theirs = nibabel.as_closest_canonical(nibabel.load(tmp_path / name))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ras).transpose(2, 1, 0), theirs.get_fdata())
        np.testing.assert_allclose(ras.GetOrigin() * np.array([-1, -1, 1]), theirs.affine[:3, 3], atol=1e-4)

    def test_big_endian(self, tmp_path):
        image = nibabel.Nifti1Image(VOXELS, AFFINE, nibabel.Nifti1Header(endianness=">"))
        nibabel.save(image, tmp_path / "a.nii.gz")
        assert same_voxels(read_image(tmp_path / "a.nii.gz").image)

    def test_a_header_and_its_voxels_in_two_files(self, tmp_path):
        nibabel.save(nibabel.Nifti1Pair(VOXELS, AFFINE), tmp_path / "a.img")
        for name in ("a.img", "a.hdr"):
            assert same_voxels(read_image(tmp_path / name).image)
        content = (tmp_path / "a.img").read_bytes()
        (tmp_path / "a.img").write_bytes(content[: len(content) // 2])
        refused(tmp_path / "a.hdr", "truncated")
        (tmp_path / "a.img").unlink()
        refused(tmp_path / "a.hdr", r"a\.img, which belongs to it, is missing")

    def test_one_volume_of_a_series_is_a_scan(self, tmp_path):
        scan = read_scan(write(tmp_path / "a.nii.gz", qform=AFFINE, sform=AFFINE, voxels=VOXELS[..., None]))
        assert same_voxels(scan)
        write(tmp_path / "a.nii.gz", qform=AFFINE, voxels=np.stack([VOXELS] * 3, axis=-1))
        with pytest.raises(ValueError, match=r"a\.nii\.gz has 4 dimensions"):
            read_scan(tmp_path / "a.nii.gz")


class TestDamaged:
    @pytest.mark.parametrize("seed", range(20))
    def test_a_flipped_bit_of_a_zipped_file_never_changes_an_image_in_silence(self, tmp_path, seed):
        path = write(tmp_path / "a.nii.gz", qform=AFFINE, sform=AFFINE)
        content = bytearray(path.read_bytes())
        rng = np.random.default_rng(seed)
        content[rng.integers(20, len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        refused(path, "damaged or truncated")

    @pytest.mark.parametrize("missing", [1, 400, 7000])
    def test_truncated(self, tmp_path, missing):
        path = write(tmp_path / "a.nii", qform=AFFINE)
        path.write_bytes(path.read_bytes()[:-missing])
        refused(path, "truncated")

    @pytest.mark.parametrize(
        ("offset", "value", "reason"),
        [
            (0, struct.pack("<i", 349), "not an image file"),
            (DIM, struct.pack("<4h", 3, 30000, 30000, 30000), "30000 x 30000 x 30000, and more than"),
            (DIM, struct.pack("<4h", 3, 240, 300, 50), "truncated .7200 of 7200000 bytes"),
            (DIM, struct.pack("<4h", 3, 24, -30, 5), "24 x -30 x 5, expected positive"),
            (DIM, struct.pack("<h", 9), "not an image file"),
            (DATATYPE, struct.pack("<h", 9999), "wrong type of voxels"),
            (DATATYPE, struct.pack("<h", 64), "truncated"),
            (VOX_OFFSET, struct.pack("<f", 0), "puts its voxels at byte 0"),
            (VOX_OFFSET, struct.pack("<f", 1e6), "truncated"),
            (VOX_OFFSET, struct.pack("<f", float("nan")), "puts its voxels at byte nan"),
            (QUATERN_B, struct.pack("<3f", 3, 3, 3), "qform is no rotation"),
            (SFORM_X, struct.pack("<f", float("nan")), "sform holds NaN"),
        ],
    )
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_headers(self, tmp_path, name, offset, value, reason):
        only = {"sform": AFFINE} if offset == SFORM_X else {"qform": AFFINE}
        refused(patched(write(tmp_path / name, **only), offset, value), reason)

    def test_second_version(self, tmp_path):
        refused(write(tmp_path / "a.nii.gz", sform=AFFINE, kind=nibabel.Nifti2Image), "NIfTI-2")


class TestNames:
    def test_unzipped_but_named_gz(self, tmp_path):
        path = write(tmp_path / "a.nii", qform=AFFINE, sform=AFFINE).rename(tmp_path / "b.nii.gz")
        assert same_voxels(read_image(path).image)
        path.write_bytes(path.read_bytes()[:-100])
        refused(path, "truncated")

    def test_zipped_but_not_named_so(self, tmp_path):
        path = write(tmp_path / "a.nii.gz", qform=AFFINE, sform=AFFINE).rename(tmp_path / "b.nii")
        refused(path, r"gzip-compressed, but not named so: rename it to b\.nii\.gz")


class TestOrientation:
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_sheared(self, tmp_path, name):
        # the first axis is 1.5 mm long and leans by 2 % of the second one's 1.25 mm
        angle = 90 - np.degrees(np.arctan(0.02 * 1.25 / 1.5))
        refused(write(tmp_path / name, sform=sheared()), f"its sform is sheared .axes {angle:.1f} degrees apart")

    def test_sheared_beside_a_good_qform(self, tmp_path):
        reading = read_image(write(tmp_path / "a.nii.gz", qform=AFFINE, sform=sheared()))
        assert same_voxels(reading.image)
        assert "the qform is used" in reading.warnings[0]

    @pytest.mark.parametrize("code", [1, 2])
    def test_two_forms_that_differ(self, tmp_path, code):
        """ITK takes the sform where its code is 1 (scanner), else the qform; the warning says what it took."""
        path = write(tmp_path / "a.nii.gz", qform=AFFINE, sform=moved(20))
        patched(path, QFORM_CODE + 2, struct.pack("<h", code))
        reading = read_image(path)
        x = -reading.image.GetOrigin()[0]
        used = {-9.0: "qform", 11.0: "sform"}[round(x, 3)]
        other = {"qform": "sform", "sform": "qform"}[used]
        assert reading.warnings == [
            f"the file's qform and sform are up to 20.0 mm apart: the {used} is used, and programs that read the "
            f"{other} see the results elsewhere"
        ]

    @pytest.mark.parametrize(("millimetres", "told"), [(0.0, False), (0.05, False), (0.2, True)])
    def test_rounding_is_no_difference(self, tmp_path, millimetres, told):
        reading = read_image(write(tmp_path / "a.nii.gz", qform=AFFINE, sform=moved(millimetres)))
        assert bool(reading.warnings) == told

    def test_forms_that_turn_against_each_other(self, tmp_path):
        """Apart by the distance of the farthest corner: 23 voxels of 1.5 mm, turned by 1 degree, and so on."""
        turn = np.radians(1)
        turned = np.eye(4)
        turned[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
        corners = np.array([[i, j, k, 1] for i in (0, 23) for j in (0, 29) for k in (0, 4)]).T
        expected = np.linalg.norm(((turned @ AFFINE - AFFINE) @ corners)[:3], axis=0).max()
        reading = read_image(write(tmp_path / "a.nii.gz", qform=AFFINE, sform=turned @ AFFINE))
        assert f"up to {expected:.1f} mm apart" in reading.warnings[0]

    @pytest.mark.parametrize(
        ("forms", "sides"),
        [
            ({}, "left, posterior, superior"),
            ({"sform": np.eye(4)}, "right, anterior, superior"),
            ({"qform": np.eye(4), "sform": np.eye(4)}, "right, anterior, superior"),
        ],
    )
    def test_none_at_all(self, tmp_path, forms, sides):
        reading = read_image(write(tmp_path / "a.nii.gz", **forms))
        assert reading.warnings == [
            f"the file records no orientation: its axes are taken to run to {sides}; check that left is left"
        ]
        ras = to_ras(reading.image)  # the sentence is true
        flipped = [slice(None, None, -1 if side in ("left", "posterior") else 1) for side in sides.split(", ")]
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ras).transpose(2, 1, 0), VOXELS[tuple(flipped)])

    @pytest.mark.parametrize("form", ["qform", "sform"])
    def test_a_flat_image_with_a_place_in_three_dimensions(self, tmp_path, form):
        path = write(tmp_path / "a.nii.gz", **{form: AFFINE}, voxels=VOXELS[:, :, 0])
        refused(path, "2-D slice that its header places in three dimensions: save it as a volume of one slice")

    def test_a_flat_image_without_one(self, tmp_path):
        picture = sitk.GetImageFromArray(VOXELS[:, :, 0].T.copy())
        picture.SetSpacing((0.5, 0.75))
        sitk.WriteImage(picture, str(tmp_path / "a.nii.gz"))
        reading = read_image(tmp_path / "a.nii.gz")
        assert reading.warnings == [] and reading.image.GetDimension() == 2
