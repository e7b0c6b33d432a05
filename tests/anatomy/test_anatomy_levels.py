"""Levels: SPIDER's numbers from the lowest vertebra upwards, bodies parted and joined, gaps kept, doubts said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import rotate

from nnunetv2_diffusion.anatomy.counting import _disc_number
from nnunetv2_diffusion.anatomy.levels import Levels, find_levels
from nnunetv2_diffusion.anatomy.structures import SpineSlice
from nnunetv2_diffusion.spider import CANAL_VALUE, FIRST_DISC, PARTLY_VISIBLE
from phantom_truth import KINDS, make_case, slice_of, wrong_levels

# Hand-drawn spine, 1 mm pixels: bodies of 30 x 24 mm, discs of 30 x 8 mm, a canal of 14 mm, processes behind it.
PITCH, BODY, FIRST_ROW = 32, 24, 30
ROWS, COLUMNS = 230, 270
FRONT, BACK = 180, 150


def drawn(count: int = 5, lean: float = 0.0) -> np.ndarray:
    """SPIDER's labels [z, y] of `count` vertebrae and discs, the whole turned by `lean` degrees."""
    labels = np.zeros((ROWS, COLUMNS), int)
    labels[:, 132:146] = CANAL_VALUE
    for n in range(count):
        row = FIRST_ROW + n * PITCH
        labels[row : row + BODY, BACK:FRONT] = n + 1
        labels[row - 8 : row, BACK:FRONT] = FIRST_DISC + n
        labels[row - 2 : row + 14, 104:128] = n + 1
    return rotate(labels, lean, order=0) if lean else labels


def assert_same(found: np.ndarray, labels: np.ndarray) -> None:
    """Every structure at its level, but for less than a fiftieth of its pixels, which touch it at a corner alone."""
    for value in np.unique(labels):
        assert (found[labels == value] == value).mean() > 0.98, value


def levels_of(labels: np.ndarray, **values: object) -> Levels:
    return find_levels(SpineSlice.of_labels(labels, (1.0, 1.0), **values))


@pytest.mark.parametrize("lean", [-30.0, 0.0, 30.0])
def test_numbers_along_a_spine_that_leans(lean: float):
    labels = drawn(lean=lean)
    levels = levels_of(labels)
    assert_same(levels.labels, labels)
    assert levels.doubts == [] and levels.remarks == {}
    assert (list(levels.bodies), list(levels.discs)) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])


def test_a_body_is_measured_without_its_process():
    levels = levels_of(drawn())
    rows, columns = np.nonzero(levels.bodies[2])
    assert (columns.min(), columns.max() + 1, len(rows)) == (BACK, FRONT, BODY * (FRONT - BACK))


def test_merged_bodies_are_parted_where_the_disc_was():
    labels = drawn()
    labels[FIRST_ROW + PITCH - 8 : FIRST_ROW + PITCH, BACK + 4 : FRONT] = 2
    levels = levels_of(labels)
    assert list(levels.bodies) == [1, 2, 3, 4, 5]
    assert all((levels.bodies[n] & (labels == n)).sum() > 0.95 * BODY * (FRONT - BACK) for n in (1, 2))
    assert any("parted" in text for text in levels.remarks["L5"] + levels.remarks["L4"])
    assert any("parted" in doubt for doubt in levels.doubts)


@pytest.mark.parametrize("crack", ["across", "along"])
def test_a_broken_body_is_joined(crack: str):
    labels = drawn()
    row = FIRST_ROW + 2 * PITCH
    if crack == "across":
        labels[row + 11 : row + 13, BACK:FRONT] = 0
    else:
        labels[row : row + BODY, BACK + 14 : BACK + 16] = 0
    levels = levels_of(labels)
    assert list(levels.bodies) == [1, 2, 3, 4, 5]
    assert levels.remarks == {"L3": ["joined from pieces"]} and levels.doubts == []


def test_a_missing_vertebra_keeps_its_number():
    labels = drawn()
    labels[labels == 3] = 0
    levels = levels_of(labels)
    assert list(levels.bodies) == [1, 2, 4, 5] and list(levels.discs) == [1, 2, 3, 4, 5]
    assert "missing in the gap" in levels.doubts[0]


def test_a_missing_lowest_vertebra_is_told_by_its_two_discs():
    labels = drawn()
    labels[labels == 1] = 0
    levels = levels_of(labels)
    assert list(levels.bodies) == [2, 3, 4, 5] and list(levels.discs) == [1, 2, 3, 4, 5]
    assert levels.doubts


def test_a_missing_lowest_disc_is_a_doubt():
    labels = drawn()
    labels[labels == FIRST_DISC] = 0
    levels = levels_of(labels)
    assert list(levels.bodies) == [1, 2, 3, 4, 5]
    assert "no disc L5/S1" in levels.doubts[0]


def test_without_any_disc_the_lowest_vertebra_is_a_doubt():
    labels = drawn()
    labels[labels >= FIRST_DISC] = 0
    levels = levels_of(labels)
    assert list(levels.bodies) == [1, 2, 3, 4, 5]
    assert levels.doubts == ["no disc was found, so that nothing tells whether the lowest vertebra is L5"]


