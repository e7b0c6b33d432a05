"""Does the denoiser use x_t? How far samples differ, and what changes when x_t is replaced by noise.

A denoiser whose image encoder answers alone gives the same mask for every sample and for any x_t; its ensemble and its
uncertainty then say nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch

from nnunetv2_diffusion.diffusion import q_sample
from nnunetv2_diffusion.networks import DiffusionNetwork, NoisedImage

THIRDS = ("early", "middle", "late")
TIMESTEPS_A_THIRD = 4


@torch.no_grad()
def sample_variance(network: DiffusionNetwork, image: torch.Tensor, mirrored: bool) -> float:
    """Variance over the S samples of the foreground's probability at the final step, mean over pixels.

    Args:
        network: its settings say how it samples; S of them are drawn, one after another.
        image: nnU-Net's input [B, C, H, W].
        mirrored: give each sample its own mirroring, as the ensemble does where its settings ask for it; without, the
            noise alone tells samples apart.
    """
    sampling = network.sampling
    views = _views(network) if mirrored else [()]
    probabilities = []
    try:
        for sample in range(sampling.samples):
            network.sampling = replace(
                sampling,
                samples=1,
                seed=(sampling.seed + sample) % 2**31,
                mirror_samples=False,
                ensemble="samples",
                ensemble_steps=1,
            )
            view = views[sample % len(views)]
            logits = network.predict(torch.flip(image, view)).logits
            probabilities.append(torch.flip(foreground(network, logits), view))
    finally:
        network.sampling = sampling
    return float(torch.stack(probabilities).var(dim=0, correction=0).mean())


def _views(network: DiffusionNetwork) -> list[tuple[int, ...]]:
    """The mirrorings that the ensemble cycles through."""
    axes = [axis - 2 for axis, allowed in enumerate(network.mirror_axes.tolist()) if allowed]
    return [view for size in range(len(axes) + 1) for view in itertools.combinations(axes, size)]


def foreground(network: DiffusionNetwork, logits: torch.Tensor) -> torch.Tensor:
    """Probability [B, H, W] of any structure: all but the background, or the likeliest of the regions."""
    probabilities = network.nonlinearity(logits)
    return probabilities.amax(dim=1) if network.regions else 1 - probabilities[:, 0]


@torch.no_grad()
def changed_by_noise(
    network: DiffusionNetwork, image: torch.Tensor, x_start: torch.Tensor, generator: torch.Generator
) -> dict[str, dict[str, float]]:
    """The share of pixels whose label changes when the denoiser gets noise in place of x_t, per third of the timesteps.

    x_t is `x_start` noised to t; what replaces it is normal noise of the mean and standard deviation that each of x_t's
    heads has, so that it differs in content alone. Four timesteps a third, evenly spaced.

    Args:
        network: in eval mode; one that predicts v or ε answers with the x_0 that this implies.
        image: nnU-Net's input [B, C, H, W].
        x_start: the mask that training noises, [B, K, H, W] in [-1, 1].
        generator: of the noise, on the CPU.

    Returns:
        "early" (the noisiest third, first in sampling), "middle" and "late" -> "pixels", the share among all pixels,
        and "foreground", the share among those that either answer calls foreground (NaN without any).
    """
    alphas_cumprod = network.alphas_cumprod
    visited = range(network.sampling.first_timestep(network.process), -1, -1)
    shares = {}
    for name, third in zip(THIRDS, np.array_split(visited, len(THIRDS)), strict=True):
        changes = [
            _change(network, image, x_start, int(timestep), float(alphas_cumprod[timestep]), generator)
            for timestep in _evenly(third)
        ]
        changed, either, pixels = np.sum(changes, axis=0) if changes else (0, 0, 0)
        shares[name] = {
            "pixels": changed / pixels if pixels else float("nan"),
            "foreground": changed / either if either else float("nan"),
        }
    return shares


def _evenly(timesteps: np.ndarray) -> np.ndarray:
    """The middles of up to four equal parts."""
    return np.array([part[len(part) // 2] for part in np.array_split(timesteps, TIMESTEPS_A_THIRD) if len(part)], int)


def _change(
    network: DiffusionNetwork,
    image: torch.Tensor,
    x_start: torch.Tensor,
    timestep: int,
    alpha_cumprod: float,
    generator: torch.Generator,
) -> tuple[int, int, int]:
    """(pixels that change, pixels that either answer calls foreground, all pixels) at one timestep."""

    def draw() -> torch.Tensor:
        return torch.randn(x_start.shape, generator=generator).to(x_start.device)

    t = torch.full((len(image),), timestep, device=image.device)
    x_t = q_sample(x_start, draw(), alpha_cumprod)
    noise = x_t.mean(dim=(2, 3), keepdim=True) + x_t.std(dim=(2, 3), keepdim=True) * draw()
    proper, blind = (_labels(network, network(NoisedImage(image, x, t))) for x in (x_t, noise))
    changed = (proper != blind).any(dim=1)
    either = (proper != 0).any(dim=1) | (blind != 0).any(dim=1)
    return int(changed.sum()), int(either.sum()), changed.numel()


def _labels(network: DiffusionNetwork, output: torch.Tensor) -> torch.Tensor:
    """What a step decides: the likeliest head's number [B, 1, H, W], or for regions each head's yes or no."""
    return output > 0 if network.regions else output.argmax(dim=1, keepdim=True)
