"""Schedules, the diffusion process and samplers: pure functions on tensors."""

from nnunetv2_diffusion.diffusion.process import (
    q_sample,
    to_probabilities,
    to_x_start,
    velocity,
    x_start_from_noise,
    x_start_from_velocity,
)
from nnunetv2_diffusion.diffusion.samplers import Step, ddim, ddpm
from nnunetv2_diffusion.diffusion.schedules import (
    cosine_betas,
    linear_betas,
    log_snr,
    log_snr_density,
    log_snr_timesteps,
    noise_schedule,
    sampling_timesteps,
)

__all__ = [
    "Step",
    "cosine_betas",
    "ddim",
    "ddpm",
    "linear_betas",
    "log_snr",
    "log_snr_density",
    "log_snr_timesteps",
    "noise_schedule",
    "q_sample",
    "sampling_timesteps",
    "to_probabilities",
    "to_x_start",
    "velocity",
    "x_start_from_noise",
    "x_start_from_velocity",
]
