"""A patient's lumbar spine for the phantom: sizes, curvature and pathology drawn at random, poses computed by chaining.

Everything lies in the mid-sagittal plane, in mm: `p` points posterior, `s` superior; the third axis, `l`, points left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = ("L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9", "T8")
BODY_HEIGHT = (27.0, 27.0, 27.0, 26.5, 26.0, 25.0, 24.0, 23.0, 22.5, 22.0)
BODY_DEPTH = (34.0, 34.5, 34.0, 33.0, 32.0, 31.0, 30.0, 29.0, 28.0, 27.0)
BODY_WEDGE = (8.0, 3.0, 1.0, 0.0, -1.5, -3.0, -3.5, -4.0, -4.0, -4.0)  # degrees; positive is taller in front
DISC_HEIGHT = (9.5, 11.0, 10.5, 9.5, 8.5, 7.0, 6.0, 5.5, 5.0, 5.0)  # the disc below the level
DISC_WEDGE = (13.0, 10.0, 7.0, 5.0, 3.0, 1.0, 0.0, 0.0, 0.0, 0.0)
SACRAL_HEIGHT = (28.0, 22.0, 18.0)
SACRAL_DEPTH = ((24.0, 33.0), (16.0, 23.0), (11.0, 15.0))  # at the lower and the upper end
SACRAL_SLOPE = 40.0  # degrees, of the upper endplate of S1
NARROWED_HEIGHT = (0.42, 0.62)  # of the healthy height
SLIP = (5.0, 10.0)  # mm forwards


@dataclass(frozen=True)
class Pose:
    """Centre of an endplate or a body, and the tilt in degrees of its front-to-back axis against horizontal."""

    p: float
    s: float
    tilt: float

    @property
    def axis(self) -> np.ndarray:
        """Unit vector (p, s) from front to back."""
        angle = np.deg2rad(self.tilt)
        return np.array([np.cos(angle), np.sin(angle)])

    @property
    def normal(self) -> np.ndarray:
        """Unit vector (p, s) along the spine, upwards."""
        angle = np.deg2rad(self.tilt)
        return np.array([-np.sin(angle), np.cos(angle)])

    def moved(self, along_axis: float = 0.0, along_normal: float = 0.0, tilt: float = 0.0) -> Pose:
        """This pose shifted by mm along its own axes, then tilted by degrees."""
        p, s = np.array([self.p, self.s]) + along_axis * self.axis + along_normal * self.normal
        return Pose(float(p), float(s), self.tilt + tilt)


@dataclass(frozen=True)
class DiscFinding:
    """One row of SPIDER's radiological gradings, less the patient's number (0 or 1 unless noted)."""

    modic: int = 0  # 0 ... 3
    upper_endplate: int = 0
    lower_endplate: int = 0
    spondylolisthesis: int = 0
    herniation: int = 0
    narrowing: int = 0
    bulging: int = 0
    pfirrmann: int = 1  # 1 (healthy) ... 5


@dataclass(frozen=True)
class Body:
    """A vertebral body (or a piece of the sacrum): lengths in mm, pose of its centre, wedge in degrees."""

    pose: Pose
    height: float
    depth: float
    width: float
    wedge: float
    taper: float = 0.0  # mm by which the upper end is deeper than the lower
    concavity: float = 1.5  # mm
    upper_notch: float = 0.0  # mm, an endplate defect
    lower_notch: float = 0.0
    notch_position: float = 0.0  # -1 ... 1, from front to back
    marrow: float = 1.0  # factor on the marrow's signal
    upper_modic: int = 0
    lower_modic: int = 0


@dataclass(frozen=True)
class Disc:
    """A disc: `slip` mm by which what lies above is shifted forwards, `bulge` mm behind the bodies' edge."""

    pose: Pose
    height: float
    depth: float
    width: float
    wedge: float
    slip: float
    bulge: float
    finding: DiscFinding


