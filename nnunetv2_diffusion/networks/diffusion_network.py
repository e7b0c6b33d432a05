"""The module that nnU-Net sees: a noised image is one denoising step, an image alone the whole ensemble."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from nnunetv2_diffusion.diffusion import q_sample, to_x_start
from nnunetv2_diffusion.networks.denoiser import Denoiser
from nnunetv2_diffusion.sampling.ensembles import EnsembleMaps
from nnunetv2_diffusion.sampling.precision import autocast
from nnunetv2_diffusion.sampling.sampler import Sampler, alphas_cumprod, nonlinearity, pred_x_start
from nnunetv2_diffusion.settings import Process, Sampling, Settings

PROCESS = "process"


class NoisedImage(NamedTuple):
    """What a training step feeds the network: image [B, C, H, W], x_t [B, K, H, W] and timestep [B], in 0 ... T-1."""

    image: torch.Tensor
    x_t: torch.Tensor
    timestep: torch.Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> NoisedImage:
        """On another device, so that nnU-Net may treat it like the tensor it expects."""
        return NoisedImage(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))


class DiffusionNetwork(nn.Module):
    """A denoiser and its sampling behind nnU-Net's interface of a network.

    Args:
        denoiser: answers with what `settings.process.prediction` says. Of the three, v suits a U-Net better than ε: it
            need not pass x_t through instance normalisation, which loses amplitudes, and its error is not divided by
            sqrt(ᾱ_t), 0.006 at the noisiest step, on the way to x_0.
        settings: of process, sampling and training.
        regions: heads are sigmoids (nnU-Net's region-based labels) rather than a softmax over labels.

    Raises:
        ValueError: settings that this network cannot start from, see `check_start`.

    Attributes:
        settings: `process` and `sampling` are parts of it; another sampling may be set at any time.
        batch_size: samples the denoiser takes at a time; None for all on a GPU, as many as fill the cache on a CPU.
            Halved, with a warning, where memory runs out.
        precision: of the denoiser, see `precision.autocast`.
        network_evaluations, encoder_evaluations: slices that went through the denoiser and through the auxiliary
            encoder in predictions since the network was built.
        regions, mirror_axes: what nnU-Net tells training but not prediction, on the CPU, saved with the weights; so is
            the process, and the one that comes with weights is theirs, whatever a trainer's defaults are by now.
    """

    # Tensors in the state_dict, but no buffers: DDP would broadcast buffers in the forward pass, where a rank without a
    # case to predict never comes, and `.to` inside inference_mode would make them tensors that cannot be loaded into.
    _facts = ("regions", "mirror_axes")

    def __init__(self, denoiser: Denoiser, settings: Settings, regions: bool = False):
        super().__init__()
        self.check_start(settings)
        self.denoiser = denoiser
        self.settings = settings
        self.batch_size: int | None = None
        self.precision = "auto"
        self.network_evaluations = 0
        self.encoder_evaluations = 0
        self.regions = torch.tensor(regions)
        self.mirror_axes = torch.tensor([True, True])

    @property
    def process(self) -> Process:
        """What the weights are trained for."""
        return self.settings.process

    @property
    def sampling(self) -> Sampling:
        """How images are predicted.

        Raises, where it is set:
            ValueError: it does not fit the process or, see `check_start`, the network.
        """
        return self.settings.sampling

    @sampling.setter
    def sampling(self, sampling: Sampling) -> None:
        settings = replace(self.settings, sampling=sampling)
        self.check_start(settings)
        self.settings = settings

    @classmethod
    def check_start(cls, settings: Settings) -> None:
        """ValueError where sampling would start from pure noise at a timestep at which training saw a mask in it."""
        last, start = settings.process.timesteps - 1, settings.sampling.first_timestep(settings.process)
        if start < last:
            raise ValueError(
                f"start_timestep is {start}, but without a pre-segmentation sampling starts from pure noise, which "
                f"training has seen at timestep {last} alone; leave it out"
            )

    @property
    def heads(self) -> int:
        """K, channels of x_t and of the prediction."""
        return self.denoiser.decoder.seg_layers[-1].out_channels

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """ᾱ_t of the process, float64 [T]."""
        return alphas_cumprod(self.process)

    def nonlinearity(self, logits: torch.Tensor) -> torch.Tensor:
        """nnU-Net's own for the dataset: softmax over labels or a sigmoid a region; float32."""
        return nonlinearity(logits, bool(self.regions))

    def forward(self, x: torch.Tensor | NoisedImage) -> torch.Tensor:
        """One denoising step of a `NoisedImage`, or the whole ensemble of an image [B, C, H, W].

        Returns:
            [B, K, H, W]. For a step the denoiser's answer; in eval mode a predicted v or ε becomes x_0, so that nnU-Net
            can take its argmax. For an image the fused log-probabilities, whose softmax (regions: sigmoid) gives the
            ensemble's probabilities.

        Raises:
            RuntimeError: an image in training mode.
        """
        if isinstance(x, NoisedImage):
            return self._step(x)
        if self.training:
            raise RuntimeError("in training the network takes a NoisedImage; call eval() to predict an image")
        return self.predict(x).logits

    def _step(self, noised: NoisedImage) -> torch.Tensor:
        image, x_t, timestep = noised
        with autocast(self.precision, x_t.device):
            output = self.denoiser(self.condition(image), x_t, timestep)
        prediction = self.process.prediction
        if self.training or prediction == "x_start":
            return output
        alpha_cumprod = self.alphas_cumprod.to(x_t.device, torch.float32)[timestep][:, None, None, None]
        return pred_x_start(prediction, output.float(), x_t, alpha_cumprod, bool(self.regions))

    @torch.compiler.disable(recursive=False)
    def predict(self, image: torch.Tensor, disagreement: bool = False, samples: bool = False) -> EnsembleMaps:
        """Draw S samples of every image of [B, C, H, W] and fuse them, see `Sampler.predict`."""
        sampler = Sampler(
            self,
            self.process,
            self.sampling,
            regions=bool(self.regions),
            mirror_axes=self.mirror_axes.tolist(),
            batch_size=self.batch_size,
            precision=self.precision,
        )
        maps = sampler.predict(image, disagreement, samples)
        self.batch_size = sampler.batch_size
        return maps

    def condition(self, image: torch.Tensor) -> torch.Tensor:
        """The channels of nnU-Net's input that condition the denoiser: all of them."""
        return image

    def start(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """x_t at the first visited timestep, [B, K, H, W]: pure noise."""
        return noise

    # The counters are changed in frames that torch.compile leaves alone: it would compile anew at every value.
    @torch.compiler.disable(recursive=False)
    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The auxiliary encoder's features of [N, C, H, W], one tensor [N, ...] a stage."""
        features = self.denoiser.encode_image(self.condition(images))
        self.encoder_evaluations += len(images)
        return features

    @torch.compiler.disable(recursive=False)
    def denoise(
        self, images: torch.Tensor, x_t: torch.Tensor, timestep: torch.Tensor, features: list[torch.Tensor]
    ) -> torch.Tensor:
        """The denoiser's answer [N, K, H, W]."""
        output = self.denoiser(self.condition(images), x_t, timestep, features)
        self.network_evaluations += len(x_t)
        return output

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({prefix + name: getattr(self, name) for name in self._facts})
        destination[prefix + PROCESS] = _as_bytes(self.process)

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        keys = {prefix + name: name for name in self._facts}
        super()._load_from_state_dict(
            {key: value for key, value in state_dict.items() if key not in (*keys, prefix + PROCESS)},
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )
        for key, name in keys.items():
            if key in state_dict:
                setattr(self, name, state_dict[key].detach().clone().cpu())
            elif strict:
                missing_keys.append(key)
        self.settings = replace(self.settings, process=_process_of(state_dict.get(prefix + PROCESS), self.process))


def _as_bytes(process: Process) -> torch.Tensor:
    """The process as json, in a tensor, which is all that tools expect among weights."""
    return torch.tensor(list(json.dumps(process.as_dict()).encode()), dtype=torch.uint8)


def _process_of(saved: torch.Tensor | None, planned: Process) -> Process:
    """The process that weights were trained for; with none beside them that of the plans and an unscaled mask, since
    all weights were when the process was not yet saved.

    Raises:
        ValueError: what is saved is no process.
    """
    if saved is None:
        return replace(planned, mask_scale=1.0)
    try:
        return Process(**json.loads(bytes(saved.tolist())))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the diffusion process beside the weights cannot be read ({error}); train again") from error


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
        settings: Settings,
        image_channels: int,
        heads: list[list[int]],
        foreground_labels: list[int],
        regions: bool = False,
    ):
        super().__init__(denoiser, settings, regions)
        self.image_channels = image_channels
        self.head_labels = heads
        self.foreground_labels = foreground_labels

    @classmethod
    def check_start(cls, settings: Settings) -> None:
        """Any timestep of the process will do: the mask is noised as far as training noised it there."""

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

    def start(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The pre-segmentation noised to the first visited timestep."""
        alpha_cumprod = float(self.alphas_cumprod[self.sampling.first_timestep(self.process)])
        return q_sample(self.pre_segmentation(images), noise, alpha_cumprod)
