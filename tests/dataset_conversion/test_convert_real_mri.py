"""Real lumbar MRI through the converter: label values, agreement with the source in space, nnU-Net's own check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_diffusion import cli
from nnunetv2_diffusion.dataset_conversion.Dataset501_SPIDER import Conversion, convert


def convert_all(root: Path, modality: str, out: Path, **options) -> Conversion:
    result = convert(root, modality, out=out, processes=2, **options)
    assert not result.failures
    return result


@pytest.fixture(scope="module")
def t2w(real_mri, tmp_path_factory) -> Conversion:
    return convert_all(real_mri / "spider_layout", "T2w", tmp_path_factory.mktemp("T2w"))


@pytest.fixture(scope="module")
def both(real_mri, tmp_path_factory) -> Conversion:
    return convert_all(real_mri / "spider_layout", "T1wT2w", tmp_path_factory.mktemp("T1wT2w"))


@pytest.fixture(scope="module")
def crop(real_mri, tmp_path_factory) -> Conversion:
    return convert_all(real_mri / "all_structures_crop", "T2w", tmp_path_factory.mktemp("crop"), size=(96, 112))


def pair_of(result: Conversion, case: str) -> tuple[sitk.Image, sitk.Image]:
    image = sitk.ReadImage(str(result.folder / "imagesTr" / f"{case}_0000.nii.gz"))
    return image, sitk.ReadImage(str(result.folder / "labelsTr" / f"{case}.nii.gz"))


def structures(result: Conversion, case: str) -> set[int]:
    return set(np.unique(sitk.GetArrayFromImage(pair_of(result, case)[1])).tolist())


class TestLabels:
    def test_vertebrae_or_discs_as_annotated(self, t2w):
        discs = {"SPIDER_211_t2", "SPIDER_220_t2", "SPIDER_242_t2"}
        assert len(t2w.records) == 18
        for record in t2w.records:
            assert structures(t2w, record.case) == ({0, 3} if record.case in discs else {0, 2})

    def test_all_structures(self, crop):
        assert structures(crop, "SPIDER_301_t2") == {0, 1, 2, 3}

    def test_both_contrasts(self, both):
        cases = [record.case for record in both.records]
        assert len(cases) == 21
        assert {case for case in cases if case.endswith("t1")} == {"SPIDER_001_t1", "SPIDER_002_t1", "SPIDER_003_t1"}
        for split in json.loads((both.folder / "splits_final.json").read_text()):
            assert not {case[:10] for case in split["train"]} & {case[:10] for case in split["val"]}


class TestGeometry:
    @pytest.mark.parametrize("case", ["SPIDER_002_t2", "SPIDER_118_t2", "SPIDER_211_t2", "SPIDER_301_t2"])
    def test_slice_and_label_coincide_with_the_source_scan(self, real_mri, t2w, crop, case):
        result, folder = (crop, "all_structures_crop") if case == "SPIDER_301_t2" else (t2w, "spider_layout")
        name = f"{int(case[7:10])}_t2.mha"
        scan = sitk.ReadImage(str(real_mri / folder / "images" / name))
        mask = sitk.ReadImage(str(real_mri / folder / "masks" / name))
        image, label = pair_of(result, case)
        assert image.GetSize()[0] == 1
        assert image.GetSpacing()[0] > image.GetSpacing()[1] == 1
        array = sitk.GetArrayFromImage(scan)
        percentile = np.percentile(array, 98)
        normalized = sitk.GetImageFromArray(np.minimum(array, percentile) * (255 / percentile))
        normalized.CopyInformation(scan)
        rng = np.random.default_rng(0)
        checked = 0
        for y, z in rng.integers(0, image.GetSize()[1:], (2000, 2)).tolist():
            point = image.TransformIndexToPhysicalPoint((0, y, z))
            index = scan.TransformPhysicalPointToContinuousIndex(point)
            if not all(0 <= i <= n - 1 for i, n in zip(index[:2], scan.GetSize()[:2], strict=True)):
                assert (image[0, y, z], label[0, y, z]) == (0, 0) or min(index[:2]) > -0.5
                continue
            assert image[0, y, z] == pytest.approx(normalized.EvaluateAtPhysicalPoint(point, sitk.sitkLinear), abs=0.05)
            value = mask[[round(i) for i in index]]
            if all(abs(i % 1 - 0.5) > 0.01 for i in index):
                assert label[0, y, z] == (0 if value == 0 else 1 if value == 100 else 2 if value < 126 else 3)
            checked += 1
        assert checked > 500

    def test_central_slice(self, real_mri, t2w):
        scan = sitk.ReadImage(str(real_mri / "spider_layout" / "images" / "118_t2.mha"))
        image, _ = pair_of(t2w, "SPIDER_118_t2")
        index = scan.TransformPhysicalPointToContinuousIndex(image.TransformIndexToPhysicalPoint((0, 160, 160)))
        assert scan.GetSize()[2] == 19
        assert index[2] == pytest.approx(9, abs=1e-4)

    def test_volumes_contain_the_2d_cases(self, real_mri, t2w, tmp_path):
        volumes = convert_all(real_mri / "spider_layout", "T2w", tmp_path, dimension="3d", patients="6,118")
        for case in ("SPIDER_006_t2", "SPIDER_118_t2"):
            whole = pair_of(volumes, case)
            assert whole[0].GetSpacing() == pytest.approx((4, 1, 1))
            for flat, volume in zip(pair_of(t2w, case), whole, strict=True):
                top, left = ((volume.GetSize()[axis] - 320) // 2 for axis in (2, 1))
                array = sitk.GetArrayFromImage(volume)[:, :, volume.GetSize()[0] // 2]
                padded = np.pad(array, [(max(0, -top),) * 2, (max(0, -left),) * 2])
                top, left = max(0, top), max(0, left)
                expected = padded[top : top + 320, left : left + 320]
                np.testing.assert_allclose(sitk.GetArrayFromImage(flat)[:, :, 0], expected, atol=1e-3)


class TestNnunet:
    @pytest.mark.parametrize("fixture", ["both", "crop"])
    def test_verify_dataset_integrity(self, fixture, request, capsys):
        verify = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity").verify_dataset_integrity
        verify(str(request.getfixturevalue(fixture).folder), num_processes=1)
        output = capsys.readouterr().out
        assert "verify_dataset_integrity Done" in output
        assert "mismatch" not in output


def test_the_command_of_the_readme(real_mri, tmp_path, capsys):
    arguments = ["--modality", "T2w", "--size", "128", "--spacing", "2.5", "--patients", "1-114", "-np", "2"]
    assert cli.main(["convert", str(real_mri / "spider_layout"), *arguments, "--out", str(tmp_path)]) == 0
    assert "Dataset502_SPIDER_T2w: 12 cases" in capsys.readouterr().out
    image = sitk.ReadImage(str(tmp_path / "Dataset502_SPIDER_T2w" / "imagesTr" / "SPIDER_114_t2_0000.nii.gz"))
    assert image.GetSize() == (1, 128, 128)
    assert image.GetSpacing() == pytest.approx((4, 2.5, 2.5))