@dataclass(frozen=True)
class Spine:
    """The patient: bodies and discs from L5 and L5/S1 upwards, the sacrum from S1 downwards, the canal's curve."""

    bodies: tuple[Body, ...]
    discs: tuple[Disc, ...]
    sacrum: tuple[Body, ...]
    canal_p: np.ndarray  # centre of the canal over `canal_s`, mm
    canal_s: np.ndarray  # rising
    canal_radius: np.ndarray  # half the front-to-back diameter over `canal_s`, mm
    conus: float  # where the cord ends, mm along s
    fat_thickness: float  # under the skin of the back, mm
    back_depth: float  # from the canal to the skin without the fat, mm


def draw_findings(rng: np.random.Generator) -> tuple[DiscFinding, ...]:
    """Gradings of all levels: worse in the lower discs and by a severity that the patient's discs share."""
    severity = rng.normal(0.0, 1.0)
    slipped_level = int(rng.integers(0, 2)) if rng.random() < 0.25 else None
    findings = []
    for level in range(len(LEVELS)):
        load = severity + (0.9, 0.8, 0.3, 0.0, -0.2, -0.4, -0.6, -0.8, -1.0, -1.0)[level] + rng.normal(0.0, 0.8)
        grade = int(np.clip(np.searchsorted((-0.9, 0.0, 0.9, 1.8), load) + 1, 1, 5))
        slip = int(level == slipped_level)
        grade = max(grade, 3) if slip else grade
        degenerate = grade >= 4
        findings.append(
            DiscFinding(
                modic=int(rng.choice([1, 2, 2, 2, 3])) if degenerate and rng.random() < 0.4 else 0,
                upper_endplate=int(rng.random() < (0.5 if degenerate else 0.1)),
                lower_endplate=int(rng.random() < (0.5 if degenerate else 0.1)),
                spondylolisthesis=slip,
                herniation=int(grade >= 3 and rng.random() < 0.12),
                narrowing=int(grade == 5 or (degenerate and rng.random() < 0.7)),
                bulging=int(grade >= 3 and rng.random() < 0.7),
                pfirrmann=grade,
            )
        )
    return tuple(findings)


def build_spine(rng: np.random.Generator, findings: tuple[DiscFinding, ...], bottom: float) -> Spine:
    """Chain sacrum, discs and bodies upwards with random sizes and the given findings.

    Args:
        rng: source of the sizes; the same state gives the same sizes whatever the findings.
        findings: one a level, from L5/S1 upwards.
        bottom: where the upper endplate of S1 lies, mm along s.
    """
    scale = rng.uniform(0.93, 1.07)
    curvature = rng.uniform(0.8, 1.15)
    marrow = rng.uniform(0.85, 1.1)
    sacral_end = Pose(0.0, bottom, SACRAL_SLOPE * curvature + rng.uniform(-4.0, 4.0))
    sacrum = _build_sacrum(sacral_end, scale, marrow)
    bodies, discs, end = [], [], sacral_end
    for level in range(len(LEVELS)):
        finding = findings[level]
        above = findings[level + 1] if level + 1 < len(LEVELS) else DiscFinding()
        disc, end = _build_disc(rng, end, level, scale, curvature, finding)
        body, end = _build_body(rng, end, level, scale, curvature, marrow, finding, above)
        discs.append(disc)
        bodies.append(body)
    canal = _build_canal(rng, bodies, sacrum, scale)
    return Spine(
        tuple(bodies),
        tuple(discs),
        sacrum,
        *canal,
        conus=bodies[4].pose.s + rng.uniform(-20.0, 10.0),
        fat_thickness=rng.uniform(10.0, 28.0),
        back_depth=rng.uniform(46.0, 56.0) * scale,
    )


def _build_sacrum(upper_end: Pose, scale: float, marrow: float) -> tuple[Body, ...]:
    pieces, end = [], upper_end
    for height, (lower_depth, upper_depth) in zip(SACRAL_HEIGHT, SACRAL_DEPTH, strict=True):
        height = height * scale
        centre = end.moved(along_normal=-height / 2, tilt=-5.0)
        depth = (lower_depth + upper_depth) / 2 * scale
        taper = (upper_depth - lower_depth) * scale
        pieces.append(Body(centre, height, depth, 60.0 * scale, -4.0, taper=taper, concavity=0.5, marrow=marrow))
        end = centre.moved(along_normal=-height / 2 - 2.0, tilt=-5.0)
    return tuple(pieces)


