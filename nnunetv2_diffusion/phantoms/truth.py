"""What a phantom's measurements truly are: from its drawn surfaces in the mid-sagittal plane, without pixels.

The measurements are those of `measures`, taken in frames that are known here and need not be found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from nnunetv2_diffusion import measures as m
from nnunetv2_diffusion.phantoms.rendering import body_distance, canal_distance, disc_distance
from nnunetv2_diffusion.phantoms.spine import Body, Disc, Pose, Spine

_STEP = 0.1  # mm; ends lie half a step outwards, and means run over many
_NAN = float("nan")
_LUMBAR = 5


def true_measurements(spine: Spine, scan: str = "") -> pd.DataFrame:
    """All measurements of a phantom in the plane through its midline, whatever a scan's field of view shows of it.

    Returns:
        A table of `measures.COLUMNS`, as `anatomy.measurements.measure` gives; what needs the sacrum is NaN, since it
        is no labelled structure.
    """
    bodies = [_BodyTruth(body) for body in spine.bodies]
    discs = [_DiscTruth(spine, n, bodies) for n in range(len(spine.discs))]
    canal = _CanalTruth(spine)
    rows = []

    def add(level: str, structure: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            cells = (scan, level, structure, name, value, _NAN, _NAN, None, m.UNITS[structure][name], "")
            rows.append(dict(zip(m.COLUMNS, cells, strict=True)))

    for n, (body, disc) in enumerate(zip(bodies, discs, strict=True)):
        beside = [piece.mean_height for piece in bodies[max(0, n - 1) : n + 1]]
        index = disc.values[m.MEAN_HEIGHT] / float(np.mean(beside))
        width = {m.CANAL_WIDTH: canal.width_at(disc.posterior_end)}
        add(m.disc_name(n + 1), m.DISC, {**disc.values, m.HEIGHT_INDEX: index, **width})
        width = {m.CANAL_WIDTH: canal.width_at(body.corners[:, 0].mean(axis=0))}
        add(m.vertebra_name(n + 1), m.VERTEBRA, {**body.values, **_slip(body, bodies[n - 1] if n else None), **width})
    lordosis = bodies[_LUMBAR - 1].angle(1) - bodies[0].angle(0)
    name = f"{m.vertebra_name(_LUMBAR)}-{m.vertebra_name(1)}"
    add(name, m.SPINE, {m.LORDOSIS: lordosis})
    ends = (discs[0].posterior_end, bodies[_LUMBAR - 1].corners[1, 0])
    add(name, m.CANAL, {m.NARROWEST_CANAL: canal.narrowest(*ends), m.CANAL_AREA: canal.area(*ends)})
    return pd.DataFrame(rows, columns=list(m.COLUMNS))


def _points(pose: Pose, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """World places (p, s), [..., 2], of places in a pose's frame."""
    return np.array([pose.p, pose.s]) + np.multiply.outer(x, pose.axis) + np.multiply.outer(y, pose.normal)


