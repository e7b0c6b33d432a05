"""Writes phantom patients in SPIDER's own layout: T1w and T2w volumes, masks, and the two csv files.

The images stand in for SPIDER where it is not at hand; nothing learned from them says anything about patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from tqdm import tqdm

from nnunetv2_diffusion.files import write_whole
from nnunetv2_diffusion.imaging.grid import Grid
from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.nnunet_names import rated_file_name
from nnunetv2_diffusion.phantoms.raters import RATERS_FILE, Convention, by_rater, draw_convention, rater_row
from nnunetv2_diffusion.phantoms.rendering import degrade, render_zones
from nnunetv2_diffusion.phantoms.spine import DiscFinding, Spine, build_spine, draw_findings
from nnunetv2_diffusion.spider import (
    DISCS,
    FIRST_DISC,
    GRADINGS_FILE,
    IMAGES,
    MASKS,
    MODALITIES,
    OVERVIEW_FILE,
    VALUES,
    VERTEBRAE,
    Series,
)

CONTRASTS = MODALITIES["T1wT2w"]
GRADING_COLUMNS = {
    "Modic": "modic",
    "UP endplate": "upper_endplate",
    "LOW endplate": "lower_endplate",
    "Spondylolisthesis": "spondylolisthesis",
    "Disc herniation": "herniation",
    "Disc narrowing": "narrowing",
    "Disc bulging": "bulging",
    "Pfirrman grade": "pfirrmann",  # SPIDER's spelling
}
PIR = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # x to posterior, y to inferior, z to right


@dataclass(frozen=True)
class Protocol:
    """The acquisition: sagittal slices, `rows` x `columns` pixels of `in_plane` mm, `slice_distance` mm apart."""

    in_plane: float = 1.25
    rows: int = 224
    columns: int = 208
    slices: int = 11
    slice_distance: float = 4.0

    def __post_init__(self) -> None:
        if min(self.in_plane, self.rows, self.columns, self.slices, self.slice_distance) <= 0:
            raise ValueError(f"every length and count of an acquisition must be above 0, not {self}")
        if self.rows * self.in_plane < 120 or self.columns * self.in_plane < 120:
            raise ValueError(f"the field of view must be at least 120 mm high and wide to hold a spine: {self}")

    @property
    def height(self) -> float:
        """Field of view from top to bottom in mm."""
        return self.rows * self.in_plane


def make_spine(patient: int, seed: int = 0, height: float = 280.0) -> tuple[Spine, tuple[DiscFinding, ...]]:
    """The anatomy and gradings of one patient; the same for the same numbers.

    Args:
        patient: number, at least 1.
        seed: seed of the whole phantom data set.
        height: field of view in mm, which decides how high above its lower edge the sacrum begins.
    """
    rng = np.random.default_rng([seed, patient, 0])
    findings = draw_findings(rng)
    return build_spine(rng, findings, bottom=-height / 2 + rng.uniform(50.0, 62.0)), findings


def make_scan(
    spine: Spine, patient: int, contrast: str, seed: int, protocol: Protocol
) -> tuple[sitk.Image, sitk.Image]:
    """One scan ("t1" or "t2"), positioned and degraded in its own way: image (int16), mask (uint8, SPIDER's values)."""
    image, (mask,) = make_rated_scan(spine, patient, contrast, seed, protocol, [Convention()])
    return image, mask


def make_rated_scan(
    spine: Spine, patient: int, contrast: str, seed: int, protocol: Protocol, conventions: Sequence[Convention]
) -> tuple[sitk.Image, list[sitk.Image]]:
    """As `make_scan`, with a mask by each of the conventions."""
    rng = np.random.default_rng([seed, patient, 1 + CONTRASTS.index(contrast)])
    grid = _position(spine, np.random.default_rng([seed, patient, 3]), rng, protocol)
    signal, label, zones = render_zones(spine, grid, contrast, texture_seed=[seed, patient, 4])
    voxels = degrade(
        signal,
        protocol.in_plane,
        noise=rng.uniform(0.02, 0.045),
        bias=rng.uniform(0.4, 1.1),
        rng=rng,
        brightness=rng.uniform(400.0, 1600.0),
    )
    return grid.image(voxels), [grid.image(convention.apply(label, zones)) for convention in conventions]


def draw_conventions(patient: int, contrast: str, seed: int, raters: int) -> list[Convention]:
    """What each rater counts in on a patient's scan, by `raters.SHARES`; a rater's depends on no other's."""
    about = [seed, patient, 5, CONTRASTS.index(contrast)]
    return [draw_convention(np.random.default_rng([*about, number])) for number in range(1, raters + 1)]


def write_phantoms(
    folder: Path | str,
    patients: Iterable[int] = range(1, 21),
    seed: int = 0,
    protocol: Protocol | None = None,
    progress: bool = False,
    *,
    raters: int = 0,
    conventions: Mapping[str, Convention] | None = None,
) -> Path:
    """Write `images/`, `masks/`, `overview.csv` and `radiological_gradings.csv`, as SPIDER publishes them.

    With raters or conventions, `masks/` also holds `<patient>_<series>__<rater>.mha` of each, and `raters.csv` what
    they counted in; images and the phantoms' own masks are the same as without.

    Args:
        folder: where to write; made if missing, files of the same name are replaced.
        patients: numbers of the patients, each with a `t1` and a `t2` series.
        seed: seed of the data set; a patient depends on it and on his own number alone.
        protocol: size and spacing of the volumes.
        progress: show a progress bar.
        raters: how many segment every scan, see `raters`.
        conventions: by which every scan is segmented, in place of those that raters draw; the keys name the masks.

    Returns:
        The folder.

    Raises:
        ValueError: no patient, a number below 1, or a negative seed or number of raters.
    """
    folder, protocol, patients = Path(folder), protocol or Protocol(), sorted(set(patients))
    if not patients or patients[0] < 1 or seed < 0:
        raise ValueError(f"phantoms need patient numbers from 1 and a seed from 0, not {patients} and {seed}")
    if raters < 0:
        raise ValueError(f"phantoms need 0 or more raters, not {raters}")
    overview, gradings, rated = [], [], []
    for patient in tqdm(patients, desc="phantoms", unit="patient", disable=not progress):
        spine, findings = make_spine(patient, seed, protocol.height)
        for contrast in CONTRASTS:
            series = Series(patient, contrast, contrast)
            drawn = conventions or by_rater(draw_conventions(patient, contrast, seed, raters))
            every = [Convention(), *drawn.values()]
            image, (mask, *others) = make_rated_scan(spine, patient, contrast, seed, protocol, every)
            for (rater, convention), other in zip(drawn.items(), others, strict=True):
                write_image(other, folder / MASKS / rated_file_name(series.file_name, rater))
                rated.append(rater_row(series.name, rater, convention))
            write_image(image, folder / IMAGES / series.file_name)
            write_image(mask, folder / MASKS / series.file_name)
            overview.append(_overview_row(series, mask, protocol))
        gradings += _grading_rows(patient, findings, mask)
    _write_table(overview, folder / OVERVIEW_FILE)
    _write_table(gradings, folder / GRADINGS_FILE)
    if rated:
        _write_table(rated, folder / RATERS_FILE)
    return folder


def _position(spine: Spine, patient_rng: np.random.Generator, rng: np.random.Generator, protocol: Protocol) -> Grid:
    """The grid over the patient: his own rotation, and a little movement between the two series."""
    tilt = np.deg2rad(patient_rng.uniform(-6.0, 6.0) + rng.uniform(-1.0, 1.0))
    turn, lean = np.deg2rad(patient_rng.uniform(-1.2, 1.2, size=2) + rng.uniform(-0.4, 0.4, size=2))
    about_left = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about_superior = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_posterior = np.array([[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]])
    direction = about_left @ about_superior @ about_posterior @ PIR
    size = (protocol.columns, protocol.rows, protocol.slices)
    spacing = (protocol.in_plane, protocol.in_plane, protocol.slice_distance)
    middle = float(np.mean([body.pose.p for body in spine.bodies[:7]]))
    centre = np.array([0.0, middle + 26.0, 0.0]) + patient_rng.uniform(-6.0, 6.0, size=3) * (0.4, 1.0, 1.0)
    centre += rng.uniform(-2.0, 2.0, size=3) * (0.4, 1.0, 1.0)
    origin = centre - direction @ (np.array(spacing) * (np.array(size) - 1) / 2)
    return Grid(size, spacing, tuple(origin.tolist()), tuple(direction.ravel().tolist()))


def _overview_row(series: Series, mask: sitk.Image, protocol: Protocol) -> dict[str, object]:
    values = np.unique(sitk.GetArrayViewFromImage(mask)).tolist()
    numbers = {name: sum(value in span for value in values for span in VALUES[name]) for name in (VERTEBRAE, DISCS)}
    return {
        "new_file_name": series.name,
        "num_vertebrae": numbers[VERTEBRAE],
        "num_discs": numbers[DISCS],
        "sex": "FM"[series.patient % 2],
        "subset": "training",
        "Manufacturer": "Phantom",
        "MRAcquisitionType": "2D",
        "PixelSpacing": f"[{protocol.in_plane}, {protocol.in_plane}]",
        "SeriesDescription": f"SAG {series.series.upper()} phantom",
        "SliceThickness": protocol.slice_distance,
        "SpacingBetweenSlices": protocol.slice_distance,
    }


def _grading_rows(patient: int, findings: tuple[DiscFinding, ...], mask: sitk.Image) -> list[dict[str, int]]:
    """A row for each disc that lies wholly within the field of view of `mask`."""
    voxels = sitk.GetArrayViewFromImage(mask)
    seen = set(np.unique(voxels).tolist()) - set(np.unique(voxels[:, 0]).tolist())
    return [
        {"Patient": patient, "IVD label": number}
        | {column: getattr(finding, field) for column, field in GRADING_COLUMNS.items()}
        for number, finding in enumerate(findings, start=1)
        if FIRST_DISC + number - 1 in seen
    ]


def _write_table(rows: list[dict[str, object]], path: Path) -> None:
    write_whole(path, lambda partial: pd.DataFrame(rows).to_csv(partial, index=False))
