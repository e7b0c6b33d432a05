"""Noise for sampling that depends on the seed, the sample's number and the tile's shape alone.

It is drawn on the CPU, one generator a sample, so a result does not depend on the device's generator, the batch, or
what was predicted before. While a GPU denoises, threads draw what the next step needs: every one of IISDM's 1000
steps takes noise of 5 samples, which one thread draws more slowly than a GPU denoises.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from nnunetv2_diffusion import processors

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
        self._threads: ThreadPoolExecutor | None = None
        self._ahead: list[Future] = []
        self._drawn = 0

    def draw(self) -> torch.Tensor:
        """The next noise of every sample, float32 [S, K, H, W]."""
        drawn = [noise.result() for noise in self._ahead] or [self._of(generator) for generator in self.generators]
        self._drawn += 1
        # A sampler that adds no noise draws once, at its start.
        if self.device.type != "cpu" and self._drawn > 1:
            self._draw_ahead()
        return torch.stack(drawn).to(self.device)

    def _draw_ahead(self) -> None:
        """Let a thread a sample draw the next noise: each from a generator of its own, so that it is the same noise."""
        if self._threads is None:
            workers = max(1, min(len(self.generators), processors.available_processors()))
            self._threads = ThreadPoolExecutor(workers, thread_name_prefix="noise")
        self._ahead = [self._threads.submit(self._of, generator) for generator in self.generators]

    def _of(self, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(self.shape, generator=generator)
