"""Intervals: samples matched by overlap, medians and percentiles by hand, folders with samples beside their masks."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunetv2_diffusion import cli, measures
from nnunetv2_diffusion.anatomy.intervals import measure_samples, values_of, with_intervals
from nnunetv2_diffusion.anatomy.levels import Levels, find_levels
from nnunetv2_diffusion.anatomy.matching import match_levels, overlapping
from nnunetv2_diffusion.anatomy.measurements import measure
from nnunetv2_diffusion.anatomy.structures import SpineSlice
from nnunetv2_diffusion.nnunet_names import samples_file
from nnunetv2_diffusion.phantoms.patients import Protocol, make_scan, make_spine
from nnunetv2_diffusion.spider import FIRST_DISC
from phantom_truth import plain_slice

PITCH, BODY, FIRST_ROW = 32, 24, 30


def drawn(heights: dict[int, int] | None = None, without: tuple[int, ...] = ()) -> np.ndarray:
    """SPIDER's labels [z, y] of five boxes with discs of 8 mm, or of another height by number, some labels left out."""
    labels = np.zeros((230, 220), int)
    labels[:, 132:146] = 100
    for n in range(5):
        row = FIRST_ROW + n * PITCH
        labels[row : row + BODY, 150:180] = n + 1
        labels[row - (heights or {}).get(n + 1, 8) : row, 150:180] = FIRST_DISC + n
    labels[np.isin(labels, without)] = 0
    return labels


def spine_of(labels: np.ndarray) -> SpineSlice:
    return SpineSlice.of_labels(labels, (1.0, 1.0))


def measured(masks: list[np.ndarray]) -> tuple[Levels, pd.DataFrame]:
    """The levels of five boxes, and their table with the samples' intervals."""
    levels = find_levels(spine_of(drawn()))
    tables = measure_samples(map(spine_of, masks), levels)
    return levels, with_intervals(measure(spine_of(drawn()), levels), tables)


def row(table: pd.DataFrame, level: str, measurement: str) -> pd.Series:
    (found,) = (one for _, one in table.iterrows() if (one["level"], one["measurement"]) == (level, measurement))
    return found


def test_median_and_percentiles_by_hand():
    heights = [6, 7, 7, 8, 8, 8]
    _, table = measured([drawn({3: height}) for height in heights])
    found = row(table, "L3/L4", measures.MEAN_HEIGHT)
    assert found["value"] == pytest.approx(7.5, abs=0.15) and found["samples"] == 6
    assert found["low"] == pytest.approx(np.quantile(heights, 0.05), abs=0.2)
    assert found["high"] == pytest.approx(8.0, abs=0.15)
    for level in ("L4/L5", "L2/L3"):
        other = row(table, level, measures.MEAN_HEIGHT)
        assert (other["low"], other["high"]) == pytest.approx((8.0, 8.0), abs=0.15)


def test_a_sample_that_misses_the_lowest_levels_does_not_shift_the_others():
    short = drawn({3: 5}, without=(1, FIRST_DISC, FIRST_DISC + 1))
    assert next(iter(find_levels(spine_of(short)).bodies)) == 1  # by itself it would count from L4
    levels = find_levels(spine_of(drawn()))
    matched = match_levels(find_levels(spine_of(short)), levels)
    assert list(matched.bodies) == [2, 3, 4, 5] and list(matched.discs) == [3, 4, 5]
    assert set(np.unique(matched.labels)) == {0, 2, 3, 4, 5, 100, 203, 204, 205}
    _, table = measured([short] * 3 + [drawn()])
    found = row(table, "L3/L4", measures.MEAN_HEIGHT)
    assert found["samples"] == 4 and found["value"] == pytest.approx(5.0, abs=0.2)
    missed = row(table, "L4/L5", measures.MEAN_HEIGHT)
    assert missed["samples"] == 1 and missed["remark"] == "found in 1 of 4 samples"
    assert missed["value"] == pytest.approx(8.0, abs=0.15) and np.isnan(missed["low"])


def test_what_no_sample_shows_stays_the_masks_own():
    empty = np.zeros_like(drawn())
    _, table = measured([empty, empty])
    found = row(table, "L4", measures.MIDDLE_HEIGHT)
    assert found["value"] == pytest.approx(24.0, abs=0.15) and found["samples"] == 0
    assert np.isnan(found["low"]) and found["remark"] == "found in none of 2 samples"


def test_what_the_mask_has_not_stays_empty():
    _, table = measured([drawn()] * 2)
    slip = row(table, "L5", measures.SLIP)
    assert np.isnan(slip["value"]) and np.isnan(slip["low"]) and "sacrum" in slip["remark"]


def test_merged_bodies_are_none_of_the_two():
    one, two = np.zeros((2, 40, 40), bool)
    one[:10], two[12:22] = True, True
    both = np.zeros((40, 40), bool)
    both[:22] = True
    assert overlapping({7: both}, {1: one, 2: two}, 0.5) == {}
    assert overlapping({7: two, 8: one}, {1: one, 2: two}, 0.5) == {7: 2, 8: 1}
    assert overlapping({}, {1: one}, 0.5) == {}


