"""Noise schedules against diffusers' and the formulas in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
from diffusers import DDPMScheduler

from nnunetv2_diffusion.diffusion import noise_schedule, sampling_timesteps


@pytest.mark.parametrize("timesteps", [30, 1000])
@pytest.mark.parametrize(("ours", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_schedules_agree_with_diffusers(ours: str, theirs: str, timesteps: int):
    reference = DDPMScheduler(timesteps, beta_start=1e-4, beta_end=0.02, beta_schedule=theirs).alphas_cumprod
    np.testing.assert_allclose(noise_schedule(ours, timesteps).numpy(), reference.numpy(), rtol=2e-4, atol=1e-7)


def test_linear_schedule_is_the_running_product_of_its_variances():
    by_hand = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(noise_schedule("linear", 1000).numpy(), by_hand, rtol=1e-12)


def test_cosine_schedule_is_the_squared_cosine_until_its_variance_is_capped():
    t = np.arange(1, 1001) / 1000
    by_hand = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(noise_schedule("cosine", 1000).numpy()[:990], by_hand[:990], rtol=1e-9)


def test_first_steps_of_a_longer_schedule_keep_part_of_the_mask():
    partial = noise_schedule("cosine", 30, schedule_timesteps=1000)
    np.testing.assert_array_equal(partial.numpy(), noise_schedule("cosine", 1000).numpy()[:30])
    assert partial[-1] > 0.99 > 1e-4 > noise_schedule("cosine", 30)[-1]


@pytest.mark.parametrize(("name", "length"), [("quadratic", None), ("linear", 5)])
def test_unknown_or_too_short_schedules_are_refused(name: str, length: int | None):
    with pytest.raises(ValueError, match=r"schedule"):
        noise_schedule(name, 10, length)


def test_sampling_timesteps_run_evenly_from_the_first_to_zero():
    assert sampling_timesteps(999, 4) == [999, 666, 333, 0]
    assert sampling_timesteps(29, 30) == list(range(29, -1, -1))
    assert sampling_timesteps(999, 1) == [999]
    with pytest.raises(ValueError, match="31 sampling steps"):
        sampling_timesteps(29, 31)
