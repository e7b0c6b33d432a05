"""Samplers step by step against diffusers' schedulers, over all and over a subset of timesteps."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from nnunetv2_diffusion.diffusion import (
    ddim,
    ddpm,
    noise_schedule,
    q_sample,
    sampling_timesteps,
    velocity,
    x_start_from_noise,
    x_start_from_velocity,
)

SHAPE = (2, 3, 8, 8)
SCHEDULES = [("linear", "linear"), ("cosine", "squaredcos_cap_v2")]


def network(x: torch.Tensor, timestep: int) -> torch.Tensor:
    """A smooth stand-in for a denoiser, bounded like a mask in [-1, 1]."""
    return torch.tanh(0.5 * x.roll(1, dims=2) - 0.2 * x + timestep / 1000)


def as_x_start(prediction: str, x: torch.Tensor, timestep: int, alphas: torch.Tensor) -> torch.Tensor:
    output = network(x, timestep)
    alpha = float(alphas[timestep])
    if prediction == "epsilon":
        return x_start_from_noise(x, output, alpha)
    return output if prediction == "sample" else x_start_from_velocity(x, output, alpha)


def configured(scheduler_class, schedule: str, timesteps: int, prediction: str, steps: list[int]):
    scheduler = scheduler_class(
        timesteps, 1e-4, 0.02, beta_schedule=schedule, prediction_type=prediction, clip_sample=False
    )
    scheduler.alphas_cumprod = noise_schedule({"squaredcos_cap_v2": "cosine"}.get(schedule, schedule), timesteps)
    scheduler.timesteps = torch.tensor(steps)
    scheduler.custom_timesteps = True
    scheduler.num_inference_steps = len(steps)
    return scheduler


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_ddim_agrees_with_diffusers(ours: str, theirs: str, prediction: str, eta: float):
    timesteps = list(range(990, -1, -10))
    scheduler = configured(DDIMScheduler, theirs, 1000, prediction, timesteps)
    scheduler.num_inference_steps = 100  # so that its previous timestep is ten before
    alphas = noise_schedule(ours, 1000)
    noises = list(
        torch.randn((len(timesteps), *SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = iter(noises)
    steps = ddim(lambda x, t: as_x_start(prediction, x, t, alphas), x, timesteps, alphas, lambda: next(draws), eta)
    for step, noise in zip(steps, noises, strict=True):
        expected = scheduler.step(network(x, step.timestep), step.timestep, x, eta=eta, variance_noise=noise)
        torch.testing.assert_close(step.pred_x_start, expected.pred_original_sample, rtol=1e-5, atol=1e-5)
        # diffusers' last step of all leads to ᾱ = 1 as ours does
        torch.testing.assert_close(step.sample, expected.prev_sample, rtol=1e-5, atol=1e-5)
        x = step.sample


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
@pytest.mark.parametrize(("ours", "theirs"), SCHEDULES)
@pytest.mark.parametrize("steps", [50, 7])
def test_ddpm_agrees_with_diffusers(ours: str, theirs: str, prediction: str, steps: int, monkeypatch):
    timesteps = sampling_timesteps(49, steps)
    scheduler = configured(DDPMScheduler, theirs, 50, prediction, timesteps)
    alphas = noise_schedule(ours, 50)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noises = torch.randn((steps, *SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    draws = iter(noises)
    current = iter(noises)
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *args, **kwargs: next(current), raising=True
    )
    for step in ddpm(lambda x, t: as_x_start(prediction, x, t, alphas), x, timesteps, alphas, lambda: next(draws)):
        expected = scheduler.step(network(x, step.timestep), step.timestep, x)
        torch.testing.assert_close(step.pred_x_start, expected.pred_original_sample, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(step.sample, expected.prev_sample, rtol=1e-5, atol=1e-5)
        x = step.sample


def test_conversions_undo_each_other_and_give_the_variance_that_they_should():
    generator = torch.Generator().manual_seed(3)
    x_start = torch.sign(torch.randn(4, 2, 64, 64, generator=generator, dtype=torch.float64))
    noise = torch.randn(x_start.shape, generator=generator, dtype=torch.float64)
    x_t = q_sample(x_start, noise, 0.3)
    v = 0.3**0.5 * noise - 0.7**0.5 * x_start
    torch.testing.assert_close(velocity(x_start, noise, 0.3), v)
    torch.testing.assert_close(x_start_from_velocity(x_t, v, 0.3), x_start)
    torch.testing.assert_close(x_start_from_noise(x_t, noise, 0.3), x_start)
    assert (x_t - 0.3**0.5 * x_start).var().item() == pytest.approx(0.7, rel=0.05)


def test_deterministic_ddim_with_a_perfect_denoiser_arrives_in_one_step_and_in_many():
    x_start = torch.sign(torch.randn(1, 3, 5, 5, dtype=torch.float64))
    alphas = noise_schedule("linear", 1000)
    for count in (1, 2, 50):
        *_, last = ddim(
            lambda x, t: x_start, torch.randn(1, 3, 5, 5, dtype=torch.float64), sampling_timesteps(999, count), alphas,
            lambda: pytest.fail("deterministic sampling draws no noise"),
        )  # fmt: skip
        torch.testing.assert_close(last.sample, x_start)


def test_timesteps_that_do_not_decrease_are_refused():
    with pytest.raises(ValueError, match="decrease"):
        next(ddim(network, torch.zeros(SHAPE), [3, 5], noise_schedule("linear", 10), lambda: torch.zeros(SHAPE)))
