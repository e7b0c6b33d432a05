"""Masks against a true distribution that is known: every mask that a rater may draw, with its probability.

With few raters a case, even perfect samples have an energy distance above 0; against the distribution itself it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from nnunetv2_diffusion.scoring.distributions import distinct_mean, generalised_energy_distance, matched_iou
from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.overlaps import overlaps_of

_FINEST_SHARE = 1000
FEWEST_PIXELS = 5  # of an option's area that tell whether it is counted in


def known_distribution(
    masks: np.ndarray, references: np.ndarray, probabilities: Sequence[float], labels: LabelScheme, *, sampled: bool
) -> dict[str, float]:
    """How near a method's masks of a case come to the true distribution of its masks.

    Args:
        masks: label maps [S, ...].
        references: all masks that there are, [R, ...].
        probabilities: of the references, multiples of 1/1000 that sum up to 1.
        labels: the structures.
        sampled: the masks are draws from what the method gives, of which it could give more; False: they are all that
            it gives, each as often as the others.

    Returns:
        masks (their number); ged, the generalised energy distance, 0 where the masks are distributed as the references
        (all pairs of masks counted); ged_unbiased, of sampled masks over pairs of two different ones, what infinitely
        many would have on average, and else the same as ged; ged_<structure>; matched_iou; diversity, the mean
        distance of two different masks, 0 for a single one, and true_diversity, that of two independent raters.

    Raises:
        ValueError: probabilities that are no shares of one whole.
    """
    counts = _counts(probabilities)
    if len(counts) != len(references):
        raise ValueError(f"{len(references)} masks need a probability each, not {len(counts)}")
    overlaps = overlaps_of(np.concatenate([masks, references]), labels)
    iou = overlaps.iou()
    between, own, known = _replicated(overlaps.mean(1 - iou), len(masks), counts)
    ged = generalised_energy_distance(between, own, known)
    diversity = distinct_mean(own) if len(own) > 1 else 0.0
    row = {"masks": len(masks), "ged": ged, "ged_unbiased": ged}
    if sampled:
        row["ged_unbiased"] = ged + float(own.mean()) - distinct_mean(own)
    row |= {"matched_iou": matched_iou(1 - between), "diversity": diversity, "true_diversity": float(known.mean())}
    for structure, distances in zip(labels.structures, 1 - iou, strict=True):
        row[f"ged_{structure}"] = generalised_energy_distance(*_replicated(distances, len(masks), counts))
    return row


def option_shares(masks: np.ndarray, counted_in: np.ndarray, left_out: np.ndarray) -> float | None:
    """The share of masks that count an option in: that label more than half of the area between two known outlines as
    the wider one does.

    Args:
        masks: label maps [S, ...].
        counted_in, left_out: the two label maps [...] that differ in this option alone.

    Returns:
        None where the image does not show the option: the two differ in fewer than 5 voxels.
    """
    area = counted_in != left_out
    if area.sum() < FEWEST_PIXELS:
        return None
    labelled = (masks[:, area] == counted_in[area]).mean(axis=1)
    return float((labelled > 0.5).mean())


def _counts(probabilities: Sequence[float]) -> list[int]:
    """How often each reference stands in the smallest set that has these shares."""
    shares = [Fraction(probability).limit_denominator(_FINEST_SHARE) for probability in probabilities]
    if sum(shares) != 1 or min(shares) < 0:
        raise ValueError(f"the probabilities of all masks must sum up to 1, not to {sum(probabilities):g}")
    whole = math.lcm(*(share.denominator for share in shares))
    return [int(share * whole) for share in shares]


def _replicated(distances: np.ndarray, count: int, counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances of masks and references, among the masks, among the references, these as often as they count."""
    known = np.repeat(np.arange(count, len(distances)), counts)
    own = np.arange(count)
    return distances[np.ix_(own, known)], distances[np.ix_(own, own)], distances[np.ix_(known, known)]
