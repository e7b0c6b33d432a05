"""Summaries of scored cases: Dice and distances per structure (Table 1's numbers) and the quality of the maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
from scipy.stats import spearmanr

from nnunetv2_diffusion.scoring.calibration import expected_calibration_error
from nnunetv2_diffusion.scoring.cases import Scores
from nnunetv2_diffusion.scoring.crops import CROPS
from nnunetv2_diffusion.scoring.raters import mean_over_raters

# What names a training in every table.
TRAINING = ["dataset", "modality", "model"]
METRICS = ("dice", "hd95", "assd")
MEAN = "mean"
QUALITIES = ("error_rate", "auroc", "aurc", "aurc_best")
MIN_CASES_FOR_CORRELATION = 5


def with_mean(structures: pd.DataFrame) -> pd.DataFrame:
    """The rows of `Scores.structures`, and for each case one more named "mean": the mean over its structures.

    A structure without a score (see `metrics.EMPTY_MASK_RULE`) is left out of its case's mean.
    """
    measured = [*METRICS, "reference_voxels", "predicted_voxels"]
    keys = [column for column in structures.columns if column not in (*measured, "structure")]
    means = structures.groupby(keys, dropna=False, sort=False)[list(METRICS)].mean().reset_index()
    return pd.concat([structures, means.assign(structure=MEAN)], ignore_index=True)


def structure_names(structures: Iterable[str]) -> list[str]:
    """The distinct structures in their order, without the mean."""
    return [name for name in dict.fromkeys(structures) if name != MEAN]


def missed(structures: pd.DataFrame) -> pd.Series:
    """Which rows of `Scores.structures` are of a structure that the reference or the prediction alone holds."""
    return (structures["reference_voxels"] > 0) != (structures["predicted_voxels"] > 0)


def summarise_structures(structures: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) over cases of each metric, per group and structure, "mean" being the last.

    An image that several raters segmented is one case, by the mean over them.

    Args:
        structures: as in `Scores`.
        by: columns that make a group, e.g. model and modality.

    Returns:
        a row a group and structure: cases, scored (cases with a score), missed (the structure is in the reference or
        in the prediction alone), then <metric>_mean and <metric>_std for dice, hd95 (mm) and assd (mm).
    """
    rows = with_mean(mean_over_raters(structures))
    rows["missed"] = missed(rows) & rows["structure"].ne(MEAN)
    grouped = rows.groupby([*by, "structure"], sort=False, dropna=False)
    summary = grouped.agg(cases=("case", "size"), scored=("dice", "count"), missed=("missed", "sum"))
    for metric in METRICS:
        summary[f"{metric}_mean"] = grouped[metric].mean()
        summary[f"{metric}_std"] = grouped[metric].std()
    return summary.reset_index()


def summarise_uncertainty(scores: Scores, by: Sequence[str]) -> pd.DataFrame:
    """What each group's maps and probabilities are worth; one row a group that has either.

    Returns:
        the `by` columns; maps and probabilities (numbers of cases); for both crops the mean and standard deviation
        over cases of `QUALITIES` and the expected calibration error over the voxels of all cases together; Spearman's
        rho between the mean uncertainty of a case and its mean Dice, with its p-value.
    """
    by = list(by)
    parts = [_map_summary(scores, by), _calibration_summary(scores.bins, by)]
    parts = [part for part in parts if not part.empty]
    if not parts:
        return pd.DataFrame(columns=by)
    merged = parts[0] if len(parts) == 1 else parts[0].merge(parts[1], on=by, how="outer", sort=False)
    for column in ("maps", "probabilities"):
        merged[column] = merged[column].fillna(0).astype(int) if column in merged else 0
    return merged


def reliability(bins: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Reliability diagram of each group and crop (column region): bin, count, confidence, accuracy; no empty bins."""
    if bins.empty:
        return bins
    summed = bins.groupby([*by, "region", "bin"], sort=False)[["count", "confidence_sum", "correct_sum"]].sum()
    summed = summed[summed["count"] > 0].reset_index()
    summed["confidence"] = summed["confidence_sum"] / summed["count"]
    summed["accuracy"] = summed["correct_sum"] / summed["count"]
    return summed.drop(columns=["confidence_sum", "correct_sum"])


def _map_summary(scores: Scores, by: list[str]) -> pd.DataFrame:
    cases = mean_over_raters(scores.uncertainty)
    rows = []
    for group, frame in cases.groupby(by, sort=False) if not cases.empty else ():
        row = dict(zip(by, group, strict=True)) | {"maps": len(frame)}
        for measure in (f"{crop}_{quality}" for crop in CROPS for quality in QUALITIES):
            row[measure] = frame[measure].mean()
            row[f"{measure}_std"] = frame[measure].std()
        rows.append(row | _correlation(frame))
    return pd.DataFrame(rows)


def _correlation(frame: pd.DataFrame) -> dict[str, float]:
    pairs = frame[["mean_uncertainty", "dice"]].dropna()
    if len(pairs) < MIN_CASES_FOR_CORRELATION or (pairs.nunique() < 2).any():
        return {"spearman": float("nan"), "spearman_p": float("nan")}
    result = spearmanr(pairs["mean_uncertainty"], pairs["dice"])
    return {"spearman": float(result.statistic), "spearman_p": float(result.pvalue)}


def _calibration_summary(bins: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    rows = []
    for group, frame in bins.groupby(by, sort=False) if not bins.empty else ():
        row = dict(zip(by, group, strict=True)) | {"probabilities": frame["case"].nunique()}
        for crop, part in frame.groupby("region", sort=False):
            row[f"{crop}_ece"] = expected_calibration_error(
                part.groupby("bin")[["count", "confidence_sum", "correct_sum"]].sum()
            )
        rows.append(row)
    return pd.DataFrame(rows)
