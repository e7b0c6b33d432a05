"""Samplers over any decreasing subset of the timesteps, as generators that yield each step's prediction.

`denoise(x_t, timestep)` returns the predicted x_0 in [-1, 1], of x_t's shape; a denoiser that predicts v or ε converts
first (`process.x_start_from_velocity`, `process.x_start_from_noise`). `draw_noise()` returns standard normal noise of
x_t's shape.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

Denoise = Callable[[torch.Tensor, int], torch.Tensor]


class Step(NamedTuple):
    """One step of a sampler: the timestep it was at, the x_0 predicted there, and the sample x it leads to."""

    timestep: int
    pred_x_start: torch.Tensor
    sample: torch.Tensor


def ddim(
    denoise: Denoise,
    x: torch.Tensor,
    timesteps: Sequence[int],
    alphas_cumprod: torch.Tensor,
    draw_noise: Callable[[], torch.Tensor],
    eta: float = 0.0,
) -> Iterator[Step]:
    """Denoising diffusion implicit models (Song et al. 2021, equations 12 and 16).

    Args:
        denoise: the predicted x_0 of (x_t, timestep).
        x: x_t at `timesteps[0]`, e.g. pure noise [B, K, H, W].
        timesteps: those to visit, decreasing.
        alphas_cumprod: ᾱ_t, float64 [T].
        draw_noise: fresh noise, called once a step where `eta` > 0 and a further step follows.
        eta: 0 deterministic ... 1 as stochastic as DDPM.
    """
    for timestep, alpha, alpha_prev in _with_alphas(timesteps, alphas_cumprod):
        x_start = denoise(x, timestep)
        sigma = eta * ((1 - alpha_prev) / (1 - alpha) * (1 - alpha / alpha_prev)) ** 0.5
        # sqrt(ᾱ') x_0 + sqrt(1 - ᾱ' - σ²) ε, where ε = (x_t - sqrt(ᾱ) x_0) / sqrt(1 - ᾱ)
        of_x = (max(1 - alpha_prev - sigma**2, 0.0) / (1 - alpha)) ** 0.5
        x = torch.add(of_x * x, x_start, alpha=alpha_prev**0.5 - of_x * alpha**0.5)
        if sigma > 0:
            x = x + sigma * draw_noise()
        yield Step(timestep, x_start, x)


def ddpm(
    denoise: Denoise,
    x: torch.Tensor,
    timesteps: Sequence[int],
    alphas_cumprod: torch.Tensor,
    draw_noise: Callable[[], torch.Tensor],
) -> Iterator[Step]:
    """Ancestral sampling (Ho et al. 2020, equations 6 and 7), the posterior taken between visited timesteps.

    Arguments as for `ddim`; noise is drawn at every step but the last.
    """
    for timestep, alpha, alpha_prev in _with_alphas(timesteps, alphas_cumprod):
        x_start = denoise(x, timestep)
        beta = 1 - alpha / alpha_prev
        mean_of_x_start = alpha_prev**0.5 * beta / (1 - alpha)
        mean_of_x = (alpha / alpha_prev) ** 0.5 * (1 - alpha_prev) / (1 - alpha)
        variance = (1 - alpha_prev) / (1 - alpha) * beta
        x = mean_of_x_start * x_start + mean_of_x * x
        if variance > 0:
            x = x + variance**0.5 * draw_noise()
        yield Step(timestep, x_start, x)


def _with_alphas(timesteps: Sequence[int], alphas_cumprod: torch.Tensor) -> Iterator[tuple[int, float, float]]:
    """(timestep, its ᾱ, ᾱ of the next visited timestep), the last step leading to ᾱ = 1."""
    if any(here <= after for here, after in itertools.pairwise(timesteps)):
        raise ValueError(f"timesteps must decrease, not {list(timesteps)}")
    alphas = [float(alphas_cumprod[t]) for t in timesteps]
    return zip(timesteps, alphas, [*alphas[1:], 1.0], strict=True)
