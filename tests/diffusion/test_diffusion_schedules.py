"""Noise schedules against diffusers' and the formulas in float64 numpy."""

from __future__ import annotations

import numpy as np
import pytest
from diffusers import DDPMScheduler

from nnunetv2_diffusion.diffusion import (
    log_snr,
    log_snr_density,
    log_snr_timesteps,
    noise_schedule,
    sampling_timesteps,
)


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


@pytest.mark.parametrize("scale", [0.5, 0.1, 0.01])
def test_a_scaled_mask_that_is_noised_and_normalised_is_another_schedule(scale: float):
    """Noise drawn with numpy: what is left of x_0 in x_t is its correlation with it, sqrt(ᾱ')."""
    generator = np.random.default_rng(0)
    x_start, noise = generator.choice([-1.0, 1.0], 200_000), generator.normal(size=200_000)
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    ours = noise_schedule("linear", 1000, mask_scale=scale).numpy()
    for timestep in (0, 200, 500):
        x_t = np.sqrt(alphas[timestep]) * scale * x_start + np.sqrt(1 - alphas[timestep]) * noise
        assert np.sqrt(ours[timestep]) == pytest.approx(np.corrcoef(x_start, x_t)[0, 1], abs=8e-3)
    assert np.all(np.diff(ours) < 0) and ours[0] < 1
    np.testing.assert_array_equal(noise_schedule("linear", 1000, mask_scale=1).numpy(), noise_schedule("linear", 1000))


def test_the_signal_to_noise_ratio_falls_by_the_square_of_the_scale():
    ratio, scaled = (log_snr(noise_schedule("linear", 1000, mask_scale=scale)).numpy() for scale in (1, 0.1))
    np.testing.assert_allclose(ratio - scaled, np.log(100), rtol=1e-9)
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(ratio, np.log(alphas / (1 - alphas)), rtol=1e-9)


def test_timesteps_even_in_log_snr_lie_nearest_to_even_steps():
    alphas = noise_schedule("linear", 1000)
    ratio = np.log(alphas.numpy() / (1 - alphas.numpy()))
    chosen = log_snr_timesteps(999, 5, alphas)
    assert (chosen[0], chosen[-1]) == (999, 0)
    wanted = np.linspace(ratio[999], ratio[0], 5)
    assert chosen == [int(np.abs(ratio - value).argmin()) for value in wanted]
    assert log_snr_timesteps(999, 1, alphas) == [999]
    assert log_snr_timesteps(400, 3, alphas)[0] == 400


@pytest.mark.parametrize("steps", [2, 17, 29, 30])
def test_no_timestep_is_visited_twice(steps: int):
    chosen = log_snr_timesteps(29, steps, noise_schedule("linear", 30))
    assert len(chosen) == steps and np.all(np.diff(chosen) < 0) and (chosen[0], chosen[-1]) == (29, 0)


def test_the_density_makes_log_snr_uniform():
    alphas = noise_schedule("linear", 1000)
    density, ratio = log_snr_density(alphas).numpy(), log_snr(alphas).numpy()
    assert density.sum() == pytest.approx(1) and density.min() > 0
    drawn = ratio[np.random.default_rng(0).choice(1000, 100_000, p=density)]
    # the cleanest timesteps lie far apart, so the bins are wide
    counts = np.histogram(drawn, bins=4, range=(ratio[-1], ratio[0]))[0] / len(drawn)
    np.testing.assert_allclose(counts, 0.25, atol=0.03)
    assert log_snr_density(noise_schedule("linear", 1)).tolist() == [1]