def _inside(
    pose: Pose, reach: float, points: np.ndarray, distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Which points (p, s) lie inside a surface, given its distance in the pose's frame; out to `reach` mm."""
    offset = points - np.array([pose.p, pose.s])
    near = (np.abs(offset) < reach).all(axis=-1)
    found = np.zeros(near.shape, bool)
    found[near] = distance(offset[near] @ pose.axis, offset[near] @ pose.normal) < 0
    return found


def _in_body(body: Body, points: np.ndarray) -> np.ndarray:
    reach = 0.75 * np.hypot(body.height, body.depth)
    return _inside(body.pose, reach, points, lambda x, y: body_distance(body, x, y, np.zeros_like(x))[0])


def _in_disc(disc: Disc, points: np.ndarray) -> np.ndarray:
    reach = 0.75 * np.hypot(disc.height + 10, disc.depth + 2 * disc.bulge)
    return _inside(disc.pose, reach, points, lambda x, y: disc_distance(disc, x, y, np.zeros_like(x))[0])


def _ends(inside: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last place inside on each row of `inside`, which must all have one; half a step outwards."""
    first, last = inside.argmax(axis=1), len(places) - 1 - inside[:, ::-1].argmax(axis=1)
    return places[first] - _STEP / 2, places[last] + _STEP / 2


def _strip(x: np.ndarray, front: float, back: float, strip: tuple[float, float]) -> np.ndarray:
    share = (x - front) / (back - front)
    return (share >= strip[0]) & (share <= strip[1])


def _waist(inside: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Front and back end in the middle quarter of the usual height; `inside` is [y, x]."""
    heights = inside.sum(axis=0) * _STEP
    columns = inside.any(axis=0)
    middle = np.median((y[:, None] * inside).sum(axis=0)[columns] / inside.sum(axis=0)[columns])
    rows = inside[np.abs(y - middle) <= m.WAIST_STRIP * np.median(heights[columns]) / 2]
    return tuple(float(end.mean()) for end in _ends(rows[rows.any(axis=1)], x))


class _BodyTruth:
    """A body's corners, (p, s) in mm: [lower, upper][posterior, anterior]; and its own measurements."""

    def __init__(self, body: Body) -> None:
        x = np.arange(-0.7 * body.depth, 0.7 * body.depth, _STEP)
        y = np.arange(-0.8 * body.height, 0.8 * body.height, _STEP)
        plane = np.meshgrid(x, y)
        inside = body_distance(body, *plane, np.zeros_like(plane[0]))[0] < 0
        self.front, self.back = _waist(inside, x, y)
        columns = [_strip(x, self.front, self.back, strip) for strip in (m.ANTERIOR_STRIP, m.POSTERIOR_STRIP)]
        seen = inside.any(axis=0)
        plates = np.full((2, len(x)), _NAN)
        plates[:, seen] = _ends(inside.T[seen], y)
        self.corners = np.array([[self._corner(body, x, y, inside, plate, columns, back) for back in (True, False)]
                                 for plate in plates])  # fmt: skip
        middle = inside[:, _strip(x, self.front, self.back, m.MIDDLE_STRIP)].sum(axis=0).mean() * _STEP
        posterior, anterior = np.linalg.norm(self.corners[1] - self.corners[0], axis=1)
        self.mean_height = float(anterior + middle + posterior) / 3
        self.values = {
            m.ANTERIOR_HEIGHT: float(anterior),
            m.MIDDLE_HEIGHT: float(middle),
            m.POSTERIOR_HEIGHT: float(posterior),
            m.DEPTH: self.back - self.front,
            m.WEDGE_RATIO: float(anterior / posterior),
            m.BICONCAVITY_RATIO: float(middle / posterior),
        }

    @staticmethod
    def _corner(
        body: Body,
        x: np.ndarray,
        y: np.ndarray,
        inside: np.ndarray,
        plate: np.ndarray,
        columns: list[np.ndarray],
        back: bool,
    ) -> np.ndarray:
        slope, offset = np.polyfit([x[c].mean() for c in columns], [plate[c].mean() for c in columns], 1)
        share = y / offset
        rows = (share >= m.WALL_STRIP[0]) & (share <= m.WALL_STRIP[1])
        walls = _ends(inside[rows], x)[int(back)]
        lean, base = np.polyfit(y[rows], walls, 1)
        place = np.linalg.solve([[1.0, -lean], [-slope, 1.0]], [base, offset])
        return _points(body.pose, place[0], place[1])

    def angle(self, side: int) -> float:
        """By how many degrees the lower (0) or upper (1) endplate rises to anterior."""
        p, s = self.corners[side, 1] - self.corners[side, 0]
        return float(np.degrees(np.arctan2(s, -p)))


def _slip(upper: _BodyTruth, lower: _BodyTruth | None) -> dict[str, float]:
    if lower is None:
        return dict.fromkeys((m.SLIP, m.SLIP_SHARE, m.MEYERDING), _NAN)
    endplate = lower.corners[1, 1] - lower.corners[1, 0]
    depth = np.linalg.norm(endplate)
    slip = float((upper.corners[0, 0] - lower.corners[1, 0]) @ endplate / depth)
    grade = m.meyerding_grade(slip, 100 * slip / depth)
    return {m.SLIP: slip, m.SLIP_SHARE: 100 * slip / depth, m.MEYERDING: _NAN if grade is None else grade}


class _DiscTruth:
    """A disc less what the bodies cover of it: its measurements, and where its middle ends behind, (p, s) in mm."""

    def __init__(self, spine: Spine, n: int, bodies: list[_BodyTruth]) -> None:
        disc = spine.discs[n]
        reach = 0.75 * np.hypot(disc.height + 10, disc.depth + 2 * disc.bulge)
        x, y = np.arange(-reach, reach, _STEP), np.arange(-0.5 * reach, 0.5 * reach, _STEP)
        points = _points(disc.pose, *np.meshgrid(x, y))
        inside = _in_disc(disc, points)
        for body in (spine.bodies[n], spine.bodies[n - 1] if n else spine.sacrum[0]):
            inside &= ~_in_body(body, points)
        front, back = _waist(inside, x, y)
        self.posterior_end = _points(disc.pose, back, 0.0)
        above, below = bodies[n], bodies[n - 1] if n else None
        ends = (front, back)
        if below is not None:
            corners = (np.stack([above.corners[0], below.corners[1]]) - [disc.pose.p, disc.pose.s]) @ disc.pose.axis
            ends = tuple(corners.mean(axis=0)[::-1])
        strips = (m.ANTERIOR_STRIP, m.MIDDLE_STRIP, m.POSTERIOR_STRIP, m.WHOLE_STRIP)
        heights = [inside[:, _strip(x, *ends, strip)].sum(axis=0).mean() * _STEP for strip in strips]
        names = (m.ANTERIOR_HEIGHT, m.MIDDLE_HEIGHT, m.POSTERIOR_HEIGHT, m.MEAN_HEIGHT)
        self.values = dict(zip(names, map(float, heights), strict=True))
        self.values |= {m.DEPTH: back - front, m.AREA: float(inside.sum() * _STEP**2)}
        beyond = [_beyond(points[inside], above, below, wall) for wall in (1, 0)]
        self.values |= dict(zip((m.ANTERIOR_BULGE, m.POSTERIOR_BULGE), beyond, strict=True))


def _beyond(points: np.ndarray, above: _BodyTruth, below: _BodyTruth | None, wall: int) -> float:
    """How far points reach beyond the line between the bodies' posterior (0) or anterior (1) corners, mm."""
    if below is None:
        return _NAN
    lower, upper = below.corners[1, wall], above.corners[0, wall]
    rise = (upper - lower) / np.linalg.norm(upper - lower)
    backwards = np.array([rise[1], -rise[0]])
    return float(((points - lower) @ (-backwards if wall else backwards)).max())


class _CanalTruth:
    """Widths of the canal square to its middle line, less what discs and bodies cover of it."""

    def __init__(self, spine: Spine) -> None:
        self.spine = spine
        s = np.arange(spine.canal_s[0], spine.canal_s[-1], 0.25)
        self.line = np.column_stack([np.interp(s, spine.canal_s, spine.canal_p), s])
        steps = np.gradient(self.line, axis=0)
        tangent = steps / np.linalg.norm(steps, axis=1, keepdims=True)
        across = np.arange(-15.0, 15.0, _STEP)
        normal = np.column_stack([tangent[:, 1], -tangent[:, 0]])
        points = self.line[:, None] + across[:, None] * normal[:, None]
        inside = canal_distance(spine, points[..., 0], points[..., 1]) < 0
        for disc in spine.discs:
            inside &= ~_in_disc(disc, points)
        for body in spine.bodies:
            inside &= ~_in_body(body, points)
        self.width = inside.sum(axis=1) * _STEP
        self.along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.line, axis=0), axis=1))])

    def _place(self, point: np.ndarray) -> float:
        return float(self.along[np.linalg.norm(self.line - point, axis=1).argmin()])

    def _mean(self, place: float) -> float:
        return float(self.width[np.abs(self.along - place) <= m.CANAL_WINDOW / 2].mean())

    def width_at(self, point: np.ndarray) -> float:
        """Mean width about the place nearest to a point, mm."""
        return self._mean(self._place(point))

    def narrowest(self, low: np.ndarray, high: np.ndarray) -> float:
        """The least mean width between the places nearest to two points, mm."""
        low, high = self._place(low), self._place(high)
        return min(self._mean(place) for place in self.along[(self.along >= low) & (self.along <= high)])

    def area(self, low: np.ndarray, high: np.ndarray) -> float:
        """Area between the places nearest to two points, mm2."""
        low, high = self._place(low), self._place(high)
        within = (self.along >= low) & (self.along <= high)
        return float((self.width * np.gradient(self.along))[within].sum())
