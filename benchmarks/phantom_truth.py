"""Levels and measurements of unseen phantoms' true masks against what was drawn: how far the measuring itself errs.

Writes results/phantom_truth.csv and results/phantom_truth.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import label as pieces_of

from command_line import execute
from nnunetv2_diffusion.anatomy.levels import Levels, find_levels
from nnunetv2_diffusion.anatomy.measurements import measure
from nnunetv2_diffusion.anatomy.structures import SpineSlice
from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.imaging.grid import Grid
from nnunetv2_diffusion.measures import NARROWEST_CANAL
from nnunetv2_diffusion.phantoms.patients import PIR, make_spine
from nnunetv2_diffusion.phantoms.rendering import render
from nnunetv2_diffusion.phantoms.spine import Spine
from nnunetv2_diffusion.phantoms.truth import true_measurements
from nnunetv2_diffusion.spider import FIRST_DISC, PARTLY_VISIBLE

HERE = Path(__file__).resolve().parent
SEED = 7013  # of no other phantom in the project
HEIGHT, WIDTH = 280.0, 260.0  # mm, the field of view
KINDS = ("whole", "cut above", "cut below", "fused", "missed disc", "broken")
KEYS = ["scan", "level", "structure", "measurement"]
COLUMNS = ["structure", "measurement", "unit", "count", "error", "bias", "p95", "worst"]


@dataclass(frozen=True)
class Case:
    """A phantom's slice: the anatomy, SPIDER's labels [z, y] (to superior, to anterior), and what was done to it."""

    spine: Spine
    labels: np.ndarray
    pixel: float
    kind: str


def plain_slice(patient: int, pixel: float, seed: int = SEED) -> tuple[Spine, np.ndarray]:
    """The anatomy and the mid-sagittal labels of a phantom, turned by up to 6 degrees and placed between pixels."""
    spine, _ = make_spine(patient, seed, HEIGHT)
    rng = np.random.default_rng([seed, patient, 9])
    tilt = np.deg2rad(rng.uniform(-6.0, 6.0))
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]) @ PIR
    size, spacing = (round(WIDTH / pixel), round(HEIGHT / pixel), 1), (pixel, pixel, 4.0)
    middle = float(np.mean([body.pose.p for body in spine.bodies[:7]])) + 26.0
    centre = np.array([0.0, middle + rng.uniform(-2.0, 2.0), rng.uniform(-2.0, 2.0)])
    origin = centre - turn @ (np.array(spacing) * (np.array(size) - 1) / 2)
    grid = Grid(size, spacing, tuple(origin.tolist()), tuple(turn.ravel().tolist()))
    return spine, render(spine, grid, "t2", [0])[1][0][::-1, ::-1].copy()


def make_case(patient: int, pixel: float, kind: str, seed: int = SEED) -> Case:
    """A phantom's slice with one of the `KINDS` of trouble in its mask."""
    spine, labels = plain_slice(patient, pixel, seed)
    rng = np.random.default_rng([seed, patient, 11])
    level = int(rng.integers(2, 6))
    if kind == "cut above":
        rows = np.flatnonzero((_numbers(labels) == int(rng.integers(4, 7))).any(axis=1))
        labels = labels[: int(rng.integers(rows[len(rows) // 3], rows[-1]))]
    elif kind == "cut below":
        rows = np.flatnonzero((_numbers(labels) == 1).any(axis=1))
        labels = labels[int(rng.integers(rows[0] - 3, rows[len(rows) // 2])) :]
    elif kind in ("fused", "missed disc"):
        labels = _without_disc(labels, level, fused=kind == "fused", whole=bool(rng.integers(0, 2)))
    elif kind == "broken":
        rows, columns = np.nonzero(_body(labels, level))
        gap = max(1, round(2.0 / pixel))
        crack = slice(int(np.median(rows)), int(np.median(rows)) + gap)
        across = labels[crack, columns.min() : columns.max() + 1]
        across[across == level] = 0
    return Case(spine, labels, pixel, kind)


def _numbers(labels: np.ndarray) -> np.ndarray:
    """Labels with whole and partly visible vertebrae alike."""
    partly = (labels > PARTLY_VISIBLE) & (labels < FIRST_DISC)
    return np.where(partly, labels - PARTLY_VISIBLE, labels)


def _body(labels: np.ndarray, number: int) -> np.ndarray:
    """A vertebra's largest piece: its body."""
    pieces, _ = pieces_of(_numbers(labels) == number)
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()


def _without_disc(labels: np.ndarray, number: int, *, fused: bool, whole: bool) -> np.ndarray:
    """The mask without a disc: its front two thirds or all of it, turned into bone or left empty."""
    rows, columns = np.nonzero(labels == FIRST_DISC + number - 1)
    front = columns >= (columns.min() if whole else np.percentile(columns, 33))
    rows, columns = rows[front], columns[front]
    slope, offset = np.polyfit(columns, rows, 1)
    upper = rows > offset + slope * columns
    labels[rows, columns] = np.where(upper, number, number - 1) if fused else 0
    return labels


def wrong_levels(case: Case, levels: Levels) -> tuple[list[int], int]:
    """The labels whose structure got another number over most of its pixels, and how many structures there are."""
    truth, found = _numbers(case.labels), _numbers(levels.labels)
    values = [int(value) for value in np.unique(truth) if value]
    return [value for value in values if np.bincount(found[truth == value]).argmax() != value], len(values)


def compare(case: Case, levels: Levels, truth: pd.DataFrame) -> pd.DataFrame:
    """Measurements beside the truth: KEYS, value, truth, error."""
    spine = slice_of(case)
    tables = measure(spine, levels, truth["scan"].iloc[0]), truth
    found, truth = (t.assign(level=t["level"].where(t["measurement"] != NARROWEST_CANAL, "")) for t in tables)
    joined = found.merge(truth[[*KEYS, "value"]], on=KEYS, suffixes=("", "_true"))
    return joined.assign(error=joined["value"] - joined["value_true"]).dropna(subset="error")


def slice_of(case: Case) -> SpineSlice:
    """The case with its numbers merged into three structures."""
    return SpineSlice.of_labels(case.labels, (case.pixel, case.pixel))


def summary(errors: pd.DataFrame) -> pd.DataFrame:
    """Count, mean absolute error, bias, 95th percentile and largest error of each measurement: COLUMNS."""
    groups = errors.groupby(["structure", "measurement", "unit"])["error"]
    table = groups.agg(
        count="count",
        error=lambda e: e.abs().mean(),
        bias="mean",
        p95=lambda e: e.abs().quantile(0.95),
        worst=lambda e: e.abs().max(),
    )
    return table.reset_index()[COLUMNS]


def campaign(patients: Sequence[int], pixel: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(levels, errors): a row a case with its wrong structures and doubts; a row a measurement of those left whole."""
    rows, errors = [], []
    for patient, kind in _kinds(patients):
        case = make_case(patient, pixel, kind)
        levels = find_levels(slice_of(case))
        wrong, count = wrong_levels(case, levels)
        rows.append({"patient": patient, "kind": kind, "structures": count, "wrong": len(wrong),
                     "labels": " ".join(map(str, wrong)), "doubts": "; ".join(levels.doubts)})  # fmt: skip
        if kind == "whole":
            truth = true_measurements(case.spine, str(patient))
        if kind in ("whole", "cut above"):
            errors.append(compare(case, levels, truth))
    return pd.DataFrame(rows), pd.concat(errors, ignore_index=True)


def levels_by_kind(levels: pd.DataFrame) -> pd.DataFrame:
    """For each kind of case: slices, structures, those at a wrong level, in slices without a doubt, doubted slices."""
    counted = levels.assign(
        doubted=levels["doubts"] != "", wrong_without_doubt=levels["wrong"].where(levels["doubts"] == "", 0)
    )
    sums = counted.groupby("kind")[["structures", "wrong", "wrong_without_doubt", "doubted"]].sum()
    sums.insert(0, "slices", counted.groupby("kind").size())
    return sums.loc[[kind for kind in KINDS if kind in sums.index]].reset_index()


def _kinds(patients: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Every patient whole, and with one kind of trouble in turn."""
    for patient in patients:
        yield patient, "whole"
        yield patient, KINDS[1 + patient % (len(KINDS) - 1)]


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="phantom_truth.py", description="Measure phantoms' true masks and compare with what was drawn."
    )
    add = parser.add_argument
    add("--patients", type=int, default=200, metavar="N", help="phantoms (%(default)s)")
    add("--pixels", nargs="+", type=float, default=[1.0], metavar="MM", help="sides of a pixel (%(default)s)")
    add("--results", type=Path, default=HERE / "results", metavar="DIR", help="where the tables go (%(default)s)")
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Measure and write the tables."""
    tables, texts = [], []
    for pixel in args.pixels:
        levels, errors = campaign(range(1, args.patients + 1), pixel)
        table = summary(errors)
        tables.append(table.assign(pixel=pixel))
        texts.append(
            f"## Pixels of {pixel:g} mm\n\n{_markdown(levels_by_kind(levels))}\n\n{_markdown(table.round(3))}\n"
        )
    write_csv(pd.concat(tables, ignore_index=True), args.results / "phantom_truth.csv")
    text = f"# Phantoms' true masks measured\n\n{args.patients} phantoms, `{command}`.\n\n" + "\n".join(texts)
    write_text(text, args.results / "phantom_truth.md")


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(execute(build_parser(), run))
