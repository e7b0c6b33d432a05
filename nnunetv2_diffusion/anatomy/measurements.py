"""A mid-sagittal slice -> its measurements in mm and degrees, as a tidy table: one row a measurement.

What each one is stands with the code that takes it: `bodies`, `discs`, `canal`; docs/measurements.md draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from nnunetv2_diffusion.anatomy.bodies import BodyShape, endplate_angle, fitted_body, slip
from nnunetv2_diffusion.anatomy.canal import Canal, measure_canal
from nnunetv2_diffusion.anatomy.discs import DiscShape, bulges, disc_outline, disc_shape
from nnunetv2_diffusion.anatomy.levels import Levels, find_levels
from nnunetv2_diffusion.anatomy.outline import territories
from nnunetv2_diffusion.anatomy.structures import SpineSlice
from nnunetv2_diffusion.measures import (
    ANTERIOR_BULGE,
    ANTERIOR_HEIGHT,
    AREA,
    BICONCAVITY_RATIO,
    CANAL,
    CANAL_AREA,
    CANAL_WIDTH,
    COLUMNS,
    DEPTH,
    DISC,
    HEIGHT_INDEX,
    LORDOSIS,
    MEAN_HEIGHT,
    MEYERDING,
    MIDDLE_HEIGHT,
    NARROWEST_CANAL,
    POSTERIOR_BULGE,
    POSTERIOR_HEIGHT,
    SLIP,
    SLIP_SHARE,
    SPINE,
    UNITS,
    VERTEBRA,
    WEDGE_RATIO,
    disc_name,
    meyerding_grade,
    vertebra_name,
)

L5, L1 = 1, 5
NAN = float("nan")


@dataclass(frozen=True)
class Shapes:
    """The shapes of what was found, by number; `faults` says by level's name what could not be measured, and why."""

    bodies: dict[int, BodyShape]
    discs: dict[int, DiscShape]
    bulges: dict[int, tuple[float, float]]
    canal: Canal | None
    faults: dict[str, str] = field(default_factory=dict)


def measure(spine: SpineSlice, levels: Levels | None = None, scan: str = "") -> pd.DataFrame:
    """Everything that can be measured in a slice.

    Args:
        spine: the slice.
        levels: its levels, where they were found before.
        scan: the scan's name, for the table.

    Returns:
        A table of `measures.COLUMNS`, in the order of levels from below upwards. `low`, `high` and `samples` are empty:
        one mask has no interval. A value that could not be taken is NaN and its remark says why; where the levels are
        in doubt, every remark says so.

    Raises:
        ValueError: see `find_levels`.
    """
    levels = find_levels(spine) if levels is None else levels
    return table_of(levels, measure_shapes(spine, levels), scan)


def table_of(levels: Levels, shapes: Shapes, scan: str = "") -> pd.DataFrame:
    """The table of `measure` from shapes that were taken before."""
    rows = _Rows(scan, levels, shapes)
    for number in sorted({*levels.bodies, *levels.discs}):
        if number in levels.discs:
            _disc_rows(number, shapes, rows)
        if number in levels.bodies:
            _vertebra_rows(number, levels, shapes, rows)
    _scan_rows(levels, shapes, rows)
    return pd.DataFrame(rows.rows, columns=list(COLUMNS))


