"""The timestep as features: sinusoids, a two-layer SiLU MLP, and a scale and shift a stage."""

from __future__ import annotations

import math

import torch
from torch import nn


def sinusoidal_embedding(timestep: torch.Tensor, dimension: int, max_period: float = 10000.0) -> torch.Tensor:
    """Sines and cosines of geometrically spaced frequencies (Ho et al. 2020); [B] -> [B, dimension]."""
    half = dimension // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=timestep.device) / half)
    angles = timestep.float()[:, None] * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimestepEmbedding(nn.Module):
    """Sinusoidal embedding and a two-layer SiLU MLP: [B] -> [B, dimension]."""

    def __init__(self, dimension: int = 128):
        super().__init__()
        self.dimension = dimension
        self.mlp = nn.Sequential(nn.Linear(dimension, dimension), nn.SiLU(), nn.Linear(dimension, dimension), nn.SiLU())

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        return self.mlp(sinusoidal_embedding(timestep, self.dimension))


class StageModulation(nn.Module):
    """One linear projection of the timestep embedding, applied to a stage's features as scale and shift.

    A shift alone would be lost: nnU-Net's next convolution is followed by instance normalisation, which removes any
    constant a channel (Dhariwal and Nichol 2021 scale and shift as well). Starts as the identity.
    """

    def __init__(self, embedding_dimension: int, channels: int):
        super().__init__()
        self.projection = nn.Linear(embedding_dimension, 2 * channels)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, features: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        scale, shift = self.projection(embedding)[..., None, None].chunk(2, dim=1)
        return features * (1 + scale) + shift