def test_levels_of_another_slice_are_refused():
    levels = find_levels(spine_of(drawn()))
    with pytest.raises(ValueError, match="cannot be matched"):
        match_levels(replace(levels, labels=levels.labels[1:]), levels)


def slipped(shift: int) -> np.ndarray:
    labels = drawn()
    rows = slice(FIRST_ROW + PITCH - 8, None)
    labels[rows, 147:200] = np.roll(labels[rows, 147:200], shift, axis=1)
    return labels


def test_the_grade_is_that_of_the_slip():
    levels = find_levels(spine_of(slipped(9)))
    samples = [slipped(shift) for shift in (6, 8, 9, 9, 9, 10, 10, 12)]
    table = with_intervals(measure(spine_of(slipped(9)), levels), measure_samples(map(spine_of, samples), levels))
    grade, slip = row(table, "L4", measures.MEYERDING), row(table, "L4", measures.SLIP)
    assert slip["value"] == pytest.approx(9.0, abs=0.3)
    # a grade a quarter of 30 mm: 7.5, and none below 3 mm
    assert (grade["low"], grade["value"], grade["high"]) == (1, 2, 2)


def test_a_grade_of_a_slip_that_may_be_backwards():
    levels = find_levels(spine_of(slipped(1)))
    samples = [slipped(shift) for shift in (-5, 0, 1, 1, 1, 5)]
    table = with_intervals(measure(spine_of(slipped(1)), levels), measure_samples(map(spine_of, samples), levels))
    grade = row(table, "L4", measures.MEYERDING)
    assert (grade["low"], grade["value"], grade["high"]) == (0, 0, 1)


def test_a_narrowest_place_is_compared_wherever_it_is():
    masks = []
    for level in (1, 3):
        masks.append(drawn())
        masks[-1][FIRST_ROW + level * PITCH : FIRST_ROW + level * PITCH + 8, 132 : 132 + level] = 0
    levels = find_levels(spine_of(drawn()))
    table = measure(spine_of(drawn()), levels)
    values = values_of(table, measure_samples(map(spine_of, masks), levels))
    (place,) = np.flatnonzero(table["measurement"] == measures.NARROWEST_CANAL)
    assert values[:, place] == pytest.approx([13.0, 11.0], abs=0.3)


PROTOCOL = Protocol(in_plane=1.25, slices=5)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask as `predict --save-samples` leaves it, whose five samples are the mask with discs cut by a row or none."""
    folder = tmp_path_factory.mktemp("predictions")
    spine, _ = make_spine(3, 11, PROTOCOL.height)
    mask = make_scan(spine, 3, "t2", 11, PROTOCOL)[1]
    voxels = sitk.GetArrayFromImage(mask)
    samples = []
    for cut in (0, 0, 1, 1, 1):
        one = voxels.copy()
        discs = one > 200
        if cut:
            one[discs & ~np.roll(discs, 1, axis=1)] = 0
        samples.append(sitk.GetImageFromArray(one))
        samples[-1].CopyInformation(mask)
    sitk.WriteImage(mask, str(folder / "case.nii.gz"))
    (folder / "samples").mkdir()
    sitk.WriteImage(sitk.JoinSeries(samples), str(samples_file(folder, "case")))
    return folder


def test_masks_with_samples_have_intervals(predictions: Path, tmp_path: Path):
    assert cli.main(["measure", "-i", str(predictions), "-o", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "measurements.csv")
    heights = table[(table["measurement"] == measures.MIDDLE_HEIGHT) & (table["structure"] == measures.DISC)]
    heights = heights.dropna(subset="value")
    assert len(heights) >= 5 and (heights["samples"] == 5).all()
    widths = heights["high"] - heights["low"]
    assert widths.between(0.8, 1.6).all()  # one row of 1.25 mm
    assert (heights["value"] - heights["low"]).abs().max() < 0.2
    assert heights["remark"].str.contains(measures.UNCALIBRATED).all()
    report = json.loads((tmp_path / "case.json").read_text())
    assert report["interval"]["samples"] == 5 and not report["interval"]["calibrated"]
    assert report["measurements"][0]["samples"] == 5


def test_samples_of_another_grid_are_told(predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "samples").mkdir()
    mask = sitk.ReadImage(str(predictions / "case.nii.gz"))
    sitk.WriteImage(mask, str(tmp_path / "case.nii.gz"))
    sitk.WriteImage(sitk.JoinSeries([mask[:, :, 1:]] * 2), str(samples_file(tmp_path, "case")))
    assert cli.main(["measure", "-i", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "grid of its mask" in capsys.readouterr().err


def test_sixteen_samples_take_no_time():
    """Of 260 x 280 pixels: below two seconds where nothing else runs; more where something does."""
    _, labels = plain_slice(1, 1.0)
    spine = spine_of(labels)
    levels = find_levels(spine)
    start = time.process_time()
    measure_samples([spine] * 16, levels)
    assert time.process_time() - start < 5.0
