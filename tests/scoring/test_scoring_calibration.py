"""Calibration error and the winning label's confidence, worked out by hand and on drawn outcomes."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_diffusion.scoring.calibration import calibration_bins, expected_calibration_error, top_label_confidence
from nnunetv2_diffusion.scoring.labels import label_scheme

LABELS = label_scheme({"background": 0, "a": 1, "b": 2})


def test_calibration_error_worked_out_by_hand():
    """Four voxels at 0.9 of which three are right, and one at 0.55 that is right: (0.6 + 0.45) / 5."""
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.55])
    correct = np.array([True, True, True, False, True])
    bins = calibration_bins(confidence, correct, bins=10)
    assert bins["count"].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 4]
    assert expected_calibration_error(bins) == pytest.approx((4 * abs(0.75 - 0.9) + 0.45) / 5)


def test_fifteen_bins_unless_told():
    assert len(calibration_bins(np.ones(3), np.ones(3, bool))) == 15


def test_calibration_error_of_drawn_outcomes():
    """Outcomes drawn with the stated probability are calibrated; stating 0.2 too much costs 0.2."""
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.5, 0.8, 200_000)
    correct = rng.random(truth.size) < truth
    assert expected_calibration_error(calibration_bins(truth, correct)) < 0.01
    assert expected_calibration_error(calibration_bins(truth + 0.2, correct)) == pytest.approx(0.2, abs=0.01)
    assert calibration_bins(np.ones(3), np.ones(3, bool))["count"].iloc[-1] == 3


def test_top_label_confidence_of_labels_and_of_regions():
    probabilities = np.array([[0.2, 0.5], [0.7, 0.1], [0.1, 0.4]])
    confidence, correct = top_label_confidence(probabilities, np.array([1, 2]), LABELS)
    assert confidence.tolist() == [[0.7, 0.5]] and correct.tolist() == [[True, False]]
    regions = label_scheme({"background": 0, "whole": [1, 2], "core": [2]})
    heads = np.array([[0.9, 0.4], [0.3, 0.8]])
    confidence, correct = top_label_confidence(heads, np.array([2, 2]), regions)
    assert confidence == pytest.approx(np.array([[0.9, 0.6], [0.7, 0.8]]))
    assert correct.tolist() == [[True, False], [False, True]]
    with pytest.raises(ValueError, match="2 probability maps, but the labels call for 3"):
        top_label_confidence(heads, np.array([1, 2]), LABELS)
