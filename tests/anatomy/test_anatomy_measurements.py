"""Measurements in mm: hand-computed drawings, phantoms' own truth, and the same at 1 mm and 0.5 mm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from skimage.draw import polygon2mask

from nnunetv2_diffusion import measures
from nnunetv2_diffusion.anatomy.bodies import fitted_body
from nnunetv2_diffusion.anatomy.canal import Canal
from nnunetv2_diffusion.anatomy.measurements import measure
from nnunetv2_diffusion.anatomy.structures import SpineSlice
from nnunetv2_diffusion.spider import CANAL, DISCS, STRUCTURES, VERTEBRAE
from phantom_truth import campaign, plain_slice, summary

FINE = 0.1  # mm, pixels of the drawings before they are averaged to probabilities


def coarse(mask: np.ndarray, factor: int) -> np.ndarray:
    """Shares of a fine mask in pixels `factor` times as wide: what a perfect model would give as probabilities."""
    rows, columns = (n // factor * factor for n in mask.shape)
    return mask[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor).mean(axis=(1, 3))


def box(corners: list[tuple[float, float]], shape: tuple[int, int]) -> np.ndarray:
    """A polygon of places (s, a) in mm as a fine mask."""
    return polygon2mask(shape, np.array(corners) / FINE)


def drawn(slip: float = 0.0, bulge: float = 0.0, wedge: float = 0.0, pixel: float = 1.0) -> SpineSlice:
    """Three bodies, 25 mm high and 35 deep, discs of 9 mm, a canal of 16 mm, 3 mm behind them.

    The middle body stands `slip` mm forwards, the disc below it bulges backwards by `bulge` mm, and the middle body is
    `wedge` mm lower in front than behind.
    """
    shape = (1400, 900)
    masks = {name: np.zeros(shape, bool) for name in STRUCTURES}
    masks[CANAL] |= box([(0, 21), (140, 21), (140, 37), (0, 37)], shape)
    for n in range(3):
        low, back = 24.0 + n * 34.0, 40.0 + slip * (n == 1)
        lower = wedge * (n == 1)
        corners = [(low, back), (low + 25, back), (low + 25 - lower, back + 35), (low, back + 35)]
        masks[VERTEBRAE] |= box(corners, shape)
        out = bulge * (n == 1)
        masks[DISCS] |= box([(low - 9, 40 - out), (low, 40 - out), (low, 75), (low - 9, 75)], shape)
    fields = [coarse(masks[name], round(pixel / FINE)) for name in STRUCTURES]
    return SpineSlice.of_probabilities(np.stack(fields), (pixel, pixel), STRUCTURES)


def value(table: pd.DataFrame, level: str, measurement: str, structure: str | None = None) -> float:
    rows = table[(table["level"] == level) & (table["measurement"] == measurement)]
    if structure is not None:
        rows = rows[rows["structure"] == structure]
    (found,) = rows["value"]
    return float(found)


@pytest.fixture(scope="module")
def straight() -> pd.DataFrame:
    return measure(drawn())


def test_boxes(straight: pd.DataFrame):
    for name in ("L5", "L4", "L3"):
        for height in (measures.ANTERIOR_HEIGHT, measures.MIDDLE_HEIGHT, measures.POSTERIOR_HEIGHT):
            assert value(straight, name, height) == pytest.approx(25.0, abs=0.15)
        assert value(straight, name, measures.DEPTH, measures.VERTEBRA) == pytest.approx(35.0, abs=0.15)
        assert value(straight, name, measures.WEDGE_RATIO) == pytest.approx(1.0, abs=0.01)
        assert value(straight, name, measures.CANAL_WIDTH, measures.VERTEBRA) == pytest.approx(16.0, abs=0.15)
    for name in ("L5/S1", "L4/L5", "L3/L4"):
        heights = (measures.ANTERIOR_HEIGHT, measures.MIDDLE_HEIGHT, measures.POSTERIOR_HEIGHT, measures.MEAN_HEIGHT)
        for height in heights:
            assert value(straight, name, height) == pytest.approx(9.0, abs=0.15)
        assert value(straight, name, measures.AREA) == pytest.approx(9.0 * 35.0, rel=0.02)
        assert value(straight, name, measures.HEIGHT_INDEX) == pytest.approx(9.0 / 25.0, abs=0.01)
        assert value(straight, name, measures.CANAL_WIDTH) == pytest.approx(16.0, abs=0.15)
    assert value(straight, "L4/L5", measures.POSTERIOR_BULGE) == pytest.approx(0.0, abs=0.2)
    assert value(straight, "L3-L5", measures.LORDOSIS) == pytest.approx(0.0, abs=0.3)


def test_columns_units_and_order(straight: pd.DataFrame):
    assert tuple(straight.columns) == measures.COLUMNS
    assert straight[["low", "high", "samples"]].isna().all().all()
    names = {(row.structure, row.measurement): row.unit for row in straight.itertuples()}
    assert names == {(s, m): unit for s, units in measures.UNITS.items() for m, unit in units.items()}
    assert list(dict.fromkeys(straight["level"]))[:4] == ["L5/S1", "L5", "L4/L5", "L4"]


def test_what_is_seen_of_the_lordosis_is_named(straight: pd.DataFrame):
    rows = straight[straight["structure"].isin([measures.SPINE, measures.CANAL])]
    assert len(rows) == 3 and (rows["remark"] == "not all of L1-L5 is seen").all()


@pytest.mark.parametrize("tilt", [-25.0, -40.0, -55.0])
def test_a_tilted_body(tilt: float):
    """30 mm deep, 27 mm high; a start far off finds the same sides, not a diagonal."""
    angle = np.deg2rad(tilt)
    depth, up = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    corners = [30 + x * depth + y * up for x, y in ((-15, -13.5), (15, -13.5), (15, 13.5), (-15, 13.5))]
    shape = fitted_body(coarse(box(corners, (600, 600)), 10), (1.0, 1.0), 0.0)
    heights = [shape.anterior_height, shape.middle_height, shape.posterior_height]
    assert heights == pytest.approx([27.0] * 3, abs=0.5) and shape.depth == pytest.approx(30.0, abs=0.3)


def test_what_is_no_body_has_no_heights():
    """A rhombus, as the first part of a sacrum may look that is labelled as a vertebra."""
    rhombus = coarse(box([(30, 10), (41, 30), (30, 50), (19, 30)], (600, 600)), 10)
    with pytest.raises(ValueError, match="no body with two endplates"):
        fitted_body(rhombus, (1.0, 1.0), 0.0)


def test_what_needs_the_sacrum_is_empty_and_says_why(straight: pd.DataFrame):
    for level, name in (("L5", measures.SLIP), ("L5", measures.MEYERDING), ("L5/S1", measures.POSTERIOR_BULGE)):
        row = straight[(straight["level"] == level) & (straight["measurement"] == name)].iloc[0]
        assert np.isnan(row["value"]) and "sacrum" in row["remark"]


@pytest.mark.parametrize(("slip", "grade"), [(0.0, 0), (2.0, 0), (7.0, 1), (10.0, 2), (-5.0, np.nan)])
def test_slip(slip: float, grade: float):
    table = measure(drawn(slip=slip))
    assert value(table, "L4", measures.SLIP) == pytest.approx(slip, abs=0.2)
    assert value(table, "L4", measures.SLIP_SHARE) == pytest.approx(100 * slip / 35, abs=0.7)
    np.testing.assert_equal(value(table, "L4", measures.MEYERDING), grade)
    assert value(table, "L3", measures.SLIP) == pytest.approx(-slip, abs=0.2)


def test_bulge():
    table = measure(drawn(bulge=4.0))
    assert value(table, "L4/L5", measures.POSTERIOR_BULGE) == pytest.approx(4.0, abs=0.2)
    assert value(table, "L4/L5", measures.ANTERIOR_BULGE) == pytest.approx(0.0, abs=0.2)
    assert value(table, "L4/L5", measures.DEPTH) == pytest.approx(39.0, abs=0.3)


def test_wedge():
    table = measure(drawn(wedge=5.0))
    assert value(table, "L4", measures.ANTERIOR_HEIGHT) == pytest.approx(20.0, abs=0.3)
    assert value(table, "L4", measures.POSTERIOR_HEIGHT) == pytest.approx(25.0, abs=0.3)
    assert value(table, "L4", measures.WEDGE_RATIO) == pytest.approx(0.8, abs=0.015)


def test_a_stenosis_is_the_narrowest_place():
    spine = drawn()
    canal = spine.canal.copy()
    canal[62:72, 31:] = 0.0  # behind L4, whose back is at 58 to 83 mm: 6 of 16 mm covered
    narrowed = SpineSlice(canal, spine.vertebrae, spine.discs, spine.spacing)
    rows = measure(narrowed).query("measurement == @measures.NARROWEST_CANAL")
    assert rows["level"].tolist() == ["L4"]
    assert float(rows["value"].iloc[0]) == pytest.approx(10.0, abs=0.6)


def test_a_canal_that_the_edge_cuts_has_no_width():
    spine = drawn()
    cut = SpineSlice(*(field[:, 29:] for field in (spine.canal, spine.vertebrae, spine.discs)), spine.spacing)
    rows = measure(cut).query("measurement in [@measures.CANAL_WIDTH, @measures.NARROWEST_CANAL]")
    assert rows["value"].isna().all()


def test_a_doubtful_count_is_in_every_remark():
    spine = drawn()
    cut = SpineSlice(*(field[15:] for field in (spine.canal, spine.vertebrae, spine.discs)), spine.spacing)
    assert measure(cut)["remark"].str.contains("level in doubt").all()


def test_a_cut_body_is_not_measured():
    spine = drawn()
    cut = SpineSlice(*(field[:100] for field in (spine.canal, spine.vertebrae, spine.discs)), spine.spacing)
    rows = measure(cut).query("level == 'L3'")
    assert rows["value"].isna().all() and rows["remark"].str.contains("cut by the edge").all()


@pytest.mark.parametrize("patient", [1, 3])
def test_resolution(patient: int):
    """The same phantom at 1 mm and at 0.5 mm, as shares of its fine mask, within 0.2 mm in every length.

    But for bulges, which are farthest places: pixels of 1 mm round a bulge's tip by up to 0.3 mm.
    """
    _, labels = plain_slice(patient, 0.25)
    masks = [labels == 100, (labels > 0) & (labels < 200) & (labels != 100), labels > 200]
    tables = []
    for factor in (4, 2):
        fields = np.stack([coarse(mask, factor) for mask in masks])
        tables.append(measure(SpineSlice.of_probabilities(fields, (factor / 4,) * 2, STRUCTURES)))
    keys = ["level", "structure", "measurement"]
    both = tables[0].merge(tables[1], on=keys).query("unit_x == 'mm'").dropna(subset=["value_x", "value_y"])
    assert len(both) > 80
    difference = (both["value_x"] - both["value_y"]).abs()
    assert difference.mean() < 0.06
    assert difference.max() < 0.3
    difference = difference[~both["measurement"].isin([measures.ANTERIOR_BULGE, measures.POSTERIOR_BULGE])]
    assert difference.max() < 0.2, both.loc[difference.idxmax(), [*keys, "value_x", "value_y"]].to_dict()


def check_truth(patients: range) -> None:
    """Mean absolute errors from the phantoms' true masks of 1 mm pixels: the bounds that the measuring must keep."""
    _, errors = campaign(patients, 1.0)
    mean = summary(errors).set_index(["structure", "measurement"])["error"]
    heights = (measures.ANTERIOR_HEIGHT, measures.MIDDLE_HEIGHT, measures.POSTERIOR_HEIGHT, measures.MEAN_HEIGHT)
    assert max(mean[measures.DISC, height] for height in heights) < 0.3
    assert mean[measures.VERTEBRA, measures.SLIP] < 0.4
    assert mean[measures.VERTEBRA, measures.CANAL_WIDTH] < 0.3
    assert mean[measures.DISC, measures.CANAL_WIDTH] < 0.3
    assert mean[measures.VERTEBRA, measures.MEYERDING] < 0.05


def test_phantoms():
    check_truth(range(1, 9))


@pytest.mark.benchmark
def test_many_phantoms():
    check_truth(range(1, 201))


def test_both_ends_belong_to_what_is_looked_at():
    """Widths of 20, 19.5, ... mm every half millimetre: the narrowest of 2 to 7 mm is at 7; eleven widths in all."""
    canal = Canal(None, np.arange(0, 10, 0.5), np.linspace(20, 10.5, 20))
    assert canal.narrowest(2, 7) == pytest.approx((13, 7))
    assert canal.area(2, 7) == pytest.approx(11 * (18 + 13) / 2 * 0.5)
