"""The phantoms' own measurements: what was put into the drawing comes out of its surfaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nnunetv2_diffusion import measures
from nnunetv2_diffusion.phantoms.spine import LEVELS, DiscFinding, Spine, build_spine
from nnunetv2_diffusion.phantoms.truth import true_measurements

HEALTHY = (DiscFinding(),) * len(LEVELS)


def spine(findings: tuple[DiscFinding, ...] = HEALTHY) -> Spine:
    return build_spine(np.random.default_rng(5), findings, bottom=-80.0)


def value(table: pd.DataFrame, level: str, measurement: str, structure: str) -> float:
    found = table.set_index(["level", "structure", "measurement"])["value"]
    return float(found[level, structure, measurement])


@pytest.fixture(scope="module")
def healthy() -> pd.DataFrame:
    return true_measurements(spine(), "a scan")


def test_table(healthy: pd.DataFrame):
    assert tuple(healthy.columns) == measures.COLUMNS and set(healthy["scan"]) == {"a scan"}
    names = {(row.structure, row.measurement): row.unit for row in healthy.itertuples()}
    assert names == {(s, m): unit for s, units in measures.UNITS.items() for m, unit in units.items()}


def test_levels_are_named_as_the_phantom_names_them():
    assert measures.VERTEBRA_NAMES[: len(LEVELS)] == LEVELS


def test_bodies(healthy: pd.DataFrame):
    for number, body in enumerate(spine().bodies, start=1):
        name = measures.vertebra_name(number)
        heights = [
            value(healthy, name, which, measures.VERTEBRA)
            for which in (measures.ANTERIOR_HEIGHT, measures.POSTERIOR_HEIGHT)
        ]
        # an endplate's line goes through means at 15 % of the depth, 0.51 of the hollow's depth below the rim
        assert np.mean(heights) == pytest.approx(body.height - 2 * 0.5 * body.concavity, abs=0.35)
        lost = np.tan(np.deg2rad(body.wedge / 2)) * body.depth * 2
        assert heights[0] - heights[1] == pytest.approx(lost, abs=0.25)
        assert value(healthy, name, measures.DEPTH, measures.VERTEBRA) == pytest.approx(body.depth - 2.4, abs=0.1)


def test_canal_is_as_wide_as_it_was_drawn(healthy: pd.DataFrame):
    drawn = spine()
    for number in range(2, 6):
        radius = np.interp(drawn.bodies[number - 1].pose.s, drawn.canal_s, drawn.canal_radius)
        width = value(healthy, measures.vertebra_name(number), measures.CANAL_WIDTH, measures.VERTEBRA)
        assert width == pytest.approx(2 * radius, abs=0.25)


def test_slip_narrowing_and_hernia():
    changed = [*HEALTHY]
    changed[1] = replace(changed[1], spondylolisthesis=1)
    changed[2] = replace(changed[2], narrowing=1)
    changed[3] = replace(changed[3], herniation=1)
    before, after = true_measurements(spine()), true_measurements(spine(tuple(changed)))
    drawn = spine(tuple(changed)).discs
    moved = [value(table, "L4", measures.SLIP, measures.VERTEBRA) for table in (before, after)]
    assert moved[1] - moved[0] == pytest.approx(drawn[1].slip, abs=0.3)
    height = [value(table, "L3/L4", measures.MEAN_HEIGHT, measures.DISC) for table in (before, after)]
    assert height[0] - height[1] == pytest.approx(spine().discs[2].height - drawn[2].height, abs=0.4)
    bulge = [value(table, "L2/L3", measures.POSTERIOR_BULGE, measures.DISC) for table in (before, after)]
    assert bulge[1] - bulge[0] == pytest.approx(drawn[3].bulge, abs=0.4)
    width = [value(table, "L2/L3", measures.CANAL_WIDTH, measures.DISC) for table in (before, after)]
    assert 2.0 < width[0] - width[1] < drawn[3].bulge


def test_what_needs_the_sacrum_is_empty(healthy: pd.DataFrame):
    assert np.isnan(value(healthy, "L5", measures.SLIP, measures.VERTEBRA))
    assert np.isnan(value(healthy, "L5/S1", measures.POSTERIOR_BULGE, measures.DISC))


@pytest.mark.parametrize(
    ("slip", "share", "grade"), [(2.9, 8, 0), (-9, -25, None), (3, 9, 1), (9, 25, 2), (20, 60, 3), (40, 120, 5)]
)
def test_meyerding(slip: float, share: float, grade: int | None):
    assert measures.meyerding_grade(slip, share) == grade


def test_names():
    assert [measures.vertebra_name(n) for n in (1, 5, 6, 17, 18, 24, 25)] == ["L5", "L1", "T12", "T1", "C7", "C1", "25"]
    assert [measures.disc_name(n) for n in (1, 2, 6)] == ["L5/S1", "L4/L5", "T12/L1"]
