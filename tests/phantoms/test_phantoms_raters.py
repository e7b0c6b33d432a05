"""Raters of phantoms: what each choice changes and what it leaves, how often it is made, what is written."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunetv2_diffusion.phantoms.patients import Protocol, draw_conventions, make_rated_scan, make_spine, write_phantoms
from nnunetv2_diffusion.phantoms.raters import (
    SHARES,
    Convention,
    every_convention,
    probability,
)
from nnunetv2_diffusion.spider import CANAL_VALUE

SMALL = Protocol(in_plane=2.0, rows=140, columns=120, slices=5)
FINE = Protocol(in_plane=1.0, rows=280, columns=240, slices=1)
PATIENT = 7


@pytest.fixture(scope="module")
def masks() -> dict[Convention, np.ndarray]:
    """Of one slice with 1 mm pixels, by each of the eight conventions."""
    conventions = [Convention(*choices) for choices in itertools.product((True, False), repeat=3)]
    spine, findings = make_spine(PATIENT, height=FINE.height)
    assert any(finding.bulging or finding.herniation for finding in findings)
    _, drawn = make_rated_scan(spine, PATIENT, "t2", 0, FINE, conventions)
    return {one: sitk.GetArrayFromImage(mask)[0] for one, mask in zip(conventions, drawn, strict=True)}


def is_vertebra(mask: np.ndarray) -> np.ndarray:
    return ((mask >= 1) & (mask <= 25)) | ((mask >= 101) & (mask <= 125))


def test_endplates_are_left_out_above_and_below(masks):
    whole, without = masks[Convention()], masks[Convention(endplates=False)]
    changed = whole != without
    assert is_vertebra(whole)[changed].all() and not without[changed].any()
    pieces, _ = ndimage.label(whole == 4)
    body = pieces == np.bincount(pieces[pieces > 0]).argmax()
    column = int(np.argwhere(body)[:, 1].mean())
    rows = np.flatnonzero(body[:, column])
    kept = np.flatnonzero(body[:, column] & (without[:, column] == 4))
    assert 1 <= kept[0] - rows[0] <= 3 and 1 <= rows[-1] - kept[-1] <= 3
    assert (kept == np.arange(kept[0], kept[-1] + 1)).all()


def test_a_bulge_left_out_is_canal_or_background(masks):
    whole, without = masks[Convention()], masks[Convention(bulge=False)]
    changed = whole != without
    assert changed.any() and (whole[changed] > 200).all()
    assert set(np.unique(without[changed])) <= {0, CANAL_VALUE}
    assert (without[changed] == CANAL_VALUE).any()


def test_epidural_fat_counted_in_widens_the_canal(masks):
    whole, widened = masks[Convention()], masks[Convention(epidural_fat=True)]
    changed = whole != widened
    assert changed.any() and not whole[changed].any() and (widened[changed] == CANAL_VALUE).all()
    rows = np.flatnonzero(changed.any(axis=1) & (whole == CANAL_VALUE).any(axis=1))
    behind = [np.flatnonzero(changed[row]).mean() > np.flatnonzero(whole[row] == CANAL_VALUE).mean() for row in rows]
    assert np.mean(behind) > 0.95


def test_the_eight_masks_differ(masks):
    assert len({mask.tobytes() for mask in masks.values()}) == 8


def test_shares_are_as_stated_and_choices_independent():
    drawn = pd.DataFrame(
        [one.__dict__ for patient in range(1, 701) for one in draw_conventions(patient, "t2", seed=0, raters=3)]
    ).astype(float)
    assert drawn.mean().to_dict() == pytest.approx(SHARES, abs=0.03)
    correlation = drawn.corr().to_numpy()
    assert np.abs(correlation - np.eye(3)).max() < 0.06


def test_probabilities_of_all_conventions_are_how_often_they_are_drawn():
    every = every_convention()
    assert len(set(every.values())) == 8 and sum(map(probability, every.values())) == pytest.approx(1)
    assert probability(every["in_out_in"]) == pytest.approx(0.5 * 0.3 * 0.3)
    assert every["in_out_in"] == Convention(endplates=True, bulge=False, epidural_fat=True)
    drawn = [one for patient in range(1, 701) for one in draw_conventions(patient, "t2", seed=0, raters=3)]
    for convention in every.values():
        assert drawn.count(convention) / len(drawn) == pytest.approx(probability(convention), abs=0.02)


def test_a_mask_of_each_convention_on_the_same_image(tmp_path: Path):
    plain = write_phantoms(tmp_path / "plain", [1], protocol=SMALL)
    every = write_phantoms(tmp_path / "every", [1], protocol=SMALL, conventions=every_convention())
    image, mask = (Path(part) / "1_t2.mha" for part in ("images", "masks"))
    assert (every / image).read_bytes() == (plain / image).read_bytes()
    names = sorted(path.name for path in (every / "masks").glob("1_t2__*"))
    assert names == sorted(f"1_t2__{name}.mha" for name in every_convention())
    # The phantoms' own convention gives their own mask.
    assert (every / "masks" / "1_t2__in_in_out.mha").read_bytes() == (plain / mask).read_bytes()
    rows = pd.read_csv(every / "raters.csv").set_index(["scan", "rater"])
    assert rows.loc[("1_t2", "out_in_in")].tolist() == [0, 1, 1]


def test_a_rater_depends_on_no_other():
    assert draw_conventions(3, "t1", 0, 4)[:2] == draw_conventions(3, "t1", 0, 2)


def test_files(tmp_path: Path):
    plain = write_phantoms(tmp_path / "plain", [1], protocol=SMALL)
    rated = write_phantoms(tmp_path / "rated", [1], protocol=SMALL, raters=2)
    for path in plain.rglob("*.*"):
        assert (rated / path.relative_to(plain)).read_bytes() == path.read_bytes()
    names = [f"1_{series}__rater{number}.mha" for series in ("t1", "t2") for number in (1, 2)]
    assert sorted(path.name for path in (rated / "masks").glob("*__*")) == names
    rows = pd.read_csv(rated / "raters.csv").set_index(["scan", "rater"])
    conventions = draw_conventions(1, "t2", 0, 2)
    assert rows.loc[("1_t2", "rater2")].to_dict() == {
        name: int(value) for name, value in conventions[1].__dict__.items()
    }
    _, drawn = make_rated_scan(make_spine(1, 0, SMALL.height)[0], 1, "t2", 0, SMALL, conventions)
    found = sitk.ReadImage(str(rated / "masks" / "1_t2__rater2.mha"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(drawn[1]))
    assert found.GetDirection() == sitk.ReadImage(str(rated / "images" / "1_t2.mha")).GetDirection()


def test_bad_number(tmp_path: Path):
    with pytest.raises(ValueError, match="0 or more raters, not -1"):
        write_phantoms(tmp_path / "none", [1], raters=-1)