def test_a_missing_disc_in_the_middle_is_a_doubt():
    labels = drawn()
    labels[labels == FIRST_DISC + 2] = 0
    levels = levels_of(labels)
    assert list(levels.bodies) == [1, 2, 3, 4, 5] and list(levels.discs) == [1, 2, 4, 5]
    assert levels.doubts == ["no disc L3/L4 was found between its vertebrae"]


def test_a_field_of_view_that_ends_at_the_lowest_vertebra_is_a_doubt():
    levels = levels_of(drawn()[FIRST_ROW + 4 :])
    assert "the image ends 0 mm below" in levels.doubts[0]
    assert 1 in levels.cut and (levels.labels == PARTLY_VISIBLE + 1).any()


def test_a_vertebra_cut_at_the_upper_edge_is_partly_visible():
    labels = drawn()
    end = FIRST_ROW + 4 * PITCH + 9
    levels = levels_of(labels[:end])
    assert levels.cut == {5} and levels.doubts == []
    assert set(np.unique(levels.labels)) == {0, 1, 2, 3, 4, 105, CANAL_VALUE, *range(FIRST_DISC, FIRST_DISC + 5)}


def test_scraps_belong_to_no_level():
    labels = drawn()
    labels[5:8, 170:173] = 1
    labels[FIRST_ROW + 2 * PITCH + 5, 190:193] = FIRST_DISC
    levels = levels_of(labels)
    assert list(levels.bodies) == [1, 2, 3, 4, 5]
    assert sorted(levels.scraps) == [3.0, 9.0]


def test_kissing_processes_are_parted():
    labels = drawn()
    labels[FIRST_ROW + 14 : FIRST_ROW + PITCH - 2, 110:120] = 1
    levels = levels_of(labels)
    assert set(np.unique(levels.labels[FIRST_ROW + PITCH : FIRST_ROW + PITCH + 10, 106:126])) == {2}
    assert set(np.unique(levels.labels[FIRST_ROW : FIRST_ROW + 10, 106:126])) == {1}


def test_without_a_canal_the_line_of_bodies_will_do():
    labels = drawn(lean=20.0)
    labels[labels == CANAL_VALUE] = 0
    levels = levels_of(labels)
    assert not levels.line.of_canal
    assert_same(levels.labels, labels)


def test_one_vertebra_cannot_tell_its_level():
    assert "one vertebra alone cannot tell its level" in levels_of(drawn(1)).doubts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda labels: np.where(labels > 0, 0, 0), "neither vertebrae nor discs"),
        (lambda labels: labels[:, ::-1], "behind the canal"),
        (lambda labels: labels.T, "canal's largest piece"),
    ],
)
def test_what_is_no_sagittal_spine_is_refused(change, said: str):
    with pytest.raises(ValueError, match=said):
        levels_of(change(drawn()))


def test_exchanged_labels_are_refused():
    values = {"vertebrae": range(FIRST_DISC, 226), "discs": range(1, 26), "spinal_canal": (CANAL_VALUE,)}
    labels = drawn()
    labels[(labels < CANAL_VALUE) & (np.arange(COLUMNS) < 130)] = 0
    with pytest.raises(ValueError, match="exchanged"):
        levels_of(labels, values=values)


def check_phantoms(patients: range) -> None:
    """At least 99.5 % of the structures of cut, fused and broken phantoms at their level, or the count in doubt."""
    total = failed = 0
    for patient in patients:
        for kind in KINDS:
            case = make_case(patient, 1.25, kind)
            levels = find_levels(slice_of(case))
            wrong, count = wrong_levels(case, levels)
            assert kind != "cut below" or levels.doubts
            failed += 0 if kind == "cut below" else len(wrong)
            total += 0 if kind == "cut below" else count
    assert failed <= 0.005 * total


def test_phantoms():
    check_phantoms(range(1, 4))


@pytest.mark.benchmark
def test_many_phantoms():
    check_phantoms(range(1, 101))


def test_real_mri_is_numbered_as_its_annotators_did(real_mri: Path):
    """Vertebrae, or discs, numbered from the lowest one: numbers merged and found again in every scan."""
    files = sorted((real_mri / "spider_layout" / "masks").glob("*.mha"))
    assert len(files) == 21
    for file in files:
        volume = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), "RAS")).astype(int)
        labels = volume[..., volume.shape[2] // 2]
        assert_same(levels_of(labels).labels, labels)


@pytest.mark.parametrize(("steps", "number"), [(0, 2), (1, 3), (2, 3), (3, 3)])
def test_a_disc_in_a_gap_has_a_number_between_its_bodies(steps: int, number: int):
    """Bodies 1 and 3 have the discs 2 and 3 between them, however far apart they lie; body and gap are 1.3 heights."""
    places = {1: (-1.0, -0.5, 0.0), 3: (9.5, 10.0, 10.5)}
    bodies = {n: SimpleNamespace(low=low, along=middle, high=high) for n, (low, middle, high) in places.items()}
    assert _disc_number(SimpleNamespace(along=0.15 + 1.3 * steps), bodies, 1.0) == number
