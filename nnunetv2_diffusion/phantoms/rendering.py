"""Draws a spine into an MRI volume and its mask: signed distances in mm, painted one tissue over the other.

The edge of a shape is spread over one voxel, and thin subslices are averaged over a slice: the partial volume effect.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from nnunetv2_diffusion.imaging.grid import Grid
from nnunetv2_diffusion.phantoms.spine import Body, Disc, Pose, Spine
from nnunetv2_diffusion.spider import CANAL_VALUE, FIRST_DISC, PARTLY_VISIBLE

SUBSLICES = 3  # odd: the mask is the middle one
ENDPLATE = 2.0  # mm
# Parts of structures that raters may count in or out.
ZONES = ("canal", "epidural_fat", "bulge", "endplates")

# Relative signal of each tissue; the nucleus goes by Pfirrmann grade 1 to 5, Modic changes by type 1 to 3.
SIGNALS = {
    "t1": {
        "air": 0.0, "fat": 0.95, "skin": 0.35, "muscle": 0.33, "bowel": 0.45, "vessel": 0.06, "cortex": 0.10,
        "marrow": 0.50, "annulus": 0.27, "ligament": 0.10, "csf": 0.14, "cord": 0.33, "interspinous": 0.60,
        "nucleus": (0.34, 0.34, 0.33, 0.31, 0.27), "modic": (0.30, 0.75, 0.22),
    },
    "t2": {
        "air": 0.0, "fat": 0.75, "skin": 0.25, "muscle": 0.20, "bowel": 0.40, "vessel": 0.05, "cortex": 0.07,
        "marrow": 0.40, "annulus": 0.14, "ligament": 0.06, "csf": 0.95, "cord": 0.42, "interspinous": 0.45,
        "nucleus": (0.80, 0.66, 0.42, 0.25, 0.15), "modic": (0.60, 0.55, 0.15),
    },
}  # fmt: skip


class Canvas:
    """A volume under the brush: signal and SPIDER labels, each [slices * SUBSLICES, rows, columns]."""

    def __init__(self, grid: Grid) -> None:
        self.left, self.posterior, self.superior = subslice_coordinates(grid)
        self.pixel = min(grid.spacing)
        self.signal = np.zeros(self.left.shape, np.float32)
        self.label = np.zeros(self.left.shape, np.uint8)
        self.zones = {name: np.zeros(self.left.shape, bool) for name in ZONES}

    def near(self, pose_p: float, pose_s: float, radius: float) -> tuple[slice, slice, slice]:
        """The block that holds every voxel within `radius` mm of a point of the sagittal plane."""
        close = (np.abs(self.posterior - pose_p) <= radius) & (np.abs(self.superior - pose_s) <= radius)
        if not close.any():
            return (slice(0, 0),) * 3
        rows, columns = np.flatnonzero(close.any(axis=(0, 2))), np.flatnonzero(close.any(axis=(0, 1)))
        return slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def paint(self, distance: np.ndarray, signal: float | np.ndarray, label: int | None = None, block=...) -> None:
        """Cover what lies inside (`distance` below 0, in mm) with `signal`; `label` None leaves the mask as it is."""
        cover = np.clip(0.5 - distance / self.pixel, 0.0, 1.0)
        self.signal[block] += cover * (signal - self.signal[block])
        if label is not None:
            self.label[block][distance < 0] = label

    def mark(self, zone: str, distance: np.ndarray, block=...) -> None:
        """Note that what lies inside (`distance` below 0, in mm) is part of a zone."""
        self.zones[zone][block] |= distance < 0

    def middle(self, painted: np.ndarray) -> np.ndarray:
        """What was painted, on the middle one of each slice's subslices."""
        return painted[SUBSLICES // 2 :: SUBSLICES].copy()


def subslice_coordinates(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World coordinates (left, posterior, superior) in mm, each float32 [slices * SUBSLICES, rows, columns]."""
    x, y = (np.arange(n, dtype=np.float32) for n in grid.size[:2])
    z = (np.arange(grid.size[2] * SUBSLICES, dtype=np.float32) - (SUBSLICES - 1) / 2) / SUBSLICES
    columns = np.reshape(grid.direction, (3, 3)) * np.array(grid.spacing)
    return tuple(
        (grid.origin[axis] + columns[axis, 0] * x[None, None] + columns[axis, 1] * y[None, :, None]
         + columns[axis, 2] * z[:, None, None]).astype(np.float32)
        for axis in range(3)
    )  # fmt: skip


def render(spine: Spine, grid: Grid, series: str, texture_seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free signal (float32, relative) and SPIDER labels (uint8) of `spine`, each [slices, rows, columns].

    Args:
        spine: the anatomy, in mm.
        grid: the scan's geometry.
        series: "t1" or "t2".
        texture_seed: seed of the soft tissue's texture; the same for both series of a patient.
    """
    signal, label, _ = render_zones(spine, grid, series, texture_seed)
    return signal, label


def render_zones(
    spine: Spine, grid: Grid, series: str, texture_seed: list[int]
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """As `render`, and boolean [slices, rows, columns] where each of the `ZONES` lies, whatever covers it."""
    tissue = SIGNALS[series]
    canvas = Canvas(grid)
    _paint_soft_tissue(canvas, spine, tissue, np.random.default_rng(texture_seed))
    _paint_canal(canvas, spine, tissue)
    for disc_number, disc in enumerate(spine.discs):
        _paint_disc(canvas, disc, tissue, FIRST_DISC + disc_number)
    for piece in spine.sacrum:
        _paint_body(canvas, piece, tissue, 0)
    for number, body in enumerate(spine.bodies, start=1):
        _paint_arch(canvas, body, spine, tissue, number)
        _paint_body(canvas, body, tissue, number)
    signal = canvas.signal.reshape(-1, SUBSLICES, *canvas.signal.shape[1:]).mean(axis=1)
    label = canvas.middle(canvas.label)
    for number in range(1, len(spine.bodies) + 1):
        if (label[:, 0] == number).any():
            label[label == number] = PARTLY_VISIBLE + number
    return signal, label, {name: canvas.middle(zone) for name, zone in canvas.zones.items()}


def degrade(
    signal: np.ndarray, spacing: float, noise: float, bias: float, rng: np.random.Generator, brightness: float
) -> np.ndarray:
    """What the scanner makes of it: blur, coil sensitivity, Rician noise; int16.

    Args:
        signal: [slices, rows, columns], columns running from front to back.
        spacing: in-plane voxel length in mm.
        noise: standard deviation in each of the two channels, relative to the brightest tissue.
        bias: strength of the coil's falloff from back to front; 0 is none.
        rng: source of the noise and the field.
        brightness: scanner units of relative signal 1.
    """
    signal = gaussian_filter(signal, (0.0, 0.45, 0.45))
    rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in signal.shape[1:])
    tilt, bow = rng.uniform(-0.15, 0.15), rng.uniform(0.0, 0.25)
    field = np.exp(bias * (columns[None] - 0.3)) * (1 + tilt * rows[:, None] - bow * rows[:, None] ** 2)
    signal = signal * field.astype(np.float32)
    noise = noise * max(1.0, 1.25 / spacing)
    real, imaginary = (noise * rng.standard_normal(signal.shape, np.float32) for _ in range(2))
    return np.round(brightness * np.hypot(signal + real, imaginary)).astype(np.int16)


def _texture(canvas: Canvas, rng: np.random.Generator, wavelength: float, waves: int = 14) -> np.ndarray:
    """A smooth random field of unit variance, fixed in the world: a sum of plane waves of about `wavelength` mm."""
    field = np.zeros_like(canvas.left[SUBSLICES // 2 :: SUBSLICES])
    left, posterior, superior = (
        axis[SUBSLICES // 2 :: SUBSLICES] for axis in (canvas.left, canvas.posterior, canvas.superior)
    )
    for _ in range(waves):
        k = rng.standard_normal(3) * 2 * np.pi / wavelength / 1.7
        field += np.cos(np.float32(k[0]) * left + np.float32(k[1]) * posterior + np.float32(k[2]) * superior
                        + np.float32(rng.uniform(0, 2 * np.pi)))  # fmt: skip
    return np.repeat(field * np.float32(np.sqrt(2 / waves)), SUBSLICES, axis=0)


def _paint_soft_tissue(canvas: Canvas, spine: Spine, tissue: dict, rng: np.random.Generator) -> None:
    canal = np.interp(canvas.superior, spine.canal_s, spine.canal_p).astype(np.float32)
    behind = canvas.posterior - canal
    coarse, fine = _texture(canvas, rng, 34.0), _texture(canvas, rng, 11.0)
    lower_half = np.clip(-canvas.superior / 60.0, 0.0, 1.0)
    to_fat = behind - spine.back_depth + 4.0 * lower_half + 1.5 * coarse
    to_skin = to_fat - spine.fat_thickness * (1 + 0.8 * lower_half)
    canvas.paint(to_skin, tissue["skin"])
    canvas.paint(to_skin + 2.0, tissue["fat"] * (1 + 0.06 * fine))
    canvas.paint(to_fat, tissue["ligament"])
    streaks = np.clip(0.35 + 0.5 * fine + 0.3 * coarse, 0.0, 1.0)
    midline = np.exp(-((canvas.left / 9.0) ** 2))
    back = tissue["muscle"] + streaks * (0.15 + 0.45 * midline) * (tissue["interspinous"] - tissue["muscle"])
    canvas.paint(to_fat + 2.5, back)
    belly = tissue["bowel"] + 0.5 * np.tanh(coarse + 0.5 * fine) * (tissue["fat"] - tissue["muscle"])
    canvas.paint(behind + 22.0, belly)
    prevertebral = np.abs(behind + 48.0) - 7.0
    canvas.paint(prevertebral, tissue["fat"] * (0.75 + 0.1 * fine))
    vessel = np.hypot(behind + 62.0 + 3.0 * coarse, 0.8 * (canvas.left - 6.0)) - 8.0
    canvas.paint(np.maximum(vessel, -75.0 - canvas.superior), tissue["vessel"] * (1 + 0.5 * np.abs(fine)))


def canal_distance(spine: Spine, posterior: np.ndarray, superior: np.ndarray) -> np.ndarray:
    """Signed distance in mm from the canal's wall in the mid-sagittal plane; discs and bodies may cover part of it."""
    centre, radius = (np.interp(superior, spine.canal_s, values) for values in (spine.canal_p, spine.canal_radius))
    slope = np.interp(superior, spine.canal_s, np.gradient(spine.canal_p, spine.canal_s))
    tube = _tube((posterior - centre) / np.sqrt(1 + slope**2), np.zeros_like(superior), radius)
    return np.maximum(tube, spine.canal_s[0] - superior)


def _tube(across: np.ndarray, left: np.ndarray, radius: np.ndarray) -> np.ndarray:
    return (np.hypot(across / radius, left / (1.4 * radius)) - 1) * radius


def _paint_canal(canvas: Canvas, spine: Spine, tissue: dict) -> None:
    centre = np.interp(canvas.superior, spine.canal_s, spine.canal_p).astype(np.float32)
    radius = np.interp(canvas.superior, spine.canal_s, spine.canal_radius).astype(np.float32)
    slope = np.interp(canvas.superior, spine.canal_s, np.gradient(spine.canal_p, spine.canal_s)).astype(np.float32)
    across = (canvas.posterior - centre) / np.sqrt(1 + slope**2)
    beyond_end = spine.canal_s[0] - canvas.superior
    tube = _tube(across, canvas.left, radius)
    canvas.paint(np.maximum(np.hypot(across, canvas.left / 1.6) - radius - 2.5, beyond_end), tissue["ligament"])
    epidural = np.hypot(across - radius - 0.5, canvas.left / 2) - 3.0
    canvas.paint(np.maximum(epidural, beyond_end), tissue["fat"])
    canvas.paint(np.maximum(tube, beyond_end), tissue["csf"], CANAL_VALUE)
    canvas.mark("canal", np.maximum(tube, beyond_end))
    canvas.mark("epidural_fat", np.maximum(epidural, beyond_end))
    cord = np.hypot(across + 0.5, canvas.left / 1.3) - np.clip((canvas.superior - spine.conus) / 8.0, -1.0, 4.0)
    canvas.paint(cord, tissue["cord"])
    roots = np.hypot(across - 0.45 * radius, canvas.left / 2.5) - 0.28 * radius
    roots = np.maximum(roots, np.abs(canvas.superior - spine.conus + 45.0) - 48.0)
    canvas.paint(roots, 0.5 * (tissue["cord"] + tissue["csf"]))


def _local(canvas: Canvas, block: tuple, pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates in a pose's frame: front to back, upwards, left."""
    p, s = canvas.posterior[block] - np.float32(pose.p), canvas.superior[block] - np.float32(pose.s)
    (ax, ay), (nx, ny) = pose.axis.astype(np.float32), pose.normal.astype(np.float32)
    return ax * p + ay * s, nx * p + ny * s, canvas.left[block]


def _rounded_box(x: np.ndarray, y: np.ndarray, corner: float) -> np.ndarray:
    """Signed distance of a box from the excess `x`, `y` over its half lengths, corners of radius `corner`."""
    x, y = x + corner, y + corner
    return np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0) - corner


def _half_depth(left: np.ndarray, depth: float, width: float) -> np.ndarray:
    """Half the front-to-back length of a body's roughly elliptical cross-section at `left` mm from the midline."""
    inside = np.clip(1 - np.abs(2 * left / width) ** 2.5, 0.0, 1.0)
    return depth / 2 * np.sqrt(inside) - 6.0 * (inside <= 0)


def body_distance(
    body: Body, x: np.ndarray, y: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance in mm from a body's surface (negative inside), its half height, and x over half the depth.

    `x` runs to posterior and `y` upwards in the frame of the body's pose, `left` from the midline; all in mm.
    """
    relative = 2 * x / body.depth
    half_height = body.height / 2 - np.tan(np.deg2rad(body.wedge / 2)) * x
    half_height -= body.concavity * np.clip(1 - relative**2, 0.0, 1.0)
    notch = np.where(y > 0, body.upper_notch, body.lower_notch)
    half_height -= notch * np.exp(-(((relative - body.notch_position) / 0.22) ** 2) - (left / 9.0) ** 2)
    waist = 1.2 * np.clip(1 - (2 * y / body.height) ** 2, 0.0, 1.0)
    half_depth = _half_depth(left, body.depth, body.width) - waist + body.taper * y / body.height / 2
    return _rounded_box(np.abs(x) - half_depth, np.abs(y) - half_height, 2.5), half_height, relative


def _paint_body(canvas: Canvas, body: Body, tissue: dict, label: int) -> None:
    block = canvas.near(body.pose.p, body.pose.s, 0.75 * np.hypot(body.height, body.depth))
    x, y, left = _local(canvas, block, body.pose)
    distance, half_height, relative = body_distance(body, x, y, left)
    canvas.paint(distance, tissue["cortex"], label, block)
    canvas.paint(distance + 1.0, tissue["marrow"] * body.marrow, None, block)
    canvas.mark("endplates", np.maximum(distance, half_height - ENDPLATE - np.abs(y)), block)
    for side, kind in ((1, body.upper_modic), (-1, body.lower_modic)):
        if kind:
            change = np.maximum(distance + 1.0, half_height - side * y - 6.0 - 2.0 * relative)
            canvas.paint(change, tissue["modic"][kind - 1], None, block)


def disc_distance(
    disc: Disc, x: np.ndarray, y: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance in mm from a disc's surface (negative inside; bodies cover part of it), x less the slip's shear,
    and its half height; arguments as in `body_distance`."""
    x = x + np.clip(y / disc.height, -0.5, 0.5) * disc.slip
    half_height = disc.height / 2 + np.tan(np.deg2rad(disc.wedge / 2)) * -x
    half_depth = _half_depth(left, disc.depth, disc.width) + np.where(x > 0, disc.bulge, 0.4 * disc.bulge)
    endplates = 6.5 * np.clip(1 - (x / 0.45 / disc.depth) ** 2, 0.0, 1.0)  # their hollow; bodies are painted over it
    gap = half_height + endplates
    distance = _rounded_box(np.abs(x) - half_depth, np.abs(y) - np.maximum(gap, 1.0), min(2.5, disc.height / 3))
    return distance, x, half_height


def _paint_disc(canvas: Canvas, disc: Disc, tissue: dict, label: int) -> None:
    block = canvas.near(disc.pose.p, disc.pose.s, 0.75 * np.hypot(disc.height + 10, disc.depth + 2 * disc.bulge))
    x, y, left = _local(canvas, block, disc.pose)
    distance, x, half_height = disc_distance(disc, x, y, left)
    canvas.paint(distance, tissue["annulus"], label, block)
    canvas.mark("bulge", np.maximum(distance, _half_depth(left, disc.depth, disc.width) - np.abs(x)), block)
    nucleus = np.hypot((x - 1.0) / 0.34 / disc.depth, left / 0.34 / disc.width)
    nucleus = np.hypot(nucleus, y / (half_height + 0.5)) - 1
    canvas.paint(nucleus * disc.height / 2, tissue["nucleus"][disc.finding.pfirrmann - 1], None, block)


def _paint_arch(canvas: Canvas, body: Body, spine: Spine, tissue: dict, label: int) -> None:
    """Spinous process in the midline, pedicles and articular pillars beside the canal."""
    canal = 2 * float(np.interp(body.pose.s, spine.canal_s, spine.canal_radius)) + 4.0
    block = canvas.near(body.pose.p + body.depth / 2 + canal + 8.0, body.pose.s, 48.0)
    x, y, left = _local(canvas, block, body.pose)
    x = x - body.depth / 2
    tip = x - canal
    spinous = _rounded_box(np.abs(tip - 13.0) - 13.0, np.abs(y + 5.0 + 0.35 * tip) - 0.36 * body.height, 4.0)
    spinous = np.maximum(spinous, np.abs(left) - 4.0)
    pedicle = _rounded_box(np.abs(x - canal / 2 + 3.0) - canal / 2 - 3.0, np.abs(y - 0.18 * body.height) - 7.0, 3.0)
    pillar = _rounded_box(np.abs(x - canal - 1.0) - 6.0, np.abs(y + 3.0 + 0.2 * x) - 0.55 * body.height, 4.0)
    beside = np.abs(np.abs(left) - 16.0) - 4.5
    arch = np.minimum(spinous, np.maximum(np.minimum(pedicle, pillar), beside))
    canvas.paint(arch, tissue["cortex"], label, block)
    canvas.paint(arch + 1.0, 0.9 * tissue["marrow"] * body.marrow, None, block)
