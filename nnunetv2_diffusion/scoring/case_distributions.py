"""All measures of the distribution of a case: its samples, its mask and its raters' references; and of many cases."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nnunetv2_diffusion.scoring.crops import foreground_crop
from nnunetv2_diffusion.scoring.distributions import (
    best_of_samples,
    energy_score,
    error_correlation,
    generalised_energy_distance,
    label_entropy,
    matched_iou,
    normalised_cross_correlation,
)
from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.map_quality import risk_coverage
from nnunetv2_diffusion.scoring.overlaps import Overlaps, distinct_mean, overlaps_of, pairwise_dice


def case_distribution(
    samples: np.ndarray, references: np.ndarray, labels: LabelScheme, mask: np.ndarray | None = None
) -> dict[str, float]:
    """Everything that is measured of a case.

    Voxels that any of the references marks as ignored are left out.

    Args:
        samples: label maps [S, ...].
        references: label maps [R, ...], a rater each.
        labels: the structures.
        mask: the label map that the method gives as its answer; None where there is none.

    Returns:
        samples, references (their numbers); ged, ged_unbiased and ged_<structure>; matched_iou; energy_score and
        energy_score_fair (means over references); sample_diversity and rater_diversity (1 - IoU of two different
        masks); best_dice (the best sample's, mean over references) and sample_dice (all samples'); ncc_entropy (of the
        entropies of samples and of raters) and ncc_error, both on the foreground crop; pairwise_dice of the samples,
        and mask_dice, the mean over references of the mask's. NaN for what a single mask cannot tell.

    Raises:
        ValueError: no sample or no reference, or label maps of different shapes.
    """
    _check(samples, references, mask)
    valid = _valid(references, labels)
    count = len(samples)
    overlaps = overlaps_of(np.concatenate([samples, references]), labels, valid)
    row = {"samples": count, "references": len(references)} | _distances(overlaps, count, labels)
    dice = overlaps.mean(overlaps.dice())[:count, count:]
    row |= {"best_dice": best_of_samples(dice), "sample_dice": float(dice.mean())}
    row |= _correlations(samples, references, labels, valid)
    row["pairwise_dice"] = pairwise_dice(overlaps.of(slice(count)))
    if mask is not None:
        answered = overlaps_of(np.concatenate([mask[None], references]), labels, valid)
        row["mask_dice"] = float(answered.mean(answered.dice())[0, 1:].mean())
    return row


def failure_detection(confidence: np.ndarray, risk: np.ndarray) -> dict[str, float]:
    """Image-level area under the risk-coverage curve: cases are handed over one by one, the least confident first.

    The risk of those that are kept, k of n, is averaged over k = 1 … n (Jaeger et al. 2023; Zenk et al. 2024); cases of
    equal confidence share their risk.

    Args:
        confidence: a number a case, [n].
        risk: 1 - Dice of each case's mask, [n].

    Returns:
        cases (those of which both are known), risk (their mean, which is what a random order gives), aurc and
        aurc_best, that of the perfect order; empty without cases.
    """
    known = ~(np.isnan(confidence) | np.isnan(risk))
    confidence, risk = confidence[known], risk[known]
    if not risk.size:
        return {}
    return {
        "cases": int(risk.size),
        "risk": float(risk.mean()),
        "aurc": float(risk_coverage(-confidence, risk).mean()),
        "aurc_best": float(risk_coverage(risk, risk).mean()),
    }


def summarise_distributions(cases: pd.DataFrame) -> dict[str, float]:
    """Means over cases of every measure, and with "detection_" in front those of `failure_detection`."""
    row = {name: float(cases[name].mean()) for name in cases.columns if name != "case"}
    if "mask_dice" in cases:
        detection = failure_detection(cases["pairwise_dice"].to_numpy(), 1 - cases["mask_dice"].to_numpy())
        row |= {f"detection_{name}": value for name, value in detection.items()}
    return row


def described_distributions(cases: pd.DataFrame) -> list[str]:
    """The summary in a few lines, for a terminal."""
    row = summarise_distributions(cases)
    shown = {name: "-" if np.isnan(value) else f"{value:.4g}" for name, value in row.items()}
    lines = [
        "Distributions of {count} cases ({samples} samples, {references} references each):",
        "  generalised energy distance {ged} (unbiased {ged_unbiased}), matched IoU {matched_iou}",
        "  energy score {energy_score} (fair {energy_score_fair})",
        "  Dice of the best sample {best_dice}, of all samples {sample_dice}",
        "  diversity of the samples {sample_diversity}, of the raters {rater_diversity}",
        "  correlation of the samples' entropy with the raters' {ncc_entropy}, with the samples' errors {ncc_error}",
    ]
    if "detection_aurc" in row:
        lines.append(
            "  failed cases by the samples' pairwise Dice: area under the risk-coverage curve {detection_aurc} "
            "(random order {detection_risk}, perfect order {detection_aurc_best})"
        )
    return [line.format(count=len(cases), **shown) for line in lines]


def _check(samples: np.ndarray, references: np.ndarray, mask: np.ndarray | None) -> None:
    if not len(samples) or not len(references):
        raise ValueError(f"a distribution needs samples and references, not {len(samples)} and {len(references)}")
    shapes = {samples.shape[1:], references.shape[1:], *([] if mask is None else [mask.shape])}
    if len(shapes) > 1:
        raise ValueError(f"samples, references and mask must have one shape, not {sorted(shapes)}")


def _valid(references: np.ndarray, labels: LabelScheme) -> np.ndarray | None:
    annotated = [valid for valid in (labels.valid(one) for one in references) if valid is not None]
    return np.logical_and.reduce(annotated) if annotated else None


def _distances(overlaps: Overlaps, count: int, labels: LabelScheme) -> dict[str, float]:
    iou = overlaps.iou()
    distances = overlaps.mean(1 - iou)
    between, samples, references = distances[:count, count:], distances[:count, :count], distances[count:, count:]
    row = {
        "ged": generalised_energy_distance(between, samples, references),
        "ged_unbiased": generalised_energy_distance(between, samples, references, unbiased=True),
        "matched_iou": matched_iou(1 - between),
        "energy_score": float(np.mean([energy_score(column, samples) for column in between.T])),
        "energy_score_fair": float(np.mean([energy_score(column, samples, fair=True) for column in between.T])),
    }
    for name, diverse in (("sample", overlaps.of(slice(count))), ("rater", overlaps.of(slice(count, None)))):
        row[f"{name}_diversity"] = distinct_mean(diverse.mean(1 - diverse.iou()))
    for structure, one, present in zip(labels.structures, 1 - iou, overlaps.present, strict=True):
        blocks = one[:count, count:], one[:count, :count], one[count:, count:]
        row[f"ged_{structure}"] = generalised_energy_distance(*blocks) if present else float("nan")
    return row


def _correlations(
    samples: np.ndarray, references: np.ndarray, labels: LabelScheme, valid: np.ndarray | None
) -> dict[str, float]:
    shown = np.zeros(references.shape[1:], dtype=bool)
    for structure in labels.structures:
        shown |= labels.mask(references, structure).any(axis=0)
    box = foreground_crop(shown)
    keep = ... if valid is None else valid[box]
    drawn, rated = (np.stack([one[box][keep] for one in maps]) for maps in (samples, references))
    return {
        "ncc_entropy": normalised_cross_correlation(label_entropy(drawn), label_entropy(rated)),
        "ncc_error": error_correlation(drawn, rated),
    }
