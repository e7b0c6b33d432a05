"""Noise for sampling that depends on the seed, the sample's number and the tile's shape alone.

It is drawn on the CPU, one generator a sample, so a result does not depend on the device's generator, the batch, or
what was predicted before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

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
        self.key = (seed, samples, tuple(shape), device)
        self.device = device
        self._generators: list[torch.Generator] | None = None

    def draw(self) -> torch.Tensor:
        """The next noise of every sample, float32 [S, K, H, W]; not to be changed in place."""
        if self._generators is None:
            noise, states = _first_draw(*self.key)
            self._generators = [torch.Generator() for _ in states]
            for generator, state in zip(self._generators, states, strict=True):
                generator.set_state(state)
            return noise
        return _draw(self._generators, self.key[2]).to(self.device)


@lru_cache(maxsize=1)
def _first_draw(
    seed: int, samples: int, shape: tuple[int, ...], device: torch.device
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The first noise, and the generators' states after it: the same for every slice of a volume."""
    generators = [torch.Generator().manual_seed(seed * MAX_SAMPLES + sample) for sample in range(samples)]
    noise = _draw(generators, shape).to(device)
    return noise, [generator.get_state() for generator in generators]


def _draw(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> torch.Tensor:
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])
