"""Is an uncertainty map worth anything? Calibration, error detection and risk-coverage of one case.

Each measure is taken twice: on the whole image, and on the foreground crop (the bounding box of the structures in
reference and prediction together), because most of an image is background that every model gets right.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.metrics import bounding_box, dice

CALIBRATION_BINS = 15
REGIONS = ("foreground", "image")
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
        errors: boolean, same shape.

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


def top_label_confidence(
    probabilities: np.ndarray, reference: np.ndarray, labels: LabelScheme
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of the winning label and whether it is right.

    With labels, the confidence is the largest of the K probabilities. With regions each sigmoid head is a binary
    decision of its own, and the heads are stacked.

    Args:
        probabilities: `[K, ...]`, background first (labels), or one head a region (regions).
        reference: label map of shape `[...]`.

    Returns:
        confidence and boolean correctness, `[1 or K, ...]`.

    Raises:
        ValueError: K does not fit the label scheme.
    """
    heads = list(labels.structures) if labels.has_regions else [None, *labels.structures]
    if len(probabilities) != len(heads):
        raise ValueError(f"{len(probabilities)} probability maps, but the labels call for {len(heads)}")
    if labels.has_regions:
        truth = np.stack([labels.mask(reference, structure) for structure in heads])
        decided = probabilities > 0.5
        return np.where(decided, probabilities, 1 - probabilities), decided == truth
    values = np.array([0, *(values[0] for values in labels.structures.values())])
    winner = values[probabilities.argmax(axis=0)]
    return probabilities.max(axis=0)[None], (winner == reference)[None]


def calibration_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = CALIBRATION_BINS) -> pd.DataFrame:
    """Reliability diagram in numbers: voxels sorted into bins of equal width by their confidence.

    Args:
        confidence: 0 ... 1, any shape.
        correct: boolean, same shape.

    Returns:
        one row a bin: bin (0 ... bins-1), count, confidence_sum, correct_sum. Rows of several cases can be added up.
    """
    index = np.clip((np.asarray(confidence, dtype=np.float64).reshape(-1) * bins).astype(int), 0, bins - 1)
    return pd.DataFrame(
        {
            "bin": np.arange(bins),
            "count": np.bincount(index, minlength=bins),
            "confidence_sum": np.bincount(index, weights=confidence.reshape(-1), minlength=bins),
            "correct_sum": np.bincount(index, weights=correct.reshape(-1), minlength=bins),
        }
    )


def expected_calibration_error(bins: pd.DataFrame) -> float:
    """Mean of |accuracy - confidence| over the bins, weighted by their counts (Guo et al. 2017); NaN without voxels."""
    total = bins["count"].sum()
    return float((bins["correct_sum"] - bins["confidence_sum"]).abs().sum() / total) if total else float("nan")


def map_quality(uncertainty: np.ndarray, errors: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Error rate, error-detection AUROC, area under the risk-coverage curve and under the best one; and that curve."""
    risk = risk_coverage(uncertainty, errors)
    return {
        "error_rate": float(errors.mean()),
        "auroc": error_detection_auroc(uncertainty, errors),
        "aurc": float(risk.mean()),
        "aurc_best": float(best_risk_coverage(errors).mean()),
    }, risk


def regions_of(reference: np.ndarray, prediction: np.ndarray, labels: LabelScheme) -> Iterator[tuple[str, tuple]]:
    """Name and slices of the two regions of `REGIONS`; the crop is the whole image where both masks are empty."""
    foreground = np.zeros(reference.shape, dtype=bool)
    for structure in labels.structures:
        foreground |= labels.mask(reference, structure) | labels.mask(prediction, structure)
    yield "foreground", bounding_box(foreground)
    yield "image", tuple(slice(None) for _ in reference.shape)


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
        a row (mean_uncertainty, the mask's mean dice, then error_rate, auroc, aurc and aurc_best with the region's name
        in front), and the risk-coverage curve: region, coverage, risk.
    """
    valid = labels.valid(reference)
    row = {
        "mean_uncertainty": mean_uncertainty(uncertainty, prediction, labels),
        "dice": mean_dice(reference, prediction, labels),
    }
    curves = []
    for region, box in regions_of(reference, prediction, labels):
        keep = ... if valid is None else valid[box]
        values, errors = uncertainty[box][keep], (reference != prediction)[box][keep]
        if not values.size:
            continue
        measured, risk = map_quality(values, errors)
        row |= {f"{region}_{name}": value for name, value in measured.items()}
        at = np.clip(np.ceil(COVERAGES * risk.size).astype(int) - 1, 0, None)
        curves.append(pd.DataFrame({"region": region, "coverage": COVERAGES, "risk": risk[at]}))
    return row, pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()


def case_calibration(
    reference: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray, labels: LabelScheme
) -> pd.DataFrame:
    """`calibration_bins` of one case for both regions (column region); `probabilities` is `[K, ...]`."""
    valid = labels.valid(reference)
    frames = []
    for region, box in regions_of(reference, prediction, labels):
        confidence, correct = top_label_confidence(probabilities[(slice(None), *box)], reference[box], labels)
        if valid is not None:
            confidence, correct = confidence[:, valid[box]], correct[:, valid[box]]
        frames.append(calibration_bins(confidence, correct).assign(region=region))
    return pd.concat(frames, ignore_index=True)
