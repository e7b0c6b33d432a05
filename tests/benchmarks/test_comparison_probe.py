"""The probe of x_t that compare_models.py makes: what is known of denoisers that ignore x_t, and that copy it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from comparison import probe
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.settings import Settings

SIDE = 64


class CopyingDenoiser(nn.Module):
    """Answers with x_t, or without it: with the image's first channel as the foreground's logit."""

    def __init__(self, copies: bool, heads: int = 2):
        super().__init__()
        self.copies = copies
        self.decoder = nn.Module()
        self.decoder.seg_layers = nn.ModuleList([nn.Conv2d(1, heads, 1)])

    def encode_image(self, image):
        return []

    def forward(self, image, x_t, timestep, image_features=None):
        return x_t.clone() if self.copies else torch.cat([torch.zeros_like(image[:, :1]), image[:, :1]], dim=1)


def network(copies: bool, **settings) -> DiffusionNetwork:
    return DiffusionNetwork(CopyingDenoiser(copies), Settings().updated(settings)).eval()


def mask_of(share: float) -> torch.Tensor:
    """x_0 [1, 2, H, W] whose upper rows are foreground."""
    foreground = torch.zeros(SIDE, SIDE)
    foreground[: int(SIDE * share)] = 1
    return torch.stack([1 - foreground, foreground])[None] * 2 - 1


def test_a_denoiser_without_x_t_changes_nothing_and_its_samples_agree():
    image = torch.randn(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    blind = network(copies=False, samples=3)
    shares = probe.changed_by_noise(blind, image, mask_of(0.25), torch.Generator().manual_seed(0))
    assert {third: values["pixels"] for third, values in shares.items()} == {"early": 0, "middle": 0, "late": 0}
    assert probe.sample_variance(blind, image, mirrored=False) == pytest.approx(0, abs=1e-12)


def test_mirrored_samples_differ_by_their_mirroring():
    """The foreground's logit is a ramp over columns: mirrored along them it is the ramp's reverse."""
    ramp = torch.linspace(-2, 2, SIDE).expand(1, 1, SIDE, SIDE)
    blind = network(copies=False, samples=4)
    p = 1 / (1 + np.exp(-np.linspace(-2, 2, SIDE)))
    expected = np.var([p, p, p, p], axis=0).mean()
    assert probe.sample_variance(blind, ramp, mirrored=True) == pytest.approx(expected, abs=1e-9)
    # an answer that does not turn with the image, as one of a network with padding may be
    blind.denoiser.forward = lambda image, x_t, t, features=None: torch.cat([0 * ramp, ramp], dim=1)
    expected = np.var([p, p, p[::-1], p[::-1]], axis=0).mean()
    assert probe.sample_variance(blind, ramp, mirrored=True) == pytest.approx(expected, rel=1e-4)
    assert blind.sampling.samples == 4 and blind.sampling.mirror_samples


def test_a_denoiser_that_copies_x_t_changes_as_the_normal_distribution_says():
    """At t near 0, x_t is the mask; the noise calls a pixel foreground with Φ((2f - 1) / sqrt(2 f (1 - f)))."""
    share = 0.25
    late = probe.changed_by_noise(
        network(copies=True, timesteps=30, schedule_timesteps=100_000, beta_start=1e-7, beta_end=1e-6),
        torch.zeros(1, 1, SIDE, SIDE),
        mask_of(share),
        torch.Generator().manual_seed(0),
    )["late"]
    called = 0.5 * (1 + math.erf((2 * share - 1) / math.sqrt(2 * share * (1 - share)) / math.sqrt(2)))
    changed = share * (1 - called) + (1 - share) * called
    assert late["pixels"] == pytest.approx(changed, abs=0.02)
    assert late["foreground"] == pytest.approx(changed / (share + (1 - share) * called), abs=0.03)


def test_answers_are_judged_by_the_x_start_that_they_imply():
    """A v of x_t itself implies x_0 = x_t (sqrt(ᾱ) - sqrt(1 - ᾱ)), whose argmax is x_t's while ᾱ is above a half.

    An ε of x_t itself implies x_0 = x_t (1 - sqrt(1 - ᾱ)) / sqrt(ᾱ), whose argmax is always x_t's.
    """
    arguments = torch.zeros(1, 1, SIDE, SIDE), mask_of(0.5)
    as_mask, as_velocity, as_noise = (
        probe.changed_by_noise(
            network(copies=True, timesteps=100, prediction=prediction), *arguments, torch.Generator().manual_seed(0)
        )
        for prediction in ("x_start", "velocity", "noise")
    )
    assert as_mask["middle"]["pixels"] > 0.1
    assert as_velocity["middle"]["pixels"] == pytest.approx(as_mask["middle"]["pixels"], abs=0.02)
    assert as_noise["middle"]["pixels"] == pytest.approx(as_mask["middle"]["pixels"], abs=0.02)


def test_variance_over_samples_agrees_with_the_ensembles_own():
    settings = {"timesteps": 50, "samples": 8, "sampling_steps": 1, "ensemble_steps": 1, "mirror_samples": False}
    copying, image = network(copies=True, **settings), torch.zeros(1, 1, SIDE, SIDE)
    own = copying.predict(image, disagreement=True).variance.mean()  # of two heads, whose variances are one
    assert probe.sample_variance(copying, image, mirrored=False) == pytest.approx(float(own), rel=0.05)