def measure_shapes(spine: SpineSlice, levels: Levels) -> Shapes:
    """The shapes of all bodies that the image's edge does not cut, of all discs, and of the canal."""
    faults: dict[str, str] = {}
    canal = measure_canal(spine.canal, spine.spacing, levels.line) if levels.line.of_canal else None
    bodies, discs, bulged = {}, {}, {}
    areas = territories(levels.bodies, spine.spacing) if levels.bodies else {}
    for number, mask in levels.bodies.items():
        if mask[0].any() or mask[-1].any():
            faults[vertebra_name(number)] = "cut by the edge of the image"
            continue
        try:
            angle = _angle(levels, mask, spine)
            bodies[number] = fitted_body(spine.vertebrae * areas[number], spine.spacing, angle)
        except ValueError as error:
            faults[vertebra_name(number)] = str(error)
    areas = territories(levels.discs, spine.spacing) if levels.discs else {}
    for number, mask in levels.discs.items():
        above, below = bodies.get(number), bodies.get(number - 1)
        if mask[0].any() or mask[-1].any():
            faults[disc_name(number)] = "cut by the edge of the image"
            continue
        try:
            field_of_disc = spine.discs * areas[number]
            outline = disc_outline(field_of_disc, spine.spacing, _angle(levels, mask, spine), above, below)
            discs[number] = disc_shape(outline, above, below)
        except ValueError as error:
            faults[disc_name(number)] = str(error)
            continue
        if above is not None and below is not None:
            bulged[number] = bulges(field_of_disc, spine.spacing, above, below)
    return Shapes(bodies, discs, bulged, canal, faults)


def _angle(levels: Levels, mask: np.ndarray, spine: SpineSlice) -> float:
    """About where the depth of a structure runs: square to the line behind it."""
    centre = np.argwhere(mask).mean(axis=0) * spine.spacing
    s, a = levels.line.normal(levels.line.coordinates(centre)[0])
    return float(np.arctan2(s, a))


class _Rows:
    """Collects the table's rows with their remarks."""

    def __init__(self, scan: str, levels: Levels, shapes: Shapes) -> None:
        self.scan, self.levels, self.shapes = scan, levels, shapes
        self.rows: list[dict[str, object]] = []

    def add(self, level: str, structure: str, values: Mapping[str, float], remark: str = "", of_all: str = "") -> None:
        """Rows of one structure; `remark` goes with those that have no value, `of_all` with each."""
        about = [of_all] if of_all else []
        about += self.levels.remarks.get(level, ())
        about += ["level in doubt"] if self.levels.doubts else []
        for measurement, value in values.items():
            own = [remark] if remark and not np.isfinite(value) and remark not in about else []
            cells = (self.scan, level, structure, measurement, value, NAN, NAN, None)
            self.rows.append(
                dict(zip(COLUMNS, (*cells, UNITS[structure][measurement], "; ".join([*own, *about])), strict=True))
            )


def _disc_rows(number: int, shapes: Shapes, rows: _Rows) -> None:
    name, shape = disc_name(number), shapes.discs.get(number)
    if shape is None:
        rows.add(name, DISC, dict.fromkeys(UNITS[DISC], NAN), shapes.faults.get(name, ""))
        return
    neighbours = [shapes.bodies[n].mean_height for n in (number, number - 1) if n in shapes.bodies]
    rows.add(
        name,
        DISC,
        {
            ANTERIOR_HEIGHT: shape.anterior_height,
            MIDDLE_HEIGHT: shape.middle_height,
            POSTERIOR_HEIGHT: shape.posterior_height,
            MEAN_HEIGHT: shape.mean_height,
            HEIGHT_INDEX: shape.mean_height / float(np.mean(neighbours)) if neighbours else NAN,
            DEPTH: shape.depth,
            AREA: shape.area,
        },
        "no neighbouring body could be measured",
    )
    anterior, posterior = shapes.bulges.get(number, (NAN, NAN))
    beside = "the sacrum is no labelled structure" if number == 1 else "only one neighbouring body could be measured"
    rows.add(name, DISC, {ANTERIOR_BULGE: anterior, POSTERIOR_BULGE: posterior}, beside)
    rows.add(name, DISC, {CANAL_WIDTH: _canal_width(shapes.canal, shape.posterior_end)}, "the canal is not seen here")


