"""Noise schedules: plain functions that return a float64 tensor over the timesteps 0 ... T-1."""

from __future__ import annotations

import math

import torch


def linear_betas(timesteps: int, beta_start: float = 1e-4, beta_end: float = 0.02) -> torch.Tensor:
    """Variances β_t of Ho et al. 2020 (section 4), evenly spaced; float64 [timesteps]."""
    return torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)


def cosine_betas(timesteps: int, offset: float = 0.008, max_beta: float = 0.999) -> torch.Tensor:
    """Variances β_t of Nichol and Dhariwal 2021 (equation 17); float64 [timesteps]."""
    position = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    alphas_bar = torch.cos((position + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alphas_bar[1:] / alphas_bar[:-1]).clamp(max=max_beta)


def noise_schedule(
    schedule: str,
    timesteps: int,
    schedule_timesteps: int | None = None,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
) -> torch.Tensor:
    """The cumulative products ᾱ_t of a schedule's first `timesteps` steps; float64 [timesteps], decreasing in (0, 1).

    Args:
        schedule: "linear" or "cosine".
        timesteps: T, how many steps are used.
        schedule_timesteps: how many the whole schedule has (default: `timesteps`).
        beta_start, beta_end: ends of the linear schedule.

    Raises:
        ValueError: an unknown schedule, or one shorter than `timesteps`.
    """
    length = schedule_timesteps or timesteps
    if length < timesteps:
        raise ValueError(f"a schedule of {length} steps has no first {timesteps} steps")
    if schedule == "linear":
        betas = linear_betas(length, beta_start, beta_end)
    elif schedule == "cosine":
        betas = cosine_betas(length)
    else:
        raise ValueError(f"schedule must be linear or cosine, not {schedule!r}")
    return torch.cumprod(1 - betas, dim=0)[:timesteps]


def sampling_timesteps(first_timestep: int, steps: int) -> list[int]:
    """`steps` timesteps from `first_timestep` down to 0, evenly spaced and rounded; the first alone for one step.

    Raises:
        ValueError: more steps than there are timesteps.
    """
    if not 1 <= steps <= first_timestep + 1:
        raise ValueError(f"{steps} sampling steps do not fit into the {first_timestep + 1} timesteps to be visited")
    return torch.linspace(first_timestep, 0, steps, dtype=torch.float64).round().long().tolist()
