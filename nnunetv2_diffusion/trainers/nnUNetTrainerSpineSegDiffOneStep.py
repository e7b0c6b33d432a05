"""The second control: SpineSegDiff's denoiser that has only ever seen pure noise and makes its mask in one step."""

from __future__ import annotations

import torch

from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.settings import Sampling, Settings
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff


class OneStepNetwork(DiffusionNetwork):
    """Takes no second step."""

    @classmethod
    def check_start(cls, settings: Settings) -> None:
        """ValueError where sampling would come to timesteps that training has not seen."""
        super().check_start(settings)
        if settings.sampling.sampling_steps != 1:
            raise ValueError(
                f"sampling_steps is {settings.sampling.sampling_steps}, but this model was trained at the noisiest "
                "timestep alone; it takes 1"
            )


class nnUNetTrainerSpineSegDiffOneStep(nnUNetTrainerSpineSegDiff):
    """SpineSegDiff trained at t = T - 1 alone: the same network and loss, and nothing of the mask ever in x_t."""

    settings = Settings(sampling=Sampling(sampling_steps=1, ensemble_steps=1))
    network_class = OneStepNetwork

    def draw_timesteps(self, count: int) -> torch.Tensor:
        """T - 1, [count]."""
        return torch.full((count,), len(self.alphas_cumprod) - 1, device=self.device)
