"""IISDM (Wolleb et al. 2021; paper, appendix B.3 and Table 7): the denoiser predicts the mask's noise, here as v."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from nnunetv2_diffusion.diffusion import to_x_start, velocity
from nnunetv2_diffusion.settings import Process, Sampling, Settings
from nnunetv2_diffusion.trainers.losses import MaskTarget, masked_mean
from nnunetv2_diffusion.trainers.nnUNetTrainerDiffusion import nnUNetTrainerDiffusion


class AnswerTarget(NamedTuple):
    """What the denoiser is to answer with, v or ε, [B, K, H, W], and the pixels that count, [B, 1, H, W]."""

    answer: torch.Tensor
    valid: torch.Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> AnswerTarget:
        """On another device, as nnU-Net asks of a target."""
        return AnswerTarget(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


class AnswerMSELoss(nn.Module):
    """Mean squared error of the answer; in validation, where nnU-Net needs a mask, of the x_0 that it implies."""

    def __init__(self, mask_target: MaskTarget):
        super().__init__()
        self.mask_target = mask_target

    def forward(self, output: torch.Tensor, target: AnswerTarget | torch.Tensor) -> torch.Tensor:
        if isinstance(target, AnswerTarget):
            return masked_mean((output.float() - target.answer) ** 2, target.valid)
        mask, valid = self.mask_target(target)
        return masked_mean((output.float() - to_x_start(mask)) ** 2, valid)


class nnUNetTrainerIISDM(nnUNetTrainerDiffusion):
    """Predicts v with MSE and no auxiliary encoder; DDPM ancestral sampling, 5 samples, their mean and variance.

    The error of v is that of ε divided by ᾱ_t (Salimans and Ho 2022). Unweighted, as it was published, the noisy
    timesteps, at which the image must tell what the mask is, hardly count: see `nnUNetTrainerIISDMEpsilon`.

    Its length is the paper's (Table 7): 2600 passes over the 324 slices that a training fold of T1w+T2w holds, at batch
    10, are 2600 * 324 / 10 = 84,240 steps, or 337 of nnU-Net's epochs of 250. The batch of 10 is in the configuration
    `2d_iisdm` of `spinesegdiff plan --paper-baselines`.
    """

    settings = Settings(
        Process(prediction="velocity"),
        Sampling(
            sampler="ddpm", sampling_steps=1000, ensemble="samples", ensemble_steps=1, samples=5, mirror_samples=False
        ),
    )
    auxiliary_encoder = False
    epochs = 337

    def _build_loss(self) -> nn.Module:
        return AnswerMSELoss(self.mask_target)

    def training_target(self, target: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> AnswerTarget:
        """The v or ε of the noised mask."""
        mask, valid = self.mask_target(target)
        if valid is None:
            valid = torch.ones_like(noise[:, :1], dtype=torch.bool)
        if self.settings.process.prediction == "noise":
            return AnswerTarget(noise, valid)
        alpha_cumprod = self.alphas_cumprod[timestep][:, None, None, None]
        return AnswerTarget(velocity(to_x_start(mask), noise, alpha_cumprod), valid)
