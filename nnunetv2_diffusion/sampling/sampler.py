"""Masks from a denoiser: S samples of every image side by side, and the ensemble that fuses them.

It knows nothing of networks: a `Model` encodes images and answers for x_t; what it answers with, the process says.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import torch

from nnunetv2_diffusion.diffusion import (
    Step,
    ddim,
    ddpm,
    log_snr_timesteps,
    noise_schedule,
    sampling_timesteps,
    to_x_start,
    x_start_from_noise,
    x_start_from_velocity,
)
from nnunetv2_diffusion.sampling.chunks import default_batch_size, run_in_chunks
from nnunetv2_diffusion.sampling.early_stop import EarlyStop
from nnunetv2_diffusion.sampling.ensembles import EnsembleMaps, new_ensemble
from nnunetv2_diffusion.sampling.noise import SamplingNoise
from nnunetv2_diffusion.sampling.precision import autocast
from nnunetv2_diffusion.sampling.views import ViewedImages, unmirrored_probabilities, views_of_samples
from nnunetv2_diffusion.settings import Process, Sampling

Result = TypeVar("Result")


class Model(Protocol):
    """What a sampler asks; tensors hold a row for every image or sample.

    Attributes:
        heads: K, channels of x_t.
    """

    heads: int

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """What is found in images [N, C, H, W] alone, once for all steps and samples: tensors [N, ...], or none."""

    def denoise(
        self, images: torch.Tensor, x_t: torch.Tensor, timestep: torch.Tensor, features: list[torch.Tensor]
    ) -> torch.Tensor:
        """The answer [N, K, H, W] for x_t [N, K, H, W] at timestep [N]."""

    def start(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x_t at the first visited timestep, made of standard normal noise; [N, K, H, W]."""


def nonlinearity(logits: torch.Tensor, regions: bool) -> torch.Tensor:
    """nnU-Net's own for the dataset, over [B, K, H, W]: softmax over labels or a sigmoid a region; float32."""
    return torch.sigmoid(logits.float()) if regions else torch.softmax(logits.float(), dim=1)


def alphas_cumprod(process: Process) -> torch.Tensor:
    """ᾱ_t of the process, float64 [T]."""
    return noise_schedule(
        process.schedule,
        process.timesteps,
        process.schedule_timesteps,
        process.beta_start,
        process.beta_end,
        process.mask_scale,
    )


def visited_timesteps(process: Process, sampling: Sampling) -> list[int]:
    """The timesteps that sampling visits, decreasing."""
    first, steps = sampling.first_timestep(process), sampling.sampling_steps
    if sampling.timestep_spacing == "log_snr":
        return log_snr_timesteps(first, steps, alphas_cumprod(process))
    return sampling_timesteps(first, steps)


def pred_x_start(
    prediction: str, output: torch.Tensor, x_t: torch.Tensor, alpha_cumprod: torch.Tensor | float, regions: bool
) -> torch.Tensor:
    """A denoiser's answer [B, K, H, W] as x_0 in [-1, 1].

    Args:
        prediction: what it answered with, see `Process`: logits of the mask, v or ε.
        output: the answer, float32.
        x_t: what it saw.
        alpha_cumprod: ᾱ_t, a number or [B, 1, 1, 1].
        regions: heads are sigmoids rather than a softmax over labels.
    """
    if prediction == "velocity":
        return x_start_from_velocity(x_t, output, alpha_cumprod).clamp(-1, 1)
    if prediction == "noise":
        return x_start_from_noise(x_t, output, alpha_cumprod).clamp(-1, 1)
    return to_x_start(nonlinearity(output, regions))


