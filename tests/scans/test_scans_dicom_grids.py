"""From positions to a grid: spacing, gaps, single slices, multi-frame files; and what has no grid is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from helpers.dicom_samples import (
    OBLIQUE,
    classic,
    noise_volume,
    orientation,
    read_best,
    same_volume,
    setting,
    write_enhanced,
    write_series,
)
from helpers.segment_samples import same_geometry
from nnunetv2_diffusion.scans.dicom import find_series, read_series
from nnunetv2_diffusion.scans.sources import find_scans


def test_missing_slices_are_told_in_mm(tmp_path):
    folder = write_series(tmp_path, noise_volume(), slices=[0, 1, 2, 4, 5, 6])
    found, warnings = read_best(folder)
    # 24 mm in five steps of 4.8 mm: the slice at 8 mm is shown at 9.6 mm
    assert warnings == [
        "slices are missing: gaps of up to 8.0 mm among slices 4.0 mm apart; they are shown at even distances, up to "
        "1.6 mm from their place"
    ]
    assert found.GetSpacing()[2] == pytest.approx(24 / 5) and found.GetSize()[2] == 6


def test_slices_not_equally_far_apart(tmp_path):
    """Distances come from positions, whatever thickness and spacing the header claims."""
    volume = noise_volume()
    places = [0, 4, 8.5, 12, 16, 20, 24]
    uneven = setting(
        ImagePositionPatient=lambda k: [12.5 - places[k], -31.25, 58.75], SpacingBetweenSlices=9, SliceThickness=1
    )
    found, warnings = read_best(write_series(tmp_path, volume, uneven))
    assert found.GetSpacing()[2] == pytest.approx(4)
    assert warnings == [
        "slices are not equally far apart: 3.50 to 4.50 mm; they are shown at even distances, up to 0.5 mm from "
        "their place"
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"SpacingBetweenSlices": 4.4}, 4.4),
        ({"SpacingBetweenSlices": None}, 3.2),
        ({"SpacingBetweenSlices": None, "SliceThickness": None}, 1.0),
    ],
)
def test_single_slice(tmp_path, given, expected):
    volume = noise_volume()
    found, warnings = read_best(write_series(tmp_path, volume, setting(**given), slices=[3]))
    assert found.GetSize() == (11, 9, 1) and found.GetSpacing() == pytest.approx((0.5, 0.75, expected))
    assert found.GetOrigin() == pytest.approx(volume.TransformIndexToPhysicalPoint((0, 0, 3))) and warnings == []
    assert np.array_equal(sitk.GetArrayFromImage(found)[0], sitk.GetArrayFromImage(volume)[3])


def test_sheared_block_is_refused(tmp_path):
    sheared = setting(ImagePositionPatient=lambda k: [12.5 - 4 * k, -31.25 + 0.5 * k, 58.75])
    series = find_series(write_series(tmp_path, noise_volume(), sheared))
    assert len(series) == 1
    with pytest.raises(ValueError, match=r"sheared block: its slices are shifted sideways, up to 3\.0 mm"):
        read_series(series[0])


@pytest.mark.parametrize(
    ("removed", "named"),
    [
        (("ImagePositionPatient", "ImageOrientationPatient"), "position .* and no orientation"),
        (("ImageOrientationPatient",), r"no valid orientation \(ImageOrientationPatient\), so"),
        (("PixelSpacing",), r"pixel spacing \(PixelSpacing\)"),
    ],
)
def test_no_place_no_result(tmp_path, removed, named):
    write_series(tmp_path, noise_volume(), setting(**dict.fromkeys(removed)))
    sources, _ = find_scans(tmp_path)
    with pytest.raises(ValueError, match=named):
        sources[0].read()


@pytest.mark.parametrize(
    "values", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 1, 0]], ids=["parallel", "zero", "long"]
)
def test_orientation_that_is_none(tmp_path, values):
    write_series(tmp_path, noise_volume(), setting(ImageOrientationPatient=values))
    with pytest.raises(ValueError, match="no valid orientation"):
        find_scans(tmp_path)[0][0].read()


def test_messages_of_failures_are_one_sentence(tmp_path):
    write_series(tmp_path, noise_volume(), setting(ImagePositionPatient=None))
    with pytest.raises(ValueError) as caught:
        read_best(tmp_path)
    assert "\n" not in str(caught.value) and re.search(r"export the series .* again", str(caught.value))


class TestEnhanced:
    def test_frames_out_of_order(self, tmp_path):
        volume = noise_volume(direction=OBLIQUE)
        write_enhanced(tmp_path / "e.dcm", volume, [3, 0, 6, 1, 5, 2, 4])
        found, warnings = read_best(tmp_path)
        assert same_volume(found, volume) and warnings == []

    def test_everything_in_the_group_of_each_frame(self, tmp_path):
        volume = noise_volume()

        def own(group: Dataset, place: int) -> None:
            plane, measures, scaling = Dataset(), Dataset(), Dataset()
            plane.ImageOrientationPatient, measures.PixelSpacing = orientation(volume), [0.75, 0.5]
            scaling.RescaleSlope, scaling.RescaleIntercept = 2 + place, -5
            group.PlaneOrientationSequence, group.PixelMeasuresSequence = [plane], [measures]
            group.PixelValueTransformationSequence = [scaling]

        order = [6, 5, 4, 3, 2, 1, 0]
        found, _ = read_best(write_enhanced(tmp_path / "e.dcm", volume, order, own).parent)
        slopes = 2 + np.argsort(order)[:, None, None]
        assert same_geometry(found, volume)
        assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(volume) * slopes - 5.0)

    @pytest.mark.parametrize(
        ("sequence", "keyword"),
        [
            ("MREchoSequence", "EffectiveEchoTime"),
            ("FrameContentSequence", "TemporalPositionIndex"),
            ("FrameContentSequence", "StackID"),
            ("MRDiffusionSequence", "DiffusionBValue"),
        ],
    )
    def test_kinds_of_frames_are_kept_apart(self, tmp_path, sequence, keyword):
        volume = noise_volume()

        def kind(group: Dataset, place: int) -> None:
            item = Dataset()
            setattr(item, keyword, str(1 + place % 2) if keyword == "StackID" else 1 + place % 2)
            setattr(group, sequence, [item])

        file = write_enhanced(tmp_path / "e.dcm", volume, [0, 6, 1, 5, 2, 4, 3, 3, 4, 2, 5, 1, 6, 0], kind)
        series = find_series(tmp_path)
        assert [len(s.slices) for s in series] == [7, 7] and {s.files for s in series} == {(str(file),)}
        assert all(same_volume(read_series(s)[0], volume) for s in series)
        assert len(find_scans(file)[0]) == 1 and len(find_scans(file, "all")[0]) == 2

    def test_frames_without_groups(self, tmp_path):
        volume = noise_volume()
        header = classic(volume, 0)
        header.NumberOfFrames, header.PixelData = 7, sitk.GetArrayFromImage(volume).tobytes()
        header.save_as(tmp_path / "e.dcm", enforce_file_format=True)
        with pytest.raises(ValueError, match="no valid position"):
            read_best(tmp_path)
