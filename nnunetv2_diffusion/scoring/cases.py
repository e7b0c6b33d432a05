"""Scoring many cases: one row a case and structure, one row a case with an uncertainty map, in several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from tqdm import tqdm

from nnunetv2_diffusion.scoring.calibration import case_calibration
from nnunetv2_diffusion.scoring.case_files import read_map, read_mask, read_probabilities
from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.map_quality import case_quality
from nnunetv2_diffusion.scoring.metrics import mask_metrics
from nnunetv2_diffusion.scoring.workers import spread

CHUNK = 24
FILE_COLUMNS = ("reference", "prediction", "uncertainty", "probabilities", "map_prediction", "image")


@dataclass(frozen=True)
class Scores:
    """What was measured, as tidy tables that share the columns describing a case.

    Attributes:
        structures: a row a case and structure: dice, hd95, assd (mm), reference_voxels, predicted_voxels.
        uncertainty: a row a case with a map: mean_uncertainty and the measures of `case_quality`.
        curves: the risk-coverage curve of each such case: region (one of `CROPS`), coverage, risk.
        bins: the reliability bins of each case with stored probabilities: region, bin, count, sums.
    """

    structures: pd.DataFrame
    uncertainty: pd.DataFrame
    curves: pd.DataFrame
    bins: pd.DataFrame


def score_cases(
    cases: pd.DataFrame, labels: Mapping[str, LabelScheme], processes: int | None = None, progress: bool = True
) -> Scores:
    """Score every case of a list.

    Args:
        cases: a row a case with the columns dataset, case, reference and prediction (files), optionally uncertainty
            and probabilities (files or None) and map_prediction (the mask that those two belong to, if it is another
            one than the prediction); every other column is carried into the results.
        labels: the label scheme of each dataset.
        processes: worker processes; None takes the processors that this process may use, at most 8.
        progress: show a progress bar.

    Raises:
        FileNotFoundError, ValueError: a file that is missing, unreadable, on another grid, or out of range.
    """
    rows = cases.astype(object).where(cases.notna(), None).to_dict("records")
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    scored = spread(partial(_score_chunk, labels=dict(labels)), chunks, processes)
    parts = []
    with tqdm(total=len(rows), desc="Scoring", unit="case", disable=not progress or not rows) as bar:
        for chunk, part in zip(chunks, scored, strict=True):
            parts.append(part)
            bar.update(len(chunk))
    return Scores(*(_concatenated(frames) for frames in zip(*parts, strict=True))) if parts else Scores(*_empty())


def score_case(row: Mapping[str, Any], labels: LabelScheme) -> tuple[pd.DataFrame, ...]:
    """The four tables of `Scores` for one case, without the columns that describe it; some may be empty."""
    reference = read_mask(row["reference"], labels)
    prediction = read_mask(row["prediction"], labels, reference)
    structures = pd.DataFrame(mask_metrics(reference, prediction, labels))
    if row.get("map_prediction"):
        prediction = read_mask(row["map_prediction"], labels, reference)
    quality, curve, bins = pd.DataFrame(), pd.DataFrame(), pd.DataFrame()
    if row.get("uncertainty"):
        values = read_map(row["uncertainty"], reference).array
        measured, curve = case_quality(reference.array, prediction.array, values, labels)
        quality = pd.DataFrame([measured])
    if row.get("probabilities"):
        probabilities = read_probabilities(row["probabilities"], reference)
        try:
            bins = case_calibration(reference.array, prediction.array, probabilities, labels)
        except ValueError as error:
            raise ValueError(f"{row['probabilities']}: {error}") from None
    return structures, quality, curve, bins


def _score_chunk(rows: list[dict], labels: dict[str, LabelScheme]) -> tuple[pd.DataFrame, ...]:
    parts = [score_case(row, labels[row["dataset"]]) for row in rows]
    about = pd.DataFrame(rows).drop(columns=list(FILE_COLUMNS), errors="ignore")
    return tuple(_described(frames, about) for frames in zip(*parts, strict=True))


def _described(frames: Sequence[pd.DataFrame], about: pd.DataFrame) -> pd.DataFrame:
    """The cases' frames in one, with the columns of each one's row in `about` in front."""
    filled = {number: frame for number, frame in enumerate(frames) if not frame.empty}
    if not filled:
        return pd.DataFrame()
    joined = pd.concat(filled)
    described = about.loc[joined.index.get_level_values(0)].reset_index(drop=True)
    return pd.concat([described, joined.reset_index(drop=True)], axis=1)


def _concatenated(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    frames = [frame for frame in frames if not frame.empty]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _empty() -> list[pd.DataFrame]:
    return [pd.DataFrame() for _ in range(4)]
