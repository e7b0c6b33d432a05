"""SpineSegDiff (paper, section 3 and appendix A): a denoiser that predicts the mask itself."""

from __future__ import annotations

import torch

from nnunetv2_diffusion.diffusion import to_x_start
from nnunetv2_diffusion.networks import NoisedImage
from nnunetv2_diffusion.settings import Process, Sampling, Settings
from nnunetv2_diffusion.trainers.losses import MSEDiceBCELoss
from nnunetv2_diffusion.trainers.nnUNetTrainerDiffusion import nnUNetTrainerDiffusion


class nnUNetTrainerSpineSegDiff(nnUNetTrainerDiffusion):
    """Linear schedule of T = 1000 steps, MSE + Dice + BCE, AdamW at 1e-4, DDIM and the step-uncertainty ensemble.

    It departs from the paper in `mask_scale`: a mask is large and smooth, so an x_t of an unscaled one shows it at most
    timesteps, and training there is denoising, not seeing (Chen 2023); and it samples 2 steps, which so trained gain
    nothing from more (docs/findings/sampling.md). `nnUNetTrainerSpineSegDiffPaper` is the paper's own.

    Its length is the paper's budget of optimiser steps (Table 4): 2500 passes over the 324 slices that a training fold
    of T1w+T2w holds, at batch 4, are 2500 * 324 / 4 = 202,500 steps, or 810 of nnU-Net's epochs of 250.
    """

    settings = Settings(Process(mask_scale=0.1), Sampling(sampling_steps=2, ensemble_steps=2))
    epochs = 810

    def x_start(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mask that is noised, [B, K, H, W] in [-1, 1]: the true one, or, in the share `recycling` of the training
        steps, what the denoiser makes of pure noise: at prediction it never sees the true one."""
        true = super().x_start(image, target)
        network = self.diffusion_network
        if not self.network.training or torch.rand(()) >= network.settings.training.recycling:
            return true
        with torch.no_grad(), torch.autocast("cuda", enabled=self.device.type == "cuda"):
            timestep = torch.full((len(image),), len(self.alphas_cumprod) - 1, device=self.device)
            return to_x_start(network.nonlinearity(network(NoisedImage(image, torch.randn_like(true), timestep))))

    def _build_loss(self) -> torch.nn.Module:
        return MSEDiceBCELoss.planned(self, self.settings_of_training.dice_weight)
