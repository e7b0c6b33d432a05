"""How near a distribution of masks comes to that of the raters: measures over matrices of distances and overlaps.

The distance of two label maps is 1 - IoU, the mean over structures, see `overlaps`. S counts samples, R references.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

from nnunetv2_diffusion.scoring.overlaps import distinct_mean


def generalised_energy_distance(
    between: np.ndarray, samples: np.ndarray, references: np.ndarray, *, unbiased: bool = False
) -> float:
    """2 E d(s, y) - E d(s, s') - E d(y, y') (Kohl et al. 2018, D²_GED; Székely and Rizzo 2013); 0 is perfect.

    Args:
        between: distances [S, R] of samples and references.
        samples, references: distances [S, S] and [R, R] among them.
        unbiased: take pairs of two different masks alone. False takes all pairs, each mask with itself too, as the
            literature does: the distance of the two sets as they are, which is at least 0, but for few samples too
            large, by E d(s, s') / S, as a measure of the distribution that they come from. The unbiased estimate may
            fall below 0, and is NaN for a single sample or a single reference.
    """
    within = distinct_mean if unbiased else np.mean
    return float(2 * between.mean() - within(samples) - within(references))


def energy_score(to_reference: np.ndarray, samples: np.ndarray, *, fair: bool = False) -> float:
    """E d(s, y) - E d(s, s') / 2 with a single reference y (Gneiting and Raftery 2007); small is good.

    It is proper: over many cases with one reference each, the distribution that the references come from scores best on
    average. So one rater a case is enough to compare methods. It is half of the energy distance to one reference.

    Args:
        to_reference: distances [S] to the reference.
        samples: distances [S, S] among the samples.
        fair: estimate, without bias, the score of the distribution that the samples come from (Ferro 2014): pairs of
            two different samples alone; NaN for a single sample. False scores the samples as they are, all pairs
            counted: a method that gives one mask scores its distance, and few samples score worse than many.
    """
    within = distinct_mean(samples) if fair else samples.mean()
    return float(to_reference.mean() - within / 2)


def matched_iou(iou: np.ndarray) -> float:
    """The mean IoU of samples and references that are matched one to one, as well as can be (Hungarian algorithm).

    Both are replicated to the least common multiple of their numbers first (Kohl et al. 2019), so that each sample
    and each reference counts alike.

    Args:
        iou: [S, R], mean over structures.

    Returns:
        0 ... 1, 1 where both are the same masks in the same shares; NaN where an IoU is.
    """
    if np.isnan(iou).any():
        return float("nan")
    count = math.lcm(*iou.shape)
    replicated = iou.repeat(count // iou.shape[0], axis=0).repeat(count // iou.shape[1], axis=1)
    return float(replicated[linear_sum_assignment(replicated, maximize=True)].mean())


def best_of_samples(scores: np.ndarray) -> float:
    """The score of the sample that fits best, mean over references; of scores [S, R]."""
    return float(scores.max(axis=0).mean())


def label_entropy(maps: np.ndarray) -> np.ndarray:
    """Entropy of the labels over masks [N, ...], voxel by voxel, natural logarithm; 0 where all agree."""
    entropy = np.zeros(maps.shape[1:])
    for label in np.unique(maps):
        share = (maps == label).mean(axis=0)
        entropy -= np.where(share > 0, share * np.log(np.where(share > 0, share, 1)), 0)
    return entropy


def normalised_cross_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of two maps over their voxels, -1 ... 1; NaN where one of them is the same everywhere."""
    first, second = first.ravel() - first.mean(), second.ravel() - second.mean()
    norm = np.linalg.norm(first) * np.linalg.norm(second)
    return float(np.clip(first @ second / norm, -1, 1)) if norm > 0 else float("nan")


def error_correlation(samples: np.ndarray, references: np.ndarray) -> float:
    """How well the samples' disagreement tells where they miss a rater (Baumgartner et al. 2019, S_NCC).

    The mean over references y of the correlation between the entropy of the samples' labels and the share of samples
    that differ from y. The share takes the place of the cross entropy E_s CE(y, s), which is infinite for whole masks.

    Args:
        samples, references: label maps [S, ...] and [R, ...] of the voxels that count.

    Returns:
        -1 ... 1; NaN where the samples all agree, or miss no rater anywhere.
    """
    entropy = label_entropy(samples)
    found = [normalised_cross_correlation(entropy, (samples != one).mean(axis=0)) for one in references]
    found = [value for value in found if not np.isnan(value)]
    return float(np.mean(found)) if found else float("nan")