def _build_disc(
    rng: np.random.Generator, lower_end: Pose, level: int, scale: float, curvature: float, finding: DiscFinding
) -> tuple[Disc, Pose]:
    height = DISC_HEIGHT[level] * scale * rng.uniform(0.9, 1.1)
    narrowed, slip = rng.uniform(*NARROWED_HEIGHT), rng.uniform(*SLIP)
    bulge, hernia = rng.uniform(2.0, 3.0), rng.uniform(4.5, 6.5)
    height *= narrowed if finding.narrowing else 1.0
    slip *= finding.spondylolisthesis
    wedge = DISC_WEDGE[level] * curvature * (0.6 if finding.narrowing else 1.0)
    pose = lower_end.moved(tilt=-wedge / 2)
    centre = pose.moved(along_axis=-slip / 2, along_normal=height / 2)
    upper_end = pose.moved(along_axis=-slip, along_normal=height, tilt=-wedge / 2)
    bulge = hernia if finding.herniation else bulge * finding.bulging
    depth, width = BODY_DEPTH[level] * scale, 46.0 * scale
    return Disc(centre, height, depth, width, wedge, slip, bulge, finding), upper_end


def _build_body(
    rng: np.random.Generator,
    lower_end: Pose,
    level: int,
    scale: float,
    curvature: float,
    marrow: float,
    below: DiscFinding,
    above: DiscFinding,
) -> tuple[Body, Pose]:
    height = BODY_HEIGHT[level] * scale * rng.uniform(0.95, 1.05)
    wedge = BODY_WEDGE[level] * (curvature if BODY_WEDGE[level] > 0 else 1.0) + rng.uniform(-1.5, 1.5)
    centre = lower_end.moved(tilt=-wedge / 2).moved(along_normal=height / 2)
    body = Body(
        centre,
        height,
        BODY_DEPTH[level] * scale * rng.uniform(0.97, 1.03),
        46.0 * scale,
        wedge,
        concavity=rng.uniform(1.0, 2.2),
        upper_notch=rng.uniform(2.0, 4.0) * above.lower_endplate,
        lower_notch=rng.uniform(2.0, 4.0) * below.upper_endplate,
        notch_position=rng.uniform(-0.4, 0.4),
        marrow=marrow * rng.uniform(0.94, 1.06),
        upper_modic=above.modic,
        lower_modic=below.modic,
    )
    return body, centre.moved(along_normal=height / 2, tilt=-wedge / 2)


def _build_canal(
    rng: np.random.Generator, bodies: list[Body], sacrum: tuple[Body, ...], scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The canal's centre (p over s) and radius: behind the bodies, tapering in the sacrum, smoothed along the spine."""
    radius = rng.uniform(7.2, 8.8) * scale
    points = []
    for part, factor in [*[(piece, 0.35 + 0.25 * (2 - n)) for n, piece in enumerate(sacrum)][::-1]]:
        points.append(_behind(part, 0.0, radius * factor))
    for part in bodies:
        points += [_behind(part, fraction, radius) for fraction in (-0.4, 0.0, 0.4)]
    p, s, radii = np.array(sorted(points, key=lambda point: point[1])).T
    fine = np.arange(s[0], s[-1], 1.0)
    kernel = np.hanning(25) / np.hanning(25).sum()

    def smooth(values: np.ndarray) -> np.ndarray:
        return np.convolve(np.pad(np.interp(fine, s, values), 12, mode="edge"), kernel, mode="valid")

    return smooth(p), fine, smooth(radii)


def _behind(body: Body, fraction: float, radius: float) -> tuple[float, float, float]:
    point = body.pose.moved(body.depth / 2 + 1.5 + radius, fraction * body.height)
    return point.p, point.s, radius
