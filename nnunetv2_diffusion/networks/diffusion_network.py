"""The module that nnU-Net sees: one denoising step in training, the whole ensemble in `network(image)`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from nnunetv2_diffusion.diffusion import (
    Step,
    ddim,
    ddpm,
    noise_from_velocity,
    noise_schedule,
    q_sample,
    sampling_timesteps,
    to_probabilities,
    to_x_start,
    x_start_from_velocity,
)
from nnunetv2_diffusion.networks.denoiser import Denoiser
from nnunetv2_diffusion.sampling.chunks import default_batch_size, run_in_chunks
from nnunetv2_diffusion.sampling.early_stop import EarlyStop
from nnunetv2_diffusion.sampling.ensembles import EnsembleMaps, new_ensemble
from nnunetv2_diffusion.sampling.noise import SamplingNoise
from nnunetv2_diffusion.sampling.precision import autocast
from nnunetv2_diffusion.settings import DiffusionSettings

Result = TypeVar("Result")


class NoisedImage(NamedTuple):
    """What a training step feeds the network: image [B, C, H, W], x_t [B, K, H, W] and timestep [B]."""

    image: torch.Tensor
    x_t: torch.Tensor
    timestep: torch.Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> NoisedImage:
        """On another device, so that nnU-Net may treat it like the tensor it expects."""
        return NoisedImage(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


class DiffusionNetwork(nn.Module):
    """Denoiser, noise schedule and sampling behind nnU-Net's interface of a network.

    Args:
        denoiser: answers with x_0 logits. Where `settings.prediction` is "noise", with v, of which ε = sqrt(ᾱ_t) v +
            sqrt(1 - ᾱ_t) x_t: the U-Net, whose instance normalisation loses amplitudes, need not pass x_t through, and
            its error is not divided by sqrt(ᾱ_t), 0.006 at the noisiest step, on the way to x_0.
        settings: diffusion process, sampling and ensemble; may be replaced at any time (`network.settings = ...`),
            except for the schedule that the weights were trained with.
        regions: heads are sigmoids (nnU-Net's region-based labels) rather than a softmax over labels.

    Attributes:
        batch_size: samples the denoiser takes at a time; None for all on a GPU, as many as fill the cache on a CPU.
            Halved, with a warning, where memory runs out.
        precision: of the denoiser while it samples, see `precision.autocast`.
        network_evaluations, encoder_evaluations: slices that went through the denoiser and through the auxiliary
            encoder since the network was built.
    """

    def __init__(self, denoiser: Denoiser, settings: DiffusionSettings, regions: bool = False):
        super().__init__()
        self.denoiser = denoiser
        self.settings = settings
        self.batch_size: int | None = None
        self.precision = "auto"
        self.network_evaluations = 0
        self.encoder_evaluations = 0
        # Saved with the weights, since nnU-Net hands a prediction neither the labels nor the augmentation.
        self.register_buffer("regions", torch.tensor(regions))
        self.register_buffer("mirror_axes", torch.tensor([True, True]))

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """ᾱ_t of the settings' schedule, float64 [T]."""
        s = self.settings
        return noise_schedule(s.schedule, s.timesteps, s.schedule_timesteps, s.beta_start, s.beta_end)

    def nonlinearity(self, logits: torch.Tensor) -> torch.Tensor:
        """nnU-Net's own for the dataset: softmax over labels or a sigmoid a region; float32."""
        return torch.sigmoid(logits.float()) if self.regions else torch.softmax(logits.float(), dim=1)

    def forward(self, image: torch.Tensor | NoisedImage, x_t: torch.Tensor | None = None, timestep=None):
        """One denoising step, or the whole ensemble.

        Args:
            image: [B, C, H, W], alone; or a `NoisedImage`; or followed by
            x_t: [B, K, H, W] and
            timestep: [B], whole numbers 0 ... T-1.

        Returns:
            [B, K, H, W]: the denoiser's prediction for a step (a predicted ε becomes x_0 in eval mode, so that nnU-Net
            can take its argmax); for an image alone the fused log-probabilities, whose
            softmax (regions: sigmoid) gives the ensemble's probabilities.

        Raises:
            RuntimeError: an image alone in training mode.
        """
        if isinstance(image, NoisedImage):
            image, x_t, timestep = image
        if x_t is not None:
            with autocast(self.precision, x_t.device):
                output = self.denoiser(self.condition(image), x_t, timestep)
            if self.settings.prediction == "x_start":
                return output
            alpha_cumprod = self.alphas_cumprod.to(x_t.device, torch.float32)[timestep][:, None, None, None]
            if self.training:
                return noise_from_velocity(x_t, output.float(), alpha_cumprod)
            return self.pred_x_start(output.float(), x_t, alpha_cumprod)
        if self.training:
            raise RuntimeError("in training the network takes (image, x_t, timestep); call eval() to predict an image")
        return self.predict(image).logits

    def condition(self, image: torch.Tensor) -> torch.Tensor:
        """The channels of nnU-Net's input that condition the denoiser: all of them."""
        return image

    def start(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x_t at the first visited timestep, [B, K, H, W]: pure noise."""
        return noise

    @torch.no_grad()
    @torch.compiler.disable(recursive=False)
    def predict(self, image: torch.Tensor, disagreement: bool = False) -> EnsembleMaps:
        """Draw S samples of every image of [B, C, H, W] and fuse them.

        Each sample sees the image in a mirroring of its own, undone before samples are averaged; the auxiliary encoder
        runs once for each mirrored view, whatever S and the number of steps.
        """
        views = self._views()
        ensemble = new_ensemble(self.settings, bool(self.regions), disagreement)
        first_fused = self.settings.sampling_steps - self.settings.ensemble_steps
        with autocast(self.precision, image.device):
            for number, probabilities in enumerate(self._probabilities(image, views)):
                if number >= first_fused:
                    ensemble.update(probabilities)
        return ensemble.maps()

    def _probabilities(self, image: torch.Tensor, views: list[tuple[int, ...]]) -> Iterator[torch.Tensor]:
        """[S, B, K, H, W] of each of the sampling steps; the last one again and again where sampling stops early."""
        tolerance, steps = self.settings.early_stop, self.settings.sampling_steps
        early_stop = EarlyStop(tolerance, bool(self.regions))
        for number, step in enumerate(self._sample(image, views), start=1):
            probabilities = _unmirrored_probabilities(step.pred_x_start, views)
            if tolerance > 0:
                probabilities, settled = early_stop(probabilities)
                if settled:
                    yield from itertools.repeat(probabilities, steps - number + 1)
                    return
            yield probabilities

    def _views(self) -> list[tuple[int, ...]]:
        """The axes that each sample is mirrored along, cycling through the allowed combinations."""
        axes = [axis - 2 for axis, allowed in enumerate(self.mirror_axes.tolist()) if allowed]
        combinations = [c for size in range(len(axes) + 1) for c in itertools.combinations(axes, size)]
        if not self.settings.mirror_samples:
            combinations = [()]
        return [combinations[sample % len(combinations)] for sample in range(self.settings.samples)]

    def _sample(self, image: torch.Tensor, views: list[tuple[int, ...]]) -> Iterator[Step]:
        """All samples of all images side by side: steps of tensors [S * B, K, H, W], sample by sample."""
        settings, batch = self.settings, image.shape[0]
        distinct = list(dict.fromkeys(views))
        mirrored = torch.cat([torch.flip(image, view) for view in distinct])
        positions = [distinct.index(view) * batch + item for view in views for item in range(batch)]
        noise = SamplingNoise(settings.seed, settings.samples, (self._heads, *image.shape[2:]), image.device)

        def draw_noise() -> torch.Tensor:
            return noise.draw() if batch == 1 else noise.draw().repeat_interleave(batch, dim=0)

        images = mirrored[positions]
        denoise = self._denoise_in_chunks(images, self._encode(mirrored), positions)
        x = self.start(images, draw_noise())
        timesteps = sampling_timesteps(settings.first_timestep, settings.sampling_steps)
        if settings.sampler == "ddpm":
            return ddpm(denoise, x, timesteps, self.alphas_cumprod, draw_noise)
        return ddim(denoise, x, timesteps, self.alphas_cumprod, draw_noise, settings.eta)

    @property
    def _heads(self) -> int:
        return self.denoiser.decoder.seg_layers[-1].out_channels

    def _encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The auxiliary encoder's features of [N, C, H, W], one tensor [N, ...] a stage."""
        condition = self.condition(images)
        self.encoder_evaluations += len(images)
        found = self._in_chunks(lambda chunk: self.denoiser.encode_image(condition[chunk]), images)
        return [torch.cat(stage) for stage in zip(*found, strict=True)]

    def _denoise_in_chunks(
        self, images: torch.Tensor, features: list[torch.Tensor], positions: list[int]
    ) -> Callable[[torch.Tensor, int], torch.Tensor]:
        """`denoise(x_t, timestep)` for the samplers; sample n sees images[n], whose features are at positions[n]."""
        condition = self.condition(images)
        alphas_cumprod = self.alphas_cumprod
        rows = torch.tensor(positions, device=images.device)

        def features_of(chunk: slice) -> list[torch.Tensor]:
            first, count = positions[chunk.start], chunk.stop - chunk.start
            if positions[chunk] == list(range(first, first + count)):  # no copy is needed
                return [stage[first : first + count] for stage in features]
            return [stage[rows[chunk]] for stage in features]

        def denoise(x_t: torch.Tensor, timestep: int) -> torch.Tensor:
            x_start = torch.empty_like(x_t)

            def run(chunk: slice) -> None:
                t = torch.full((chunk.stop - chunk.start,), timestep, device=x_t.device)
                output = self.denoiser(condition[chunk], x_t[chunk], t, features_of(chunk)).float()
                x_start[chunk] = self.pred_x_start(output, x_t[chunk], float(alphas_cumprod[timestep]))

            self._in_chunks(run, images)
            self.network_evaluations += len(x_t)
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

    def pred_x_start(
        self, output: torch.Tensor, x_t: torch.Tensor, alpha_cumprod: torch.Tensor | float
    ) -> torch.Tensor:
        """The denoiser's output as x_0 in [-1, 1]."""
        if self.settings.prediction == "noise":
            return x_start_from_velocity(x_t, output, alpha_cumprod).clamp(-1, 1)
        return to_x_start(self.nonlinearity(output))


class PreSegmentationNetwork(DiffusionNetwork):
    """Starts from the previous stage's mask, partly noised (paper, section 3.1), instead of from pure noise.

    nnU-Net appends the previous stage's mask to the image as one channel a foreground label.

    Args:
        image_channels: channels of the image itself.
        heads: the labels of each head, e.g. [[0], [1], [2]] for labels or [[1, 2], [2]] for regions.
        foreground_labels: the label of each appended channel.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        settings: DiffusionSettings,
        image_channels: int,
        heads: list[list[int]],
        foreground_labels: list[int],
        regions: bool = False,
    ):
        super().__init__(denoiser, settings, regions)
        self.image_channels = image_channels
        self.head_labels = heads
        self.foreground_labels = foreground_labels

    def condition(self, image: torch.Tensor) -> torch.Tensor:
        """The image without the previous stage's mask."""
        return image[:, : self.image_channels]

    def pre_segmentation(self, image: torch.Tensor) -> torch.Tensor:
        """The previous stage's mask of nnU-Net's input [B, C + labels, H, W] as x_0, [B, K, H, W] in [-1, 1]."""
        one_hot = image[:, self.image_channels :]
        channel = {label: one_hot[:, i] for i, label in enumerate(self.foreground_labels)}
        # nnU-Net's cascade augmentation may let labels overlap.
        channel[0] = 1 - one_hot.sum(dim=1).clamp(max=1)
        heads = [sum(channel[label] for label in labels).clamp(max=1) for labels in self.head_labels]
        return to_x_start(torch.stack(heads, dim=1))

    def start(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The pre-segmentation noised to the first visited timestep."""
        alpha_cumprod = float(self.alphas_cumprod[self.settings.first_timestep])
        return q_sample(self.pre_segmentation(image), noise, alpha_cumprod)


def _unmirrored_probabilities(samples: torch.Tensor, views: list[tuple[int, ...]]) -> torch.Tensor:
    """x_0 [S * B, K, H, W], sample s mirrored by `views[s]`, -> probabilities [S, B, K, H, W] as the image lies."""
    per_sample = samples.unflatten(0, (len(views), -1))
    return torch.stack([torch.flip(to_probabilities(x), view) for x, view in zip(per_sample, views, strict=True)])
