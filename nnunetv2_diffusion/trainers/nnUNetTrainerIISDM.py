"""IISDM (Wolleb et al. 2021; paper, appendix B.3 and Table 7): the denoiser predicts the noise on the mask."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from nnunetv2_diffusion.diffusion import to_x_start
from nnunetv2_diffusion.settings import DiffusionSettings
from nnunetv2_diffusion.trainers.losses import MaskTarget, masked_mean
from nnunetv2_diffusion.trainers.nnUNetTrainerDiffusion import nnUNetTrainerDiffusion


class NoiseTarget(NamedTuple):
    """The noise to be predicted, [B, K, H, W], the pixels that count, [B, 1, H, W], an image's weight, [B, 1, 1, 1]."""

    noise: torch.Tensor
    valid: torch.Tensor
    weight: torch.Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> NoiseTarget:
        """On another device, as nnU-Net asks of a target."""
        return NoiseTarget(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


class NoiseMSELoss(nn.Module):
    """Weighted mean squared error of the predicted noise; in validation, where nnU-Net needs a mask, of that x_0."""

    def __init__(self, mask_target: MaskTarget):
        super().__init__()
        self.mask_target = mask_target

    def forward(self, output: torch.Tensor, target: NoiseTarget | torch.Tensor) -> torch.Tensor:
        if isinstance(target, NoiseTarget):
            return masked_mean(target.weight * (output.float() - target.noise) ** 2, target.valid)
        mask, valid = self.mask_target(target)
        return masked_mean((output.float() - to_x_start(mask)) ** 2, valid)


class nnUNetTrainerIISDM(nnUNetTrainerDiffusion):
    """Predicts ε with MSE and no auxiliary encoder; DDPM ancestral sampling, 5 samples, their mean and variance.

    The U-Net answers with v, of which ε is made (see `DiffusionNetwork`): its error is not divided by sqrt(ᾱ_t).
    The loss divides the squared error of ε by ᾱ_t, which makes it that of v (`noise_weighting`): unweighted, as it was
    published, the noisy timesteps, at which the image must tell what the mask is, hardly count.

    Its length is the paper's (Table 7): 2600 passes over the 324 slices that a training fold of T1w+T2w holds, at batch
    10, are 2600 * 324 / 10 = 84,240 steps, or 337 of nnU-Net's epochs of 250. The batch of 10 is in the configuration
    `2d_iisdm` of `spinesegdiff plan --paper-baselines`.
    """

    settings = DiffusionSettings(
        prediction="noise",
        noise_weighting="velocity",
        sampler="ddpm",
        sampling_steps=1000,
        ensemble="samples",
        ensemble_steps=1,
        samples=5,
        mirror_samples=False,
    )
    auxiliary_encoder = False
    epochs = 337

    def _build_loss(self) -> nn.Module:
        return NoiseMSELoss(self.mask_target)

    def training_target(self, target: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> NoiseTarget:
        """The noise that was added, and what an error at that timestep weighs."""
        valid = self.mask_target(target)[1]
        if valid is None:
            valid = torch.ones_like(noise[:, :1], dtype=torch.bool)
        weight = torch.ones_like(noise[:, :1, :1, :1])
        if self.diffusion_network.settings.noise_weighting == "velocity":
            weight = weight / self.alphas_cumprod[timestep][:, None, None, None]
        return NoiseTarget(noise, valid, weight)
