"""The step-uncertainty ensemble against equations 1 to 3 of the paper, written out in float64 numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nnunetv2_diffusion.sampling.ensembles import StepUncertaintyEnsemble


def fuse_steps(steps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Fused and uncertainty of T_s steps [S, B, K, H, W]."""
    ensemble = StepUncertaintyEnsemble(len(steps))
    for probabilities in steps:
        ensemble.update(probabilities)
    return ensemble.fused(), ensemble.uncertainty()


def random_probabilities(steps: int, samples: int = 3, batch: int = 2, heads: int = 4, size: int = 6) -> np.ndarray:
    """[T_s, S, B, K, H, W], a distribution over K."""
    logits = np.random.default_rng(0).normal(size=(steps, samples, batch, heads, size, size)) * 3
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=3, keepdims=True)


def paper_equations(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x̂_f and the mean over steps of Σ_k û_t / log K."""
    steps, heads = p.shape[0], p.shape[3]
    fused, uncertainty = 0.0, 0.0
    for t in range(1, steps + 1):
        mean = p[t - 1].mean(axis=0)  # equation 1
        u = -mean * np.log(mean)  # equation 2
        sigmoid = 1 / (1 + np.exp(-t / steps))
        fused = fused + (np.exp(sigmoid) * (1 - u)) * mean  # equation 3
        uncertainty = uncertainty + u.sum(axis=1) / np.log(heads) / steps
    return fused, uncertainty


@pytest.mark.parametrize("steps", [1, 5])
def test_fused_mask_and_uncertainty_are_the_papers_equations(steps: int):
    p = random_probabilities(steps)
    fused, uncertainty = fuse_steps(list(torch.from_numpy(p)))
    expected_fused, expected_uncertainty = paper_equations(p)
    np.testing.assert_allclose(fused.numpy(), expected_fused, rtol=1e-12)
    np.testing.assert_allclose(uncertainty.numpy(), expected_uncertainty, rtol=1e-12)
    assert fused.shape == (2, 4, 6, 6)
    assert uncertainty.shape == (2, 6, 6)


def test_one_step_and_one_sample_worked_by_hand():
    p = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64).reshape(1, 1, 3, 1, 1)
    fused, uncertainty = fuse_steps([p])
    factor = math.exp(1 / (1 + math.exp(-1)))
    by_hand = [factor * (1 - 0.5 * math.log(2)) * 0.5, factor * (1 - 0.25 * math.log(4)) * 0.25]
    assert fused.flatten().tolist() == pytest.approx([by_hand[0], by_hand[1], by_hand[1]])
    assert uncertainty.item() == pytest.approx(1.5 * math.log(2) / math.log(3))


def test_certain_steps_are_certain_and_even_ones_wholly_uncertain():
    certain = torch.zeros(2, 1, 4, 3, 3)
    certain[:, :, 1] = 1
    fused, uncertainty = fuse_steps([certain, certain])
    assert torch.equal(uncertainty, torch.zeros(1, 3, 3))
    assert not fused.isnan().any()
    assert (fused.argmax(dim=1) == 1).all()
    _, even = fuse_steps([torch.full((2, 1, 4, 3, 3), 0.25)])
    torch.testing.assert_close(even, torch.ones(1, 3, 3))


def test_later_steps_weigh_more():
    early, late = torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.9])
    fused, _ = fuse_steps([p.reshape(1, 1, 2, 1, 1) for p in (early, late)])
    assert fused[0, 1] > fused[0, 0]


def test_regions_use_each_heads_own_entropy_and_weighted_mean():
    p = np.random.default_rng(1).uniform(0.01, 0.99, size=(3, 4, 1, 2, 5, 5))
    ensemble = StepUncertaintyEnsemble(3, regions=True)
    total, weights, uncertainty = 0.0, 0.0, 0.0
    for t in range(3):
        ensemble.update(torch.from_numpy(p[t]))
        mean = p[t].mean(axis=0)
        w = np.exp(1 / (1 + np.exp(-(t + 1) / 3))) * (1 + mean * np.log(mean))
        total, weights = total + w * mean, weights + w
        uncertainty = uncertainty - (mean * np.log2(mean) + (1 - mean) * np.log2(1 - mean)).mean(axis=1) / 3
    np.testing.assert_allclose(ensemble.fused_probabilities().numpy(), total / weights, rtol=1e-12)
    np.testing.assert_allclose(ensemble.uncertainty().numpy(), uncertainty, rtol=1e-12)


def test_variance_and_mutual_information_tell_disagreement_from_indecision():
    p = random_probabilities(2)
    ensemble = StepUncertaintyEnsemble(2, disagreement=True)
    for step in p:
        ensemble.update(torch.from_numpy(step))

    def entropy(q: np.ndarray, axis: int) -> np.ndarray:
        return -(q * np.log(q)).sum(axis=axis) / np.log(4)

    information = np.mean([entropy(s.mean(0), 1) - entropy(s, 2).mean(0) for s in p], axis=0)
    np.testing.assert_allclose(ensemble.mutual_information().numpy(), information, rtol=1e-9)
    np.testing.assert_allclose(ensemble.variance().numpy(), p.var(axis=1).mean(axis=2).mean(axis=0), rtol=1e-9)
    undecided = StepUncertaintyEnsemble(1, disagreement=True)
    undecided.update(torch.full((3, 1, 4, 2, 2), 0.25))
    torch.testing.assert_close(undecided.mutual_information(), torch.zeros(1, 2, 2))
    torch.testing.assert_close(undecided.uncertainty(), torch.ones(1, 2, 2))


def test_memory_does_not_grow_with_the_number_of_steps():
    def kept_numbers(steps: int) -> int:
        ensemble = StepUncertaintyEnsemble(steps)
        for _ in range(steps):
            ensemble.update(torch.rand(2, 1, 4, 8, 8))
        return sum(tensor.numel() for tensor in ensemble._sums.values())

    assert kept_numbers(40) == kept_numbers(2)


def test_a_tensor_that_is_no_step_is_refused():
    with pytest.raises(ValueError, match=r"must be \[S, B, K, H, W\], not of shape \(4, 8, 8\)"):
        StepUncertaintyEnsemble(1).update(torch.rand(4, 8, 8))


def test_an_ensemble_wants_all_its_steps_and_no_more():
    ensemble = StepUncertaintyEnsemble(2)
    ensemble.update(torch.rand(1, 1, 2, 3, 3))
    with pytest.raises(ValueError, match="needs 2 steps and has seen 1"):
        ensemble.maps()
    ensemble.update(torch.rand(1, 1, 2, 3, 3))
    with pytest.raises(ValueError, match="seen them all"):
        ensemble.update(torch.rand(1, 1, 2, 3, 3))