def _vertebra_rows(number: int, levels: Levels, shapes: Shapes, rows: _Rows) -> None:
    name, shape = vertebra_name(number), shapes.bodies.get(number)
    if shape is None:
        rows.add(name, VERTEBRA, dict.fromkeys(UNITS[VERTEBRA], NAN), shapes.faults.get(name, ""))
        return
    rows.add(
        name,
        VERTEBRA,
        {
            ANTERIOR_HEIGHT: shape.anterior_height,
            MIDDLE_HEIGHT: shape.middle_height,
            POSTERIOR_HEIGHT: shape.posterior_height,
            DEPTH: shape.depth,
            WEDGE_RATIO: shape.wedge_ratio,
            BICONCAVITY_RATIO: shape.biconcavity_ratio,
        },
    )
    below = shapes.bodies.get(number - 1)
    shift, share = (NAN, NAN) if below is None else slip(shape, below)
    grade = None if below is None else meyerding_grade(shift, share)
    missing = (
        "the sacrum is no labelled structure" if number == min(levels.bodies) else "the body below is not measured"
    )
    rows.add(name, VERTEBRA, {SLIP: shift, SLIP_SHARE: share}, missing)
    backwards = missing if below is None else "backwards: Meyerding's grades are of forward slips"
    rows.add(name, VERTEBRA, {MEYERDING: NAN if grade is None else grade}, backwards)
    width = _canal_width(shapes.canal, (shape.lower[0] + shape.upper[0]) / 2)
    rows.add(name, VERTEBRA, {CANAL_WIDTH: width}, "the canal is not seen here")


def _canal_width(canal: Canal | None, point: np.ndarray) -> float:
    return NAN if canal is None else canal.width_at(point)


def _scan_rows(levels: Levels, shapes: Shapes, rows: _Rows) -> None:
    """Lordosis, and the canal from the L5/S1 disc to the top of L1, or as far as it is seen.

    Lordosis is the angle between the lower endplate of L5 and the upper one of L1 (Cobb's method), positive where the
    spine is hollow behind. Where one of the two is not seen, the outermost ones that are stand in, and the level's name
    says which.
    """
    lumbar = [n for n in range(L5, L1 + 1) if n in shapes.bodies]
    if not lumbar:
        return
    low, high = lumbar[0], lumbar[-1]
    name = f"{vertebra_name(high)}-{vertebra_name(low)}"
    partly = "" if (low, high) == (L5, L1) else "not all of L1-L5 is seen"
    angle = NAN
    if high > low:
        angle = endplate_angle(shapes.bodies[high].upper) - endplate_angle(shapes.bodies[low].lower)
    rows.add(name, SPINE, {LORDOSIS: angle}, "a single body has no lordosis", of_all=partly)
    if shapes.canal is None:
        return
    ends = canal_ends(levels, shapes)
    width, place = shapes.canal.narrowest(*ends)
    if np.isfinite(width):
        level = _nearest_level(place, levels, shapes)
        rows.add(level, CANAL, {NARROWEST_CANAL: width}, of_all=partly)
    rows.add(name, CANAL, {CANAL_AREA: shapes.canal.area(*ends)}, of_all=partly)


def canal_ends(levels: Levels, shapes: Shapes) -> tuple[float, float] | None:
    """mm along the canal from the L5/S1 disc to the top of L1, or as far as is seen; None where no body is measured."""
    lumbar = [n for n in range(L5, L1 + 1) if n in shapes.bodies]
    if not lumbar:
        return None
    low, high = lumbar[0], lumbar[-1]
    start = shapes.discs[low].posterior_end if low in shapes.discs else shapes.bodies[low].lower[0]
    return tuple(float(levels.line.coordinates(point)[0]) for point in (start, shapes.bodies[high].upper[0]))


def _nearest_level(along: float, levels: Levels, shapes: Shapes) -> str:
    """The name of the disc or vertebra whose back is nearest to a place along the canal."""
    backs = {disc_name(n): shape.posterior_end for n, shape in shapes.discs.items()}
    backs |= {vertebra_name(n): (shape.lower[0] + shape.upper[0]) / 2 for n, shape in shapes.bodies.items()}
    return min(backs, key=lambda name: abs(float(levels.line.coordinates(backs[name])[0]) - along))
