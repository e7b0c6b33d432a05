"""Noise for sampling that depends on the seed, the sample's number and the tile's shape alone.

It is drawn on the CPU, one generator a sample, so a result does not depend on the device's generator, the batch, or
what was predicted before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

MAX_SAMPLES = 2**16


class SamplingNoise:
    """Standard normal noise for S samples.

    Args:
        seed: one seed for the whole prediction.
        samples: S.
        shape: [K, H, W] of one sample; every image of a batch gets the same noise.
        device: where the noise is used.
    """

    def __init__(self, seed: int, samples: int, shape: Sequence[int], device: torch.device):
        if samples > MAX_SAMPLES:
            raise ValueError(f"at most {MAX_SAMPLES} samples can be drawn, not {samples}")
        self.shape = tuple(shape)
        self.device = device
        self.generators = [torch.Generator().manual_seed(seed * MAX_SAMPLES + sample) for sample in range(samples)]

    def draw(self) -> torch.Tensor:
        """The next noise of every sample, float32 [S, K, H, W]."""
        noise = torch.stack([torch.randn(self.shape, generator=generator) for generator in self.generators])
        return noise.to(self.device)
