"""Is an uncertainty map worth anything? Error detection and risk-coverage of one case, on both of its crops."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from nnunetv2_diffusion.scoring.crops import crops_of
from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.metrics import bounding_box, dice

COVERAGES = np.linspace(0.05, 1, 20)


def error_detection_auroc(uncertainty: np.ndarray, errors: np.ndarray) -> float:
    """Probability that a wrong voxel is more uncertain than a right one (ties count half).

    Args:
        uncertainty: any shape.
        errors: boolean, same shape, True where the mask is wrong.

    Returns:
        0 ... 1; NaN when every voxel is right, or every voxel wrong.
    """
    wrong, right = uncertainty[errors], uncertainty[~errors]
    if not wrong.size or not right.size:
        return float("nan")
    return float(mannwhitneyu(wrong, right, method="asymptotic").statistic / (wrong.size * right.size))


def risk_coverage(uncertainty: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Error rate among the k most certain voxels, k = 1 ... n (Geifman and El-Yaniv 2017).

    Voxels of equal uncertainty share their errors evenly, so the result does not depend on their order.

    Args:
        uncertainty: any shape, n values.
        errors: same shape: boolean, or of cases in place of voxels the risk of each.

    Returns:
        `[n]`: the risk at coverage k / n.
    """
    order = np.argsort(uncertainty, axis=None)
    wrong = errors.reshape(-1)[order].astype(np.float64)
    _, group, sizes = np.unique(uncertainty.reshape(-1)[order], return_inverse=True, return_counts=True)
    shared = (np.bincount(group, weights=wrong) / sizes)[group]
    return np.cumsum(shared) / np.arange(1, wrong.size + 1)


def best_risk_coverage(errors: np.ndarray) -> np.ndarray:
    """`risk_coverage` of a perfect map, which ranks every wrong voxel after every right one."""
    kept = np.arange(1, errors.size + 1)
    return np.maximum(kept - np.count_nonzero(~errors), 0) / kept


def map_quality(uncertainty: np.ndarray, errors: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Error rate, error-detection AUROC, area under the risk-coverage curve and under the best one; and that curve."""
    risk = risk_coverage(uncertainty, errors)
    return {
        "error_rate": float(errors.mean()),
        "auroc": error_detection_auroc(uncertainty, errors),
        "aurc": float(risk.mean()),
        "aurc_best": float(best_risk_coverage(errors).mean()),
    }, risk


def mean_uncertainty(uncertainty: np.ndarray, prediction: np.ndarray, labels: LabelScheme) -> float:
    """One number for a case, needing no reference: the map's mean over the bounding box of the predicted structures."""
    foreground = np.isin(prediction, [value for values in labels.structures.values() for value in values])
    return float(uncertainty[bounding_box(foreground)].mean())


def mean_dice(reference: np.ndarray, prediction: np.ndarray, labels: LabelScheme) -> float:
    """Mean Dice of a case over the structures that have one; NaN when none has."""
    valid = labels.valid(reference)
    keep = np.ones(reference.shape, dtype=bool) if valid is None else valid
    scores = [dice(labels.mask(reference, s) & keep, labels.mask(prediction, s) & keep) for s in labels.structures]
    scored = [score for score in scores if not np.isnan(score)]
    return float(np.mean(scored)) if scored else float("nan")


def case_quality(
    reference: np.ndarray, prediction: np.ndarray, uncertainty: np.ndarray, labels: LabelScheme
) -> tuple[dict[str, float], pd.DataFrame]:
    """All measures of one case's map.

    Args:
        reference, prediction: label maps of one shape.
        uncertainty: float map in [0, 1] of that shape.

    Returns:
        a row (mean_uncertainty, the mask's mean dice, then error_rate, auroc, aurc and aurc_best with the crop's name
        in front), and the risk-coverage curve: region, coverage, risk.
    """
    valid = labels.valid(reference)
    row = {
        "mean_uncertainty": mean_uncertainty(uncertainty, prediction, labels),
        "dice": mean_dice(reference, prediction, labels),
    }
    curves = []
    for crop, box in crops_of(reference, labels):
        keep = ... if valid is None else valid[box]
        values, errors = uncertainty[box][keep], (reference != prediction)[box][keep]
        if not values.size:
            continue
        measured, risk = map_quality(values, errors)
        row |= {f"{crop}_{name}": value for name, value in measured.items()}
        at = np.clip(np.ceil(COVERAGES * risk.size).astype(int) - 1, 0, None)
        curves.append(pd.DataFrame({"region": crop, "coverage": COVERAGES, "risk": risk[at]}))
    return row, pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
