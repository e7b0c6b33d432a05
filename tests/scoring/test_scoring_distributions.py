"""Measures of distributions against hand computation, scipy, monai, and drawings whose true distribution is known."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from monai.metrics import compute_dice, compute_iou
from scipy.stats import energy_distance

from nnunetv2_diffusion.scoring.case_distributions import (
    case_distribution,
    failure_detection,
    pairwise_dice,
    summarise_distributions,
)
from nnunetv2_diffusion.scoring.distributions import (
    best_of_samples,
    distinct_mean,
    energy_score,
    error_correlation,
    generalised_energy_distance,
    label_entropy,
    matched_iou,
    normalised_cross_correlation,
)
from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.overlaps import overlaps_of

LABELS = LabelScheme({"a": (1,), "b": (2,)})
THREE = LabelScheme({"left": (1,), "middle": (2,), "right": (3,)})


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first[:, None] - second[None])


def drawings() -> np.ndarray:
    """Eight equally right masks: three structures, each narrow (2 columns) or wide (3 columns)."""
    maps = np.zeros((8, 4, 12), np.uint8)
    for number, widths in enumerate(itertools.product((2, 3), repeat=3)):
        for structure, width in enumerate(widths):
            maps[number, :, 4 * structure : 4 * structure + width] = structure + 1
    return maps


class TestOverlaps:
    def test_hand_computation(self):
        maps = np.array([[1, 1, 2, 0], [1, 2, 2, 0], [0, 0, 2, 2]], np.uint8)
        overlaps = overlaps_of(maps, LABELS)
        a, b = overlaps.iou()
        np.testing.assert_allclose(a, [[1, 1 / 2, 0], [1 / 2, 1, 0], [0, 0, 1]])
        np.testing.assert_allclose(b, [[1, 1 / 2, 1 / 2], [1 / 2, 1, 1 / 3], [1 / 2, 1 / 3, 1]])
        np.testing.assert_allclose(overlaps.dice()[0], [[1, 2 / 3, 0], [2 / 3, 1, 0], [0, 0, 1]])
        np.testing.assert_allclose(overlaps.mean(overlaps.iou()), (a + b) / 2)

    def test_absent_from_both_agrees_and_absent_from_all_is_left_out(self):
        maps = np.array([[1, 1], [0, 0], [0, 0]], np.uint8)
        overlaps = overlaps_of(maps, LABELS)
        np.testing.assert_array_equal(overlaps.iou()[0], [[1, 0, 0], [0, 1, 1], [0, 1, 1]])
        assert overlaps.present.tolist() == [True, False]
        np.testing.assert_array_equal(overlaps.mean(overlaps.iou()), overlaps.iou()[0])
        assert np.isnan(overlaps_of(np.zeros((2, 3), np.uint8), LABELS).mean(overlaps.iou()[:, :2, :2])).all()

    def test_as_monai(self):
        maps = np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8)
        overlaps = overlaps_of(maps, LABELS)
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(maps).long(), 3).movedim(-1, 1)
        for i, j in itertools.product(range(5), repeat=2):
            pair = one_hot[i][None], one_hot[j][None]
            np.testing.assert_allclose(overlaps.iou()[:, i, j], compute_iou(*pair, include_background=False)[0])
            np.testing.assert_allclose(
                overlaps.dice()[:, i, j], compute_dice(*pair, include_background=False)[0], rtol=1e-6
            )

    def test_voxels_in_portions_regions_and_ignored_voxels(self, monkeypatch):
        maps = np.random.default_rng(1).integers(0, 3, (4, 9, 5)).astype(np.uint8)
        regions = LabelScheme({"both": (1, 2), "b": (2,)}, has_regions=True)
        whole = overlaps_of(maps, regions).shared
        valid = np.random.default_rng(2).random((9, 5)) < 0.5
        masked = overlaps_of(maps, regions, valid).shared
        monkeypatch.setattr("nnunetv2_diffusion.scoring.overlaps.VOXELS_AT_A_TIME", 7)
        np.testing.assert_array_equal(overlaps_of(maps, regions).shared, whole)
        assert whole[0, 0, 1] == np.count_nonzero((maps[0] > 0) & (maps[1] > 0))
        assert masked[0, 0, 1] == np.count_nonzero((maps[0] > 0) & (maps[1] > 0) & valid)


class TestEnergy:
    def test_distance_as_scipy_on_the_line(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=7), rng.normal(1, 2, size=5)
        found = generalised_energy_distance(distances(x, y), distances(x, x), distances(y, y))
        assert found == pytest.approx(energy_distance(x, y) ** 2)

    def test_unbiased_by_hand(self):
        between, samples, references = (
            np.array([[0.4, 0.2], [0.6, 0.8]]),
            np.array([[0, 0.3], [0.3, 0]]),
            np.zeros((2, 2)),
        )
        references[0, 1] = references[1, 0] = 0.5
        assert generalised_energy_distance(between, samples, references) == pytest.approx(1.0 - 0.15 - 0.25)
        assert generalised_energy_distance(between, samples, references, unbiased=True) == pytest.approx(0.2)
        assert np.isnan(generalised_energy_distance(between[:1], np.zeros((1, 1)), references, unbiased=True))

    def test_never_below_zero_whatever_is_absent(self):
        """Of tiny maps in which structures are often absent from one mask or from both."""
        rng = np.random.default_rng(8)
        for _ in range(200):
            maps = rng.choice(4, p=[0.7, 0.1, 0.1, 0.1], size=(5, 4))
            row = case_distribution(maps[:3], maps[3:], THREE)
            assert np.isnan(row["ged"]) or row["ged"] >= -1e-12

    def test_score_by_hand(self):
        to_reference, samples = np.array([0.2, 0.6]), np.array([[0, 0.3], [0.3, 0]])
        assert energy_score(to_reference, samples) == pytest.approx(0.4 - 0.15 / 2)
        assert energy_score(to_reference, samples, fair=True) == pytest.approx(0.4 - 0.3 / 2)
        distance = generalised_energy_distance(to_reference[:, None], samples, np.zeros((1, 1)))
        assert distance == pytest.approx(2 * energy_score(to_reference, samples))
        assert np.isnan(energy_score(to_reference[:1], np.zeros((1, 1)), fair=True))

    def test_fair_score_has_no_bias(self):
        """Every pair of draws from a two-point distribution, weighed alike: 0.5 - 0.5 * 0.5 whatever the samples."""
        scores = {True: [], False: []}
        for draw in itertools.product((0.0, 1.0), repeat=2):
            x = np.array(draw)
            for fair in scores:
                scores[fair].append(energy_score(distances(x, np.zeros(1))[:, 0], distances(x, x), fair=fair))
        assert np.mean(scores[True]) == pytest.approx(0.25)
        assert np.mean(scores[False]) == pytest.approx(0.25 + 0.5 / 2 / 2)


class TestMatching:
    def test_replicates_to_the_least_common_multiple(self):
        """Two samples, three references: six pairs. The first sample fits two references and takes three of the six."""
        iou = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        assert matched_iou(iou) == pytest.approx(5 / 6)

    def test_brute_force(self):
        iou = np.random.default_rng(3).random((2, 4))
        doubled = iou.repeat(2, axis=0)
        best = max(doubled[range(4), order].mean() for order in itertools.permutations(range(4)))
        assert matched_iou(iou) == pytest.approx(best)
        assert np.isnan(matched_iou(np.full((2, 2), np.nan)))

    def test_best_of_samples(self):
        assert best_of_samples(np.array([[0.2, 0.9], [0.4, 0.1]])) == pytest.approx((0.4 + 0.9) / 2)

    def test_distinct_mean(self):
        assert distinct_mean(np.array([[9.0, 1, 2], [1, 9, 3], [2, 3, 9]])) == 2
        assert np.isnan(distinct_mean(np.zeros((1, 1))))


class TestCorrelation:
    def test_as_numpy(self):
        first, second = np.random.default_rng(4).random((2, 5, 6))
        assert normalised_cross_correlation(first, second) == pytest.approx(
            np.corrcoef(first.ravel(), second.ravel())[0, 1]
        )
        assert np.isnan(normalised_cross_correlation(np.ones(4), np.arange(4.0)))

    def test_entropy(self):
        maps = np.array([[0, 1, 1], [0, 2, 1], [0, 1, 1], [0, 2, 3]])
        mixed = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
        np.testing.assert_allclose(label_entropy(maps), [0, np.log(2), mixed])

    def test_error_correlation(self):
        samples = np.array([[0, 1, 1, 0], [0, 2, 1, 0]])
        entropy = np.array([0, np.log(2), 0, 0])
        errors = [[0, 0.5, 0, 0], [1, 0.5, 0, 0]]
        expected = np.mean([np.corrcoef(entropy, one)[0, 1] for one in errors])
        assert error_correlation(samples, np.array([[0, 1, 1, 0], [1, 1, 1, 0]])) == pytest.approx(expected)
        assert np.isnan(error_correlation(samples[:1], samples[:1]))


class TestKnownDistribution:
    """Three structures of IoU 2/3 between narrow and wide; a pair of drawn masks differs by 1/6 on average."""

    def test_the_whole_distribution_is_perfect(self):
        row = case_distribution(drawings(), drawings()[::-1], THREE, mask=drawings()[0])
        assert row["ged"] == pytest.approx(0, abs=1e-12)
        assert row["matched_iou"] == row["best_dice"] == pytest.approx(1)
        assert row["ncc_entropy"] == pytest.approx(1)
        assert row["sample_diversity"] == row["rater_diversity"] == pytest.approx(1 / 6 * 8 / 7)
        assert row["energy_score"] == pytest.approx(1 / 6 - 1 / 12)

    def test_one_mask_alone(self):
        row = case_distribution(drawings()[:1], drawings(), THREE)
        assert row["ged"] == pytest.approx(2 / 6 - 1 / 6)
        assert row["ged_left"] == pytest.approx(1 / 6)
        assert row["matched_iou"] == pytest.approx(5 / 6)
        assert row["energy_score"] == pytest.approx(1 / 6)
        assert np.isnan([row["ged_unbiased"], row["energy_score_fair"], row["sample_diversity"]]).all()
        assert np.isnan([row["pairwise_dice"], row["ncc_error"]]).all()

    def test_the_masks_own_dice(self):
        """All narrow, against references of 0, 1 and 3 wide structures: Dice 4/5 with a wide one, 1 with a narrow."""
        row = case_distribution(drawings()[2:5], drawings()[[0, 1, 7]], THREE, mask=drawings()[0])
        assert row["mask_dice"] == pytest.approx((1 + 2.8 / 3 + 2.4 / 3) / 3)

    def test_the_mean_over_structures_is_that_of_their_own_distances(self):
        drawn = drawings()
        row = case_distribution(drawn[[0, 3, 5]], drawn[[1, 6]], THREE)
        assert row["ged"] == pytest.approx(np.mean([row[f"ged_{name}"] for name in THREE.structures]))

    def test_pixels_drawn_one_by_one_score_worse_than_whole_masks(self):
        rng = np.random.default_rng(5)
        drawn = drawings()
        which = rng.integers(0, 8, (200, *drawn.shape[1:]))
        pixelwise = np.take_along_axis(drawn, which[:, :, :], axis=0)
        whole = drawn[rng.integers(0, 8, 200)]
        scores = [case_distribution(one, drawn, THREE) for one in (whole, pixelwise)]
        assert scores[0]["ged"] < 0.01 < scores[1]["ged"]
        assert scores[0]["energy_score_fair"] < scores[1]["energy_score_fair"]
        assert scores[0]["matched_iou"] > scores[1]["matched_iou"]

    def test_unbiased_distance_is_right_on_average(self):
        rng = np.random.default_rng(6)
        drawn = drawings()
        rows = [
            case_distribution(drawn[rng.integers(0, 8, 4)], drawn[rng.integers(0, 8, 3)], THREE) for _ in range(400)
        ]
        assert np.mean([row["ged_unbiased"] for row in rows]) == pytest.approx(0, abs=0.005)
        assert np.mean([row["ged"] for row in rows]) == pytest.approx(1 / 6 * (1 / 4 + 1 / 3), abs=0.005)

    def test_energy_score_is_proper(self):
        """With single references from a distribution of 3 to 1, that distribution scores better than any other."""
        narrow, wide = drawings()[0], drawings()[7]
        scores = {}
        for share in range(0, 9):
            samples = np.stack([narrow] * share + [wide] * (8 - share))
            each = [case_distribution(samples, one[None], THREE)["energy_score"] for one in (narrow, wide)]
            scores[share] = 0.75 * each[0] + 0.25 * each[1]
        assert min(scores, key=scores.get) == 6

    def test_ignored_voxels(self):
        labels = LabelScheme(THREE.structures, ignore=4)
        references, samples = drawings()[:2].copy(), drawings()[:2].copy()
        references[1, 0] = 4
        samples[:, 0] = 3
        row = case_distribution(samples, references, labels, mask=samples[0])
        expected = case_distribution(drawings()[:2, 1:], drawings()[:2, 1:], THREE, mask=drawings()[0, 1:])
        assert row == pytest.approx(expected)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="needs samples and references, not 0 and 8"):
            case_distribution(drawings()[:0], drawings(), THREE)
        with pytest.raises(ValueError, match="must have one shape"):
            case_distribution(drawings()[:, :2], drawings(), THREE)


class TestFailureDetection:
    def test_pairwise_dice(self):
        maps = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.uint8)
        assert pairwise_dice(overlaps_of(maps, LABELS)) == pytest.approx((2 / 3 + 0 + 0) / 3)
        assert pairwise_dice(overlaps_of(np.zeros((3, 4), np.uint8), LABELS)) == 1
        assert np.isnan(pairwise_dice(overlaps_of(np.zeros((1, 4), np.uint8), LABELS)))

    def test_by_hand(self):
        found = failure_detection(np.array([0.9, 0.2, 0.5]), np.array([0.1, 0.3, 0.6]))
        assert found["cases"] == 3
        assert found["risk"] == pytest.approx(1 / 3)
        assert found["aurc"] == pytest.approx((0.1 + 0.7 / 2 + 1 / 3) / 3)
        assert found["aurc_best"] == pytest.approx((0.1 + 0.4 / 2 + 1 / 3) / 3)

    def test_equal_confidence_is_a_random_order(self):
        found = failure_detection(np.full(4, 0.5), np.array([0.1, 0.2, 0.3, 0.8]))
        assert found["aurc"] == pytest.approx(found["risk"])
        assert failure_detection(np.array([np.nan]), np.array([0.1])) == {}

    def test_summary(self):
        cases = pd.DataFrame(
            {"case": ["a", "b"], "ged": [0.1, 0.3], "pairwise_dice": [0.9, 0.5], "mask_dice": [0.8, 0.4]}
        )
        summary = summarise_distributions(cases)
        assert summary["ged"] == pytest.approx(0.2)
        assert summary["detection_aurc"] == summary["detection_aurc_best"] == pytest.approx((0.2 + 0.4) / 2)
