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
    mask_scale: float = 1.0,
) -> torch.Tensor:
    """The cumulative products ᾱ_t of a schedule's first `timesteps` steps; float64 [timesteps], decreasing in (0, 1).

    Args:
        schedule: "linear" or "cosine".
        timesteps: T, how many steps are used.
        schedule_timesteps: how many the whole schedule has (default: `timesteps`).
        beta_start, beta_end: ends of the linear schedule.
        mask_scale: b, see `scaled_mask`.

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
    return scaled_mask(torch.cumprod(1 - betas, dim=0)[:timesteps], mask_scale)


def scaled_mask(alphas_cumprod: torch.Tensor, mask_scale: float) -> torch.Tensor:
    """The ᾱ' of a process that noises b x_0 in place of x_0 and then divides x_t by its standard deviation (Chen 2023).

    x_t = sqrt(ᾱ) b x_0 + sqrt(1 - ᾱ) ε has the variance b² ᾱ + 1 - ᾱ for an x_0 of variance 1, so that dividing leaves
    ᾱ' = b² ᾱ / (b² ᾱ + 1 - ᾱ): scaling the mask is another schedule.
    """
    scaled = mask_scale**2 * alphas_cumprod
    return scaled / (scaled + 1 - alphas_cumprod) if mask_scale != 1 else alphas_cumprod


def log_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """log(ᾱ_t / (1 - ᾱ_t)), the logarithm of the signal-to-noise ratio (Kingma et al. 2021); decreasing in t."""
    return alphas_cumprod.log() - (1 - alphas_cumprod).log()


def log_snr_density(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """Probabilities [T] of the timesteps under which log SNR is drawn evenly: the share of its range next to each."""
    ratio = log_snr(alphas_cumprod)
    between = torch.cat([ratio[:1], (ratio[1:] + ratio[:-1]) / 2, ratio[-1:]])
    widths = between[:-1] - between[1:]
    return widths / widths.sum() if len(ratio) > 1 else torch.ones_like(ratio)


def sampling_timesteps(first_timestep: int, steps: int) -> list[int]:
    """`steps` timesteps from `first_timestep` down to 0, evenly spaced and rounded; the first alone for one step.

    Raises:
        ValueError: more steps than there are timesteps.
    """
    if not 1 <= steps <= first_timestep + 1:
        raise ValueError(f"{steps} sampling steps do not fit into the {first_timestep + 1} timesteps to be visited")
    return torch.linspace(first_timestep, 0, steps, dtype=torch.float64).round().long().tolist()


def log_snr_timesteps(first_timestep: int, steps: int, alphas_cumprod: torch.Tensor) -> list[int]:
    """As `sampling_timesteps`, but evenly spaced in log SNR: those whose log SNR comes nearest, no timestep twice."""
    if steps == 1:
        return sampling_timesteps(first_timestep, steps)
    ratio = log_snr(alphas_cumprod[: first_timestep + 1])
    wanted = torch.linspace(float(ratio[-1]), float(ratio[0]), steps, dtype=torch.float64)
    nearest = (ratio[None] - wanted[:, None]).abs().argmin(dim=1).tolist()
    chosen = sampling_timesteps(first_timestep, steps)[:1]
    for number, timestep in enumerate(nearest[1:], start=2):
        chosen.append(max(min(timestep, chosen[-1] - 1), steps - number))
    return chosen
