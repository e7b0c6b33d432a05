"""Are the stated probabilities right? Confidence of the winning label, reliability bins, calibration error."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nnunetv2_diffusion.scoring.crops import crops_of
from nnunetv2_diffusion.scoring.labels import LabelScheme

CALIBRATION_BINS = 15


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


def case_calibration(
    reference: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray, labels: LabelScheme
) -> pd.DataFrame:
    """`calibration_bins` of one case for both crops (column region); `probabilities` is `[K, ...]`."""
    valid = labels.valid(reference)
    frames = []
    for crop, box in crops_of(reference, labels):
        confidence, correct = top_label_confidence(probabilities[(slice(None), *box)], reference[box], labels)
        if valid is not None:
            confidence, correct = confidence[:, valid[box]], correct[:, valid[box]]
        frames.append(calibration_bins(confidence, correct).assign(region=crop))
    return pd.concat(frames, ignore_index=True)