class Sampler:
    """Draws and fuses the samples of a trained model.

    Args:
        model: encodes images and denoises.
        process: that the model was trained for.
        sampling: how to sample.
        regions: heads are sigmoids (nnU-Net's region-based labels) rather than a softmax over labels.
        mirror_axes: along which of (rows, columns) training mirrored the images.
        batch_size: samples that the model takes at a time; None for all on a GPU, a cache's fill on a CPU.
        precision: of the model, see `precision.autocast`.

    Attributes:
        batch_size: as given; halved, with a warning, where memory runs out.
    """

    def __init__(
        self,
        model: Model,
        process: Process,
        sampling: Sampling,
        *,
        regions: bool = False,
        mirror_axes: Sequence[bool] = (True, True),
        batch_size: int | None = None,
        precision: str = "auto",
    ):
        self.model = model
        self.process = process
        self.sampling = sampling
        self.regions = regions
        self.batch_size = batch_size
        self.precision = precision
        self.views = views_of_samples(sampling.samples, mirror_axes if sampling.mirror_samples else ())

    @torch.no_grad()
    @torch.compiler.disable(recursive=False)
    def predict(self, images: torch.Tensor, disagreement: bool = False, samples: bool = False) -> EnsembleMaps:
        """Draw S samples of every image of [B, C, H, W] and fuse them; with `samples` they are returned, too.

        Each sample sees the image in a mirroring of its own, undone before samples are averaged; the image is encoded
        once for each mirrored view, whatever S and the number of steps.
        """
        ensemble = new_ensemble(self.sampling, self.regions, disagreement)
        first_fused = self.sampling.sampling_steps - self.sampling.ensemble_steps
        with autocast(self.precision, images.device):
            for number, probabilities in enumerate(self._probabilities(images)):
                if number >= first_fused:
                    ensemble.update(probabilities)
        return replace(ensemble.maps(), samples=probabilities if samples else None)

    def _probabilities(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """[S, B, K, H, W] of each of the sampling steps; the last one again and again where sampling stops early."""
        tolerance, steps = self.sampling.early_stop, self.sampling.sampling_steps
        early_stop = EarlyStop(tolerance, self.regions)
        for number, step in enumerate(self._sample(images), start=1):
            probabilities = unmirrored_probabilities(step.pred_x_start, self.views)
            if tolerance > 0:
                probabilities, settled = early_stop(probabilities)
                if settled:
                    yield from itertools.repeat(probabilities, steps - number + 1)
                    return
            yield probabilities

    def _sample(self, images: torch.Tensor) -> Iterator[Step]:
        """All samples of all images side by side: steps of tensors [S * B, K, H, W], sample by sample."""
        sampling, batch = self.sampling, len(images)
        viewed = ViewedImages(images, self.views)
        noise = SamplingNoise(sampling.seed, sampling.samples, (self.model.heads, *images.shape[2:]), images.device)

        def draw_noise() -> torch.Tensor:
            return noise.draw() if batch == 1 else noise.draw().repeat_interleave(batch, dim=0)

        alphas = alphas_cumprod(self.process)
        denoise = self._denoise_in_chunks(viewed, alphas)
        x = self.model.start(viewed.seen, draw_noise())
        timesteps = visited_timesteps(self.process, sampling)
        if sampling.sampler == "ddpm":
            return ddpm(denoise, x, timesteps, alphas, draw_noise)
        return ddim(denoise, x, timesteps, alphas, draw_noise, sampling.eta)

    def _denoise_in_chunks(
        self, viewed: ViewedImages, alphas: torch.Tensor
    ) -> Callable[[torch.Tensor, int], torch.Tensor]:
        """`denoise(x_t, timestep)` for the samplers, x_0 of x_t [S * B, K, H, W]."""
        encoded = self._in_chunks(lambda chunk: self.model.encode(viewed.distinct[chunk]), viewed.distinct)
        features = [torch.cat(stage) for stage in zip(*encoded, strict=True)]

        def denoise(x_t: torch.Tensor, timestep: int) -> torch.Tensor:
            x_start = torch.empty_like(x_t)

            def run(chunk: slice) -> None:
                t = torch.full((chunk.stop - chunk.start,), timestep, device=x_t.device)
                found = viewed.of_samples(features, chunk)
                output = self.model.denoise(viewed.seen[chunk], x_t[chunk], t, found).float()
                alpha = float(alphas[timestep])
                x_start[chunk] = pred_x_start(self.process.prediction, output, x_t[chunk], alpha, self.regions)

            self._in_chunks(run, viewed.seen)
            return x_start

        return denoise

    def _in_chunks(self, run: Callable[[slice], Result], images: torch.Tensor) -> list[Result]:
        """`run` of chunks of the images, at most `batch_size` at a time."""
        count = len(images)
        size = min(self.batch_size or default_batch_size(images.device, *images.shape[2:], count), count)
        results, fitted = run_in_chunks(run, count, size)
        if fitted < size:
            self.batch_size = fitted
        return results
