"""DICOM by geometry: whatever the files are called and in whatever order they lie, the same volume."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from helpers.dicom_samples import (
    OBLIQUE,
    SAGITTAL,
    gdcm_volume,
    noise_volume,
    orientation,
    read_best,
    same_volume,
    setting,
    write_series,
)
from nnunetv2_diffusion.scans.dicom import choose_series, find_series, read_series
from nnunetv2_diffusion.scans.sources import find_scans

AXIAL = np.eye(3)


@pytest.mark.parametrize("direction", [SAGITTAL, OBLIQUE, AXIAL], ids=["sagittal", "oblique", "axial"])
def test_clean_series_equals_its_source_and_gdcm(tmp_path, direction):
    volume = noise_volume(direction=direction)
    found, warnings = read_best(write_series(tmp_path / "s", volume))
    assert same_volume(found, volume) and same_volume(found, gdcm_volume(tmp_path / "s")) and warnings == []
    assert found.GetPixelID() == sitk.sitkInt16 and not found.GetMetaDataKeys()


def test_real_scans_equal_gdcm(real_mri, tmp_path):
    files = sorted((real_mri / "spider_layout" / "images").glob("*.mha"))[::7]
    assert len(files) == 3
    for file in files:
        folder = write_series(tmp_path / file.stem, sitk.Cast(sitk.ReadImage(str(file)), sitk.sitkInt16))
        assert same_volume(read_best(folder)[0], gdcm_volume(folder))


def test_rounded_header_equals_gdcm(tmp_path):
    """Archives round; the row is made perpendicular to the column again, and slices run along the normal."""
    volume = noise_volume(direction=OBLIQUE)

    def rounded(header: Dataset, k: int) -> None:
        header.ImagePositionPatient = [round(float(x), 2) for x in header.ImagePositionPatient]
        header.ImageOrientationPatient = [round(float(x), 3) for x in header.ImageOrientationPatient]

    found, warnings = read_best(write_series(tmp_path / "s", volume, rounded))
    assert same_volume(found, gdcm_volume(tmp_path / "s")) and warnings == []
    assert same_volume(found, volume, 0.01)


def test_orientations_within_rounding_are_one(tmp_path):
    volume = noise_volume(direction=OBLIQUE)
    jitter = np.random.default_rng(1).uniform(-5e-4, 5e-4, (7, 6))
    shaken = setting(ImageOrientationPatient=lambda k: list(np.array(orientation(volume)) + jitter[k]))
    found, warnings = read_best(write_series(tmp_path / "s", volume, shaken))
    assert same_volume(found, volume, 2e-3) and warnings == []


def test_shuffled_and_renamed_files_give_the_same_volume(tmp_path):
    """50 random orders, names, subfolders and instance numbers of one series."""
    volume = noise_volume(direction=OBLIQUE)
    source = write_series(tmp_path / "s", volume)
    expected, _ = read_best(source)
    random = np.random.default_rng(3)
    for turn in range(50):
        folder = tmp_path / f"turn{turn}"
        for file, number in zip(sorted(source.iterdir()), random.permutation(7), strict=True):
            place = folder / random.choice(["", "a", "b/c"])
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place / f"{number:03d}{random.choice(['', '.dcm', '.IMA'])}")
        found, warnings = read_best(folder)
        assert same_volume(found, expected, 0) and warnings == []


@pytest.mark.parametrize("numbers", [lambda k: 7 - k, lambda k: 1, lambda k: (3 * k) % 7], ids=["down", "one", "mixed"])
def test_instance_numbers_say_nothing(tmp_path, numbers):
    volume = noise_volume()
    assert same_volume(read_best(write_series(tmp_path, volume, setting(InstanceNumber=numbers)))[0], volume)


def test_two_echoes_under_one_uid(tmp_path):
    volume, other = noise_volume(), noise_volume(seed=1)
    write_series(tmp_path / "s", volume)
    apart = setting(EchoTime=12, InstanceNumber=lambda k: 100 + k, SOPInstanceUID=lambda k: f"1.2.9.{k}")
    write_series(tmp_path / "s", other, apart, name="echo{:02d}.dcm".format)
    found, warnings = read_best(tmp_path / "s")
    assert same_volume(found, volume)
    assert warnings == [
        "of the DICOM series 7 sagittal T2 images (echo time 100) are segmented, and not 7 sagittal images "
        "(echo time 12)"
    ]
    series = find_series(tmp_path / "s")
    assert [s.label for s in series] == ["6.1", "6.2"]
    for label, expected in (("6.1", other), ("6.2", volume)):
        chosen, _ = choose_series(series, label)
        assert [s.label for s in chosen] == [label] and same_volume(read_series(chosen[0])[0], expected)
    assert [s.contrast for s in choose_series(series, "6")[0]] == ["T2"]
    assert [s.label for s in choose_series(series, "all")[0]] == ["6.1", "6.2"]


@pytest.mark.parametrize(
    "apart",
    [
        {"EchoNumbers": 2},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
        {"TemporalPositionIdentifier": 2},
        {"AcquisitionNumber": 2},
        {"SequenceName": "ep_b1000"},
        {"AcquisitionTime": "101112"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_kinds_of_frames_are_kept_apart(tmp_path, apart):
    first = {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], "AcquisitionTime": "101010"}
    plain = {keyword: first.get(keyword, 1 if isinstance(value, int) else "ep_b0") for keyword, value in apart.items()}
    volume, other = noise_volume(), noise_volume(seed=1)
    write_series(tmp_path, volume, setting(**plain))
    write_series(tmp_path, other, setting(**apart, SOPInstanceUID=lambda k: f"1.2.9.{k}"), name="o{}.dcm".format)
    found = [read_series(series)[0] for series in find_series(tmp_path)]
    assert len(found) == 2
    assert {tuple(same_volume(one, given) for given in (volume, other)) for one in found} == {
        (True, False),
        (False, True),
    }


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier", "EchoTime", "TriggerTime"])
def test_a_value_that_numbers_the_slices_is_no_kind(tmp_path, keyword):
    volume = noise_volume()
    assert same_volume(read_best(write_series(tmp_path, volume, setting(**{keyword: lambda k: 10 + k})))[0], volume)


def test_interleaved_acquisitions_are_one_stack(tmp_path):
    """Two concatenations: even slices first, then odd ones."""
    volume = noise_volume()
    folder = write_series(tmp_path, volume, setting(AcquisitionNumber=lambda k: 1 + k % 2))
    assert same_volume(read_best(folder)[0], volume)
    (folder / "001.dcm").unlink()
    found, warnings = read_best(folder)
    assert found.GetSize()[2] == 6 and warnings[0].startswith("slices are missing")


def test_stray_slice_of_another_orientation(tmp_path):
    volume = noise_volume()
    write_series(tmp_path, volume)
    stray = setting(ImageOrientationPatient=[1, 0, 0, 0, 1, 0], SOPInstanceUID="1.2.9")
    write_series(tmp_path, volume, stray, slices=[0], name="zz{}.dcm".format)
    found, warnings = read_best(tmp_path)
    assert same_volume(found, volume)
    assert warnings == ["of the DICOM series 7 sagittal T2 images are segmented, and not 1 axial T2 images"]


@pytest.mark.parametrize("change", [{"Rows": 8}, {"PixelSpacing": [0.6, 0.75]}], ids=["matrix", "spacing"])
def test_stray_slice_of_another_size(tmp_path, change):
    volume = noise_volume()
    write_series(tmp_path, volume)
    write_series(tmp_path, volume, setting(**change, SOPInstanceUID="1.2.9"), slices=[3], name="zz{}.dcm".format)
    assert same_volume(read_best(tmp_path)[0], volume)
    assert [len(s.slices) for s in find_series(tmp_path)] == [7, 1]


def test_blocks_of_different_angle(tmp_path):
    """Axial blocks along the discs of the lumbar spine, one series: a stack each; the largest is first."""
    blocks = []
    for number, (angle, slices) in enumerate(((20, 4), (8, 6), (-12, 5))):
        direction = Rotation.from_euler("x", angle, degrees=True).as_matrix()
        block = noise_volume((11, 9, slices), direction, origin=(0, 5.0 * number, 40.0 * number), seed=number)
        instance = setting(SOPInstanceUID=lambda k, n=number: f"1.2.9.{n}.{k}", SeriesDescription="T2 TRA")
        write_series(tmp_path, block, instance, name=f"{number}_{{}}.dcm".format)
        blocks.append(block)
    series = find_series(tmp_path)
    assert [len(s.slices) for s in series] == [6, 5, 4]
    for found, block in zip(series, (blocks[1], blocks[2], blocks[0]), strict=True):
        assert same_volume(read_series(found)[0], block)


def test_parallel_blocks(tmp_path):
    """Shifted sideways they are told apart by their place; one behind the other by their acquisition."""
    below = noise_volume(origin=(12.5, -31.25, 18.75), seed=1)
    behind = noise_volume(origin=(12.5 - 7 * 4 - 20, -31.25, 58.75), seed=2)
    write_series(tmp_path, noise_volume(), setting(AcquisitionNumber=1))
    for number, block in enumerate((below, behind)):
        change = setting(AcquisitionNumber=2, SOPInstanceUID=lambda k, n=number: f"1.2.9.{n}.{k}")
        write_series(tmp_path, block, change, name=f"{number}_{{}}.dcm".format)
    found = [read_series(series)[0] for series in find_series(tmp_path)]
    assert len(found) == 3
    for block in (noise_volume(), below, behind):
        assert sum(same_volume(one, block) for one in found) == 1


class TestSamePlaceTwice:
    def test_copies_are_left_out(self, tmp_path):
        volume = noise_volume()
        write_series(tmp_path / "s", volume)
        shutil.copytree(tmp_path / "s", tmp_path / "s" / "copy")
        found, warnings = read_best(tmp_path / "s")
        assert same_volume(found, volume) and warnings == ["7 images are copies of others and were left out"]

    def test_same_pixels_under_another_name_too(self, tmp_path):
        volume = noise_volume()
        write_series(tmp_path, volume)
        write_series(tmp_path, volume, setting(SOPInstanceUID="1.2.9"), slices=[2], name="again{}.dcm".format)
        found, warnings = read_best(tmp_path)
        assert same_volume(found, volume) and warnings == ["1 images are copies of others and were left out"]

    @pytest.mark.parametrize("instance", ["1.2.9", None], ids=["other name", "one name"])
    def test_different_images_are_refused(self, tmp_path, instance):
        write_series(tmp_path, noise_volume())
        change = setting(SOPInstanceUID=instance) if instance else setting()
        write_series(tmp_path, noise_volume(seed=1), change, slices=[2], name="other{}.dcm".format)
        with pytest.raises(ValueError, match=r"same place by different images.*002\.dcm|other2\.dcm"):
            read_best(tmp_path)


def test_series_of_one_uid_over_folders_is_named_after_the_common_one(tmp_path):
    volume = noise_volume()
    write_series(tmp_path / "study" / "mri", volume, name="{0}/{0}.dcm".format)
    sources, _ = find_scans(tmp_path / "study")
    assert [source.name for source in sources] == ["study"]
    assert same_volume(sources[0].read().volume, volume)


def test_without_uids_a_folder_is_a_series(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        removed = setting(StudyInstanceUID=None, SeriesInstanceUID=None)
        write_series(tmp_path / "all" / name, noise_volume(seed=seed), removed)
    sources, _ = find_scans(tmp_path / "all")
    assert [source.name for source in sources] == ["a", "b"]
    assert all(same_volume(s.read().volume, noise_volume(seed=n)) for n, s in enumerate(sources))
