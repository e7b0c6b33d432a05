"""Draws the measurements on a phantom: docs/images/measurements.svg."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from skimage.measure import approximate_polygon, find_contours

from command_line import execute
from nnunetv2_diffusion.anatomy.bodies import BodyShape
from nnunetv2_diffusion.anatomy.levels import find_levels
from nnunetv2_diffusion.anatomy.measurements import Shapes, measure_shapes
from nnunetv2_diffusion.files import write_whole
from nnunetv2_diffusion.imaging.palette import INK, structure_colours
from nnunetv2_diffusion.spider import CANAL, DISCS, STRUCTURES, VERTEBRAE
from phantom_truth import make_case, slice_of

HERE = Path(__file__).resolve().parent
PIXEL = 0.5
NOTE = {"fontsize": 7, "color": INK}


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="draw_measurements.py", description=__doc__)
    add = parser.add_argument
    add("--patient", type=int, default=24, metavar="N", help="which phantom (%(default)s)")
    add("--results", type=Path, default=HERE.parent / "docs" / "images", metavar="DIR", help="folder of the picture")
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Draw L3 to L5."""
    spine = slice_of(make_case(args.patient, PIXEL, "whole"))
    levels = find_levels(spine)
    shapes = measure_shapes(spine, levels)
    mpl.rcParams["svg.hashsalt"] = "measurements"
    figure, axes = plt.subplots(figsize=(5.2, 5.6))
    colours = structure_colours(STRUCTURES)
    for name, field in ((CANAL, spine.canal), (VERTEBRAE, spine.vertebrae), (DISCS, spine.discs)):
        for contour in find_contours(np.pad(field, 1), 0.5):
            axes.fill(
                *_flat(approximate_polygon(contour - 1, 0.4) * PIXEL), color=colours[name], alpha=0.35, linewidth=0
            )
    for number in (1, 2, 3):
        _draw_body(axes, shapes.bodies[number], f"L{6 - number}")
    _draw_between(axes, shapes)
    _draw_canal(axes, shapes)
    low, high = shapes.bodies[1].lower[:, 0].min() - 14, shapes.bodies[3].upper[:, 0].max() + 4
    middle = -shapes.bodies[2].lower[:, 1].mean()
    axes.set(xlim=(middle - 35, middle + 62), ylim=(low, high), aspect="equal")
    axes.axis("off")
    path = args.results / "measurements.svg"
    write_whole(path, lambda partial: figure.savefig(partial, bbox_inches="tight", metadata={"Date": None}))
    print(path)


def _flat(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of a picture whose left is anterior, from (s, a) in mm."""
    return -points[..., 1], points[..., 0]


def _line(axes: Axes, *points: np.ndarray, **style: object) -> None:
    axes.plot(*_flat(np.array(points)), **{"color": INK, "linewidth": 0.9, **style})


def _draw_body(axes: Axes, body: BodyShape, name: str) -> None:
    for corners in (body.lower, body.upper):
        _line(axes, *corners, marker="o", markersize=2.5)
    for wall in (0, 1):
        _line(axes, body.lower[wall], body.upper[wall], linestyle=":")
    middle = np.array([body.lower.mean(axis=0), body.upper.mean(axis=0)])
    _line(axes, *middle, linestyle=":")
    place = middle.mean(axis=0) + np.array([0.0, 8.0])
    axes.text(*_flat(place), name, ha="center", va="center", fontsize=10, color=INK)
    if name == "L3":
        axes.text(*_flat(middle.mean(axis=0) - np.array([4.0, 1.0])), "middle\nheight", va="center", **NOTE)


def _draw_between(axes: Axes, shapes: Shapes) -> None:
    """The slip of L4 on L5 and the lines that bulges are measured from."""
    upper, lower = shapes.bodies[2], shapes.bodies[1]
    for wall in (0, 1):
        _line(axes, upper.lower[wall], lower.upper[wall], color="#b3261e")
    axes.annotate(
        "bulge: beyond\nthis line",
        _flat((upper.lower[0] + lower.upper[0]) / 2),
        _flat(lower.upper[0] + [-12, -32]),
        arrowprops={"arrowstyle": "-", "linewidth": 0.6},
        **NOTE,
    )
    axis = lower.upper[1] - lower.upper[0]
    axis = axis / np.linalg.norm(axis)
    foot = lower.upper[0] + ((upper.lower[0] - lower.upper[0]) @ axis) * axis
    _line(axes, lower.upper[0], foot, color="#b3261e", linewidth=2.5)
    axes.annotate(
        "slip: along the endplate below",
        _flat(foot),
        _flat(lower.upper[0] + [-22, -22]),
        arrowprops={"arrowstyle": "-", "linewidth": 0.6},
        **NOTE,
    )
    disc = shapes.bodies[3].lower, upper.upper
    for share in (0.05, 0.25, 0.40, 0.60, 0.75, 0.95):
        ends = [plate[1] + share * (plate[0] - plate[1]) for plate in disc]
        _line(axes, *ends, color="#b3261e", linewidth=0.7)
    axes.text(*_flat(disc[0][1] + [-4, 2]), "disc heights: means\nover these strips", ha="right", va="center", **NOTE)


def _draw_canal(axes: Axes, shapes: Shapes) -> None:
    line, along = shapes.canal.line, None
    for point in (shapes.discs[3].posterior_end, (shapes.bodies[3].lower[0] + shapes.bodies[3].upper[0]) / 2):
        along = float(line.coordinates(point)[0])
        half = shapes.canal.width_at(point) / 2
        centre, normal = line.point(along), line.normal(along)
        _line(axes, centre - half * normal, centre + half * normal)
    axes.text(*_flat(line.point(along) - [-1, 12]), "canal width", **NOTE)
    low, high = (float(line.coordinates(shapes.bodies[n].lower[0])[0]) for n in (1, 3))
    _line(axes, *line.point(np.linspace(low, high + 25, 50)), linestyle="--", linewidth=0.6)


if __name__ == "__main__":
    sys.exit(execute(build_parser(), run))
