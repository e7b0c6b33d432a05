"""Masks of greatest expected Dice against all masks that there are, on images of a few pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nnunetv2_diffusion.decisions import (
    candidates_of,
    competing_masks,
    expected_dice,
    greatest_expected_dice,
    greatest_mean_dice,
    mean_dice_of_samples,
    region_masks,
)


def every_mask(pixels: int) -> np.ndarray:
    return np.array(list(itertools.product((False, True), repeat=pixels)))


def every_labelling(labels: int, pixels: int) -> np.ndarray:
    """Boolean [labels ** pixels, labels - 1, pixels]: every map of labels, background being 0."""
    maps = np.array(list(itertools.product(range(labels), repeat=pixels)))
    return np.stack([maps == label for label in range(1, labels)], axis=1)


def value(mask: np.ndarray, p: np.ndarray) -> float:
    """2 Σp / (Σp + k), written out; of the empty mask the probability that nothing is there."""
    if not mask.any():
        return float(np.prod(1 - p))
    return sum(2 * p[i] for i in range(len(p)) if mask[i]) / (sum(p) + sum(mask))


def dice_over_outcomes(mask: np.ndarray, p: np.ndarray) -> float:
    """The expected Dice itself where pixels are independent: over every true mask that there may be."""
    total = 0.0
    for truth in every_mask(len(p)):
        size = truth.sum() + mask.sum()
        total += np.prod(np.where(truth, p, 1 - p)) * (2 * (truth & mask).sum() / size if size else 1)
    return total


def dice_of_sample(masks: np.ndarray, sample: np.ndarray) -> float:
    scores = []
    for mask, truth in zip(masks, sample, strict=True):
        size = mask.sum() + truth.sum()
        scores.append(2 * (mask & truth).sum() / size if size else 1)
    return float(np.mean(scores))


class TestOneStructure:
    @pytest.mark.parametrize("seed", range(10))
    def test_best_of_all_masks(self, seed):
        p = np.random.default_rng(seed).beta(0.5, 0.7, 8)
        found = greatest_expected_dice(p)
        assert found.dice == pytest.approx(max(value(mask, p) for mask in every_mask(8)))
        assert value(found.mask, p) == pytest.approx(found.dice)
        assert expected_dice(found.mask[None], p[None])[0] == pytest.approx(found.dice)

    def test_threshold_is_half_the_value(self):
        p = np.random.default_rng(1).random((5, 6))
        found = greatest_expected_dice(p)
        np.testing.assert_array_equal(found.mask, p > found.dice / 2)

    def test_near_the_expected_dice_itself(self):
        """Losing at most 0.015 of it, and on average a tenth of what the argmax loses."""
        rng = np.random.default_rng(2)
        lost = {"expected": [], "argmax": []}
        for _ in range(40):
            p = rng.beta(0.5, 0.7, 6)
            best = max(dice_over_outcomes(mask, p) for mask in every_mask(6))
            lost["expected"].append(best - dice_over_outcomes(greatest_expected_dice(p).mask, p))
            lost["argmax"].append(best - dice_over_outcomes(p > 0.5, p))
        assert max(lost["expected"]) < 0.015
        assert np.mean(lost["expected"]) < 0.1 * np.mean(lost["argmax"])

    def test_sure_pixels_and_ties(self):
        assert greatest_expected_dice(np.array([1.0, 0, 1])).mask.tolist() == [True, False, True]
        assert greatest_expected_dice(np.full(4, 0.4)).mask.all()

    @pytest.mark.parametrize("p", [np.zeros(9), np.full(100_000, 1e-6, np.float32), np.full(10_000_000, 1e-6)])
    def test_what_is_not_there_stays_empty(self, p):
        assert not greatest_expected_dice(p).mask.any()

    def test_single_precision(self):
        p = np.random.default_rng(3).random((40, 40)).astype(np.float32)
        np.testing.assert_array_equal(greatest_expected_dice(p).mask, greatest_expected_dice(p.astype(float)).mask)


class TestSeveralStructures:
    def test_regions_are_decided_one_by_one(self):
        p = np.random.default_rng(4).random((3, 4, 5))
        for mask, one in zip(region_masks(p), p, strict=True):
            np.testing.assert_array_equal(mask, greatest_expected_dice(one).mask)

    def test_nearly_the_best_of_all_label_maps(self):
        """The best in most images, 0.03 short of it at worst, and on average by a tenth of what the argmax is."""
        rng = np.random.default_rng(5)
        everything = every_labelling(4, 5)
        short, argmax_short = [], []
        for _ in range(40):
            p = rng.dirichlet([0.6] * 4, size=5).T
            masks = competing_masks(p[1:])
            assert masks.sum(axis=0).max() <= 1
            best = max(np.mean([value(m, one) for m, one in zip(masks, p[1:], strict=True)]) for masks in everything)
            found = expected_dice(masks, p[1:]).mean()
            argmax = np.stack([p.argmax(axis=0) == label for label in (1, 2, 3)])
            short.append(best - found)
            argmax_short.append(best - expected_dice(argmax, p[1:]).mean())
            assert short[-1] <= argmax_short[-1] + 1e-12
        assert max(short) < 0.03
        assert np.mean(np.array(short) < 1e-9) > 0.8
        assert np.mean(short) < 0.1 * np.mean(argmax_short)

    def test_where_structures_do_not_meet_each_gets_its_own(self):
        p = np.zeros((2, 6))
        p[0, :3], p[1, 3:] = (0.9, 0.45, 0.1), (0.8, 0.42, 0.4)
        np.testing.assert_array_equal(competing_masks(p), region_masks(p))
        assert competing_masks(p)[0].tolist() == [True, True, False, False, False, False]

    def test_a_contested_pixel_goes_to_the_structure_that_feels_it(self):
        p = np.zeros((2, 12))
        p[0, :10], p[1, 10] = 0.99, 0.9
        p[:, 11] = 0.5, 0.45
        assert competing_masks(p)[:, 11].tolist() == [False, True]

    def test_volumes(self):
        p = np.random.default_rng(6).dirichlet([0.5] * 3, size=(2, 3, 4)).transpose(3, 0, 1, 2)[1:]
        flat = competing_masks(p.reshape(2, -1))
        np.testing.assert_array_equal(competing_masks(p), flat.reshape(p.shape))


class TestSamples:
    def test_mean_dice(self):
        rng = np.random.default_rng(7)
        candidates, samples = rng.random((5, 2, 3, 3)) < 0.4, rng.random((4, 2, 3, 3)) < 0.4
        candidates[0] = samples[0, 0] = False
        expected = [np.mean([dice_of_sample(one, sample) for sample in samples]) for one in candidates]
        np.testing.assert_allclose(mean_dice_of_samples(candidates, samples), expected)

    @pytest.mark.parametrize("competing", [True, False])
    def test_nearly_the_best_of_all(self, competing):
        """Short of the best of all masks by 0.002 on average, where the majority is short by 0.06."""
        rng = np.random.default_rng(8)
        everything = every_labelling(3, 6) if competing else every_mask(6)[:, None]
        short = {"found": [], "majority": []}
        for _ in range(50):
            if competing:
                labels = np.array([rng.choice(3, 4, p=p) for p in rng.dirichlet([0.8] * 3, size=6)]).T
                samples = np.stack([labels == 1, labels == 2], axis=1)
            else:
                samples = rng.random((4, 1, 6)) < rng.random(6)
            best = mean_dice_of_samples(everything, samples).max()
            found = greatest_mean_dice(samples, competing=competing)
            assert not competing or found.sum(axis=0).max() <= 1
            short["found"].append(best - mean_dice_of_samples(found[None], samples)[0])
            short["majority"].append(best - mean_dice_of_samples(samples.mean(axis=0)[None] > 0.5, samples)[0])
        assert np.mean(short["found"]) < 0.003
        assert np.mean(short["found"]) < 0.1 * np.mean(short["majority"])

    def test_pixels_that_come_together(self):
        """Two masks at even odds and of one size: either of them beats the four pixels between, all of p = 0.5."""
        samples = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[0, 0, 1, 1]]], bool)
        assert greatest_mean_dice(samples, competing=False)[0].tolist() == [True, True, False, False]

    def test_candidates_hold_the_samples_and_no_pixel_twice(self):
        labels = np.random.default_rng(9).integers(0, 4, (5, 7, 7))
        samples = np.stack([labels == label for label in (1, 2, 3)], axis=1)
        candidates = candidates_of(samples, competing=True)
        np.testing.assert_array_equal(candidates[:5], samples)
        assert len(candidates) == 2 * 5 + 2
        assert candidates.sum(axis=1).max() == 1
        votes = samples.sum(axis=0)
        np.testing.assert_array_equal(candidates[5].any(axis=0), (votes > 0).any(axis=0))

    def test_other_candidates(self):
        samples = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 0]], [[0, 1, 0, 1]]], bool)
        other = np.array([[[0, 1, 0, 0]]], bool)
        found = greatest_mean_dice(samples, competing=False, others=other)
        everything = every_mask(4)[:, None]
        assert mean_dice_of_samples(found[None], samples)[0] == mean_dice_of_samples(everything, samples).max()
