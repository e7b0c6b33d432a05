"""The forward process q(x_t | x_0) and the conversions between x_0, ε (Ho et al. 2020, equations 4 and 9) and v.

Masks are one-hot [B, K, H, W] in [-1, 1]; ᾱ_t is a number or a tensor that broadcasts against them.
"""

from __future__ import annotations

import torch


def to_x_start(mask: torch.Tensor) -> torch.Tensor:
    """Probabilities or one-hot masks in [0, 1] -> x_0 in [-1, 1]."""
    return mask * 2 - 1


def to_probabilities(x_start: torch.Tensor) -> torch.Tensor:
    """x_0 in [-1, 1] -> [0, 1], what lies outside cut off."""
    return ((x_start + 1) / 2).clamp(0, 1)


def q_sample(x_start: torch.Tensor, noise: torch.Tensor, alpha_cumprod: torch.Tensor | float) -> torch.Tensor:
    """x_t = sqrt(ᾱ_t) x_0 + sqrt(1 - ᾱ_t) ε, same shape as `x_start`."""
    return alpha_cumprod**0.5 * x_start + (1 - alpha_cumprod) ** 0.5 * noise


def velocity(x_start: torch.Tensor, noise: torch.Tensor, alpha_cumprod: torch.Tensor | float) -> torch.Tensor:
    """v = sqrt(ᾱ_t) ε - sqrt(1 - ᾱ_t) x_0 (Salimans and Ho 2022, appendix D), same shape as `x_start`."""
    return alpha_cumprod**0.5 * noise - (1 - alpha_cumprod) ** 0.5 * x_start


def x_start_from_velocity(
    x_t: torch.Tensor, velocity: torch.Tensor, alpha_cumprod: torch.Tensor | float
) -> torch.Tensor:
    """x_0 = sqrt(ᾱ_t) x_t - sqrt(1 - ᾱ_t) v, of which `x_t` is the noised version."""
    return alpha_cumprod**0.5 * x_t - (1 - alpha_cumprod) ** 0.5 * velocity


def x_start_from_noise(x_t: torch.Tensor, noise: torch.Tensor, alpha_cumprod: torch.Tensor | float) -> torch.Tensor:
    """x_0 = (x_t - sqrt(1 - ᾱ_t) ε) / sqrt(ᾱ_t), of which `x_t` is the noised version."""
    return (x_t - (1 - alpha_cumprod) ** 0.5 * noise) / alpha_cumprod**0.5
