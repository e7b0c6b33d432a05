"""Distances to a known distribution, computed by hand for two masks of which one structure differs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nnunetv2_diffusion.scoring.known_distributions import known_distribution, option_shares
from nnunetv2_diffusion.scoring.labels import label_scheme

LABELS = label_scheme({"background": 0, "canal": 1, "disc": 2})
NARROW = np.array([[1, 1, 0, 0], [2, 2, 2, 2]], np.uint8)
WIDE = np.array([[1, 1, 1, 1], [2, 2, 2, 2]], np.uint8)
DISTANCE = 0.25  # the canal's IoU is a half, the disc's 1: the mean of 0.5 and 0
PAIR = np.stack([NARROW, WIDE])


def measured(masks: list[np.ndarray], wide: float, sampled: bool = False) -> dict[str, float]:
    return known_distribution(np.stack(masks), PAIR, [1 - wide, wide], LABELS, sampled=sampled)


def test_masks_of_the_true_shares_are_at_distance_0():
    row = measured([NARROW] * 3 + [WIDE], 0.25)
    assert row["ged"] == row["ged_unbiased"] == pytest.approx(0, abs=1e-12)
    assert row["matched_iou"] == pytest.approx(1)
    assert row["true_diversity"] == pytest.approx(2 * 0.25 * 0.75 * DISTANCE)
    assert row["diversity"] == pytest.approx(DISTANCE / 2)  # three pairs of six differ
    assert row["masks"] == 4


def test_a_single_mask():
    row = measured([NARROW], 0.3)
    assert row["ged"] == pytest.approx(2 * 0.3 * DISTANCE - 2 * 0.3 * 0.7 * DISTANCE)
    assert row["ged_canal"] == pytest.approx(2 * row["ged"]) and row["ged_disc"] == 0
    assert row["ged_unbiased"] == row["ged"] and row["diversity"] == 0
    assert row["matched_iou"] == pytest.approx(1 - 0.3 * DISTANCE)


def test_unbiased_is_right_on_average_over_all_draws_and_plain_too_large():
    rows = [measured(list(drawn), 0.5, sampled=True) for drawn in itertools.product(PAIR, repeat=3)]
    assert np.mean([row["ged_unbiased"] for row in rows]) == pytest.approx(0, abs=1e-12)
    assert np.mean([row["ged"] for row in rows]) == pytest.approx(DISTANCE / 2 / 3)  # diversity over S


def test_probabilities_must_be_those_of_all_masks():
    with pytest.raises(ValueError, match=r"sum up to 1, not to 0\.8"):
        known_distribution(PAIR, PAIR, [0.5, 0.3], LABELS, sampled=False)
    with pytest.raises(ValueError, match="2 masks need a probability each, not 1"):
        known_distribution(PAIR, PAIR, [1.0], LABELS, sampled=False)


def test_an_option_is_in_where_more_than_half_of_its_area_is_labelled():
    narrow, wide = np.zeros((2, 8), np.uint8), np.zeros((2, 8), np.uint8)
    wide[0, :6] = 1
    half, more, other = narrow.copy(), narrow.copy(), np.full_like(narrow, 2)
    half[0, :3], more[0, :4] = 1, 1
    half[1] = 1  # outside of the area
    assert option_shares(np.stack([narrow, half, more, wide, other]), wide, narrow) == pytest.approx(0.4)


def test_an_option_that_an_image_does_not_show_has_no_share():
    narrow, wide = np.zeros((2, 8), np.uint8), np.zeros((2, 8), np.uint8)
    assert option_shares(narrow[None], wide, narrow) is None
    wide[0, :4] = 1
    assert option_shares(narrow[None], wide, narrow) is None
    wide[0, :5] = 1
    assert option_shares(narrow[None], wide, narrow) == 0
