"""Error detection and risk-coverage on synthetic maps whose answers are known, and what counts of a case."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from nnunetv2_diffusion.scoring.calibration import case_calibration
from nnunetv2_diffusion.scoring.crops import crops_of
from nnunetv2_diffusion.scoring.labels import label_scheme
from nnunetv2_diffusion.scoring.map_quality import (
    best_risk_coverage,
    case_quality,
    error_detection_auroc,
    risk_coverage,
)

LABELS = label_scheme({"background": 0, "a": 1, "b": 2})


def test_auroc_of_perfect_reversed_and_constant_maps():
    errors = np.array([False] * 6 + [True] * 2)
    perfect = np.array([0.1, 0.2, 0.0, 0.3, 0.1, 0.2, 0.8, 0.9])
    assert error_detection_auroc(perfect, errors) == 1
    assert error_detection_auroc(-perfect, errors) == 0
    assert error_detection_auroc(np.full(8, 0.3), errors) == 0.5
    assert np.isnan(error_detection_auroc(perfect, np.zeros(8, dtype=bool)))
    # two errors (0.5, 0.2) against (0.1, 0.2, 0.4): 3 pairs won, then 1 won, 1 tied, 1 lost -> 4.5 of 6
    assert error_detection_auroc(np.array([0.1, 0.2, 0.4, 0.5, 0.2]), np.array([0, 0, 0, 1, 1], bool)) == 0.75


def test_auroc_agrees_with_the_rank_formula():
    rng = np.random.default_rng(1)
    uncertainty, errors = rng.random((20, 20)).round(2), rng.random((20, 20)) < 0.2
    ranks = rankdata(uncertainty).reshape(20, 20)
    n = errors.sum()
    expected = (ranks[errors].sum() - n * (n + 1) / 2) / (n * (~errors).sum())
    assert error_detection_auroc(uncertainty, errors) == pytest.approx(expected)


def test_risk_coverage_worked_out_by_hand():
    uncertainty = np.array([0.4, 0.1, 0.3, 0.2])
    errors = np.array([True, False, False, True])
    assert risk_coverage(uncertainty, errors) == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert best_risk_coverage(errors) == pytest.approx([0, 0, 1 / 3, 1 / 2])


def test_risk_coverage_of_a_constant_map_is_the_error_rate_in_any_order():
    errors = np.array([True, False, False, False, True, False, False, False])
    assert risk_coverage(np.full(8, 0.5), errors) == pytest.approx(np.full(8, 0.25))


def test_case_quality_in_both_crops():
    """A 4 x 4 structure found but for one corner, with the map bright there and nowhere else."""
    reference = np.zeros((1, 40, 40), dtype=np.uint8)
    reference[0, 13:17, 23:27] = 1
    prediction = reference.copy()
    prediction[0, 13, 23] = 0
    uncertainty = np.where(reference != prediction, 0.9, 0.0)
    row, curve = case_quality(reference, prediction, uncertainty, LABELS)
    crop = 24 * 24  # the structure and ten pixels on every side
    assert row["foreground_error_rate"] == pytest.approx(1 / crop)
    assert row["image_error_rate"] == pytest.approx(1 / 1600)
    assert row["foreground_auroc"] == row["image_auroc"] == 1
    assert row["foreground_aurc"] == row["foreground_aurc_best"] == pytest.approx(1 / crop / crop)
    assert row["mean_uncertainty"] == pytest.approx(0.9 / 16)
    last = curve[curve["coverage"] == 1].set_index("region")["risk"]
    assert last.to_dict() == pytest.approx({"foreground": 1 / crop, "image": 1 / 1600})


def test_models_are_judged_on_the_same_pixels():
    """Two masks with the same wrong pixels beside the structure; one strays far off as well, where no crop reaches."""
    reference = np.zeros((60, 60), dtype=np.uint8)
    reference[20:30, 20:30] = 1
    near = reference.copy()
    near[20:30, 30:32] = 2
    far = near.copy()
    far[55:, 55:] = 1
    doubt = np.random.default_rng(4).random(reference.shape)
    rows = [case_quality(reference, mask, doubt, LABELS)[0] for mask in (near, far)]
    for measure in ("error_rate", "auroc", "aurc", "aurc_best"):
        assert rows[0][f"foreground_{measure}"] == rows[1][f"foreground_{measure}"]
    assert rows[0]["foreground_error_rate"] == pytest.approx(20 / 30**2)
    assert rows[1]["image_error_rate"] == pytest.approx((20 + 25) / 60**2)
    probabilities = np.full((3, 60, 60), 1 / 3)
    for mask in (near, far):
        bins = case_calibration(reference, mask, probabilities, LABELS).groupby("region")["count"].sum()
        assert bins.to_dict() == {"foreground": 30**2, "image": 60**2}


def test_the_crop_ends_with_the_image_and_is_the_image_without_a_structure():
    reference = np.zeros((2, 50, 50), dtype=np.uint8)
    assert dict(crops_of(reference, LABELS))["foreground"] == (slice(0, 2), slice(0, 50), slice(0, 50))
    reference[1, 3, 45] = 2
    crop = reference[dict(crops_of(reference, LABELS))["foreground"]]
    assert crop.shape == (2, 14, 15) and crop[1, 3, 10] == 2


def test_ignored_voxels_do_not_count():
    labels = label_scheme({"background": 0, "a": 1, "ignore": 3})
    reference = np.array([[1, 1, 0, 3, 3]])
    prediction = np.array([[1, 0, 0, 1, 1]])
    row, _ = case_quality(reference, prediction, np.array([[0.1, 0.5, 0.1, 0.0, 0.0]]), labels)
    assert row["image_error_rate"] == pytest.approx(1 / 3)
    probabilities = np.stack([1 - prediction * 0.8 - 0.1, prediction * 0.8 + 0.1])
    bins = case_calibration(reference, prediction, probabilities, labels)
    assert bins[bins["region"] == "image"]["count"].sum() == 3
