"""Schedules, the diffusion process, samplers and the step-uncertainty ensemble: pure functions on tensors."""

from nnunetv2_diffusion.diffusion.ensemble import StepUncertaintyEnsemble, fuse_steps
from nnunetv2_diffusion.diffusion.process import (
    noise_from_velocity,
    q_sample,
    to_probabilities,
    to_x_start,
    x_start_from_velocity,
)
from nnunetv2_diffusion.diffusion.samplers import Step, ddim, ddpm
from nnunetv2_diffusion.diffusion.schedules import cosine_betas, linear_betas, noise_schedule, sampling_timesteps

__all__ = [
    "Step",
    "StepUncertaintyEnsemble",
    "cosine_betas",
    "ddim",
    "ddpm",
    "fuse_steps",
    "linear_betas",
    "noise_from_velocity",
    "noise_schedule",
    "q_sample",
    "sampling_timesteps",
    "to_probabilities",
    "to_x_start",
    "x_start_from_velocity",
]
