"""The ways of predicting that are timed, each as a function of nnU-Net's preprocessed data.

The published way of sampling is written here; everything else is nnU-Net's predictor and ours, as a user runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

from nnunetv2_diffusion.diffusion import ddim, sampling_timesteps
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.nnunet_names import folds_with
from nnunetv2_diffusion.sampling.ensembles import EnsembleMaps, StepUncertaintyEnsemble, probabilities_to_logits
from nnunetv2_diffusion.sampling.noise import SamplingNoise
from nnunetv2_diffusion.sampling.sampler import pred_x_start
from speed.planned import quietly

NNUNET, PUBLISHED, OURS = "nnU-Net, 4 mirrorings", "published way", "ours"
PRESEG, PRESEG_WITH_BASELINE = "pre-segmentation, refinement alone", "pre-segmentation, with nnU-Net before it"
# The models that each needs; the first is the one that answers.
FOLDERS = {
    NNUNET: ("baseline",),
    PUBLISHED: ("model",),
    OURS: ("model",),
    PRESEG: ("preseg", "baseline"),
    PRESEG_WITH_BASELINE: ("preseg", "baseline"),
}


@dataclass(frozen=True)
class Method:
    """One row: a way of predicting with S samples and a number of steps; None keeps those of `preset`."""

    kind: str
    samples: int | None = None
    steps: int | None = None
    precision: str = "auto"
    preset: str = "default"

    @property
    def name(self) -> str:
        """As the tables have it."""
        own = f"{self.kind}, {self.preset}" if self.kind == OURS and self.samples is None else self.kind
        return own if self.precision == "auto" else f"{own}, {self.precision}"

    @property
    def settings(self) -> dict[str, int | str]:
        """Sampling settings in place of the model's."""
        named = {"preset": self.preset, "samples": self.samples, "sampling_steps": self.steps}
        return {name: value for name, value in named.items() if value is not None}


class LoadedMethod:
    """A method with its models loaded.

    Args:
        method: which.
        folders: of trained (or untrained) models, "baseline", "model" and "preseg".
        device: where to run.
    """

    def __init__(self, method: Method, folders: dict[str, Path], device: torch.device):
        self.method = method
        folder = folders[FOLDERS[method.kind][0]]
        self.predictor = _load(folder, device, None if method.kind == NNUNET else method)
        self.network: DiffusionNetwork | None = getattr(self.predictor, "diffusion_network", None)
        self.baseline = None
        if method.kind == PUBLISHED:
            self.network.predict = partial(predict_published_way, self.network)
        if method.kind in (PRESEG, PRESEG_WITH_BASELINE):
            self.baseline = _load(folders["baseline"], device, None)
        self._plain_evaluations = 0
        plain = self.predictor if self.baseline is None else self.baseline
        if self.network is None or method.kind == PRESEG_WITH_BASELINE:
            plain.network.register_forward_hook(self._count)
        self._mask: tuple[torch.Tensor, torch.Tensor] | None = None

    def prepare(self, data: torch.Tensor) -> None:
        """What is not to be timed: for the refinement alone, the baseline's mask."""
        if self.method.kind == PRESEG:
            self._mask = (data, self.with_mask(data))

    def __call__(self, data: torch.Tensor) -> torch.Tensor:
        """nnU-Net's logits [K, slices, H, W] of preprocessed data [C, slices, H, W]."""
        if self.method.kind == PRESEG:
            if self._mask is None or self._mask[0] is not data:
                self.prepare(data)
            data = self._mask[1]
        elif self.method.kind == PRESEG_WITH_BASELINE:
            data = self.with_mask(data)
        return _window(self.predictor, data)

    def warm_up(self, data: torch.Tensor) -> None:
        """One slice with one sample and one step."""
        if self.network is None:
            self(data[:, :1])
            return
        sampling = self.network.sampling
        self.network.sampling = sampling.updated({"samples": 1, "sampling_steps": 1}, self.network.process)
        self(data[:, :1])
        self.network.sampling = sampling

    def evaluations(self) -> tuple[int, int]:
        """Network and image encoder evaluations so far: slices that went through."""
        counted = self._plain_evaluations
        if self.network is None:
            return counted, 0
        return counted + self.network.network_evaluations, self.network.encoder_evaluations

    def _count(self, module: torch.nn.Module, arguments: tuple[torch.Tensor], output: object) -> None:
        self._plain_evaluations += len(arguments[0])

    def with_mask(self, data: torch.Tensor) -> torch.Tensor:
        """The data and the baseline's mask as one channel a foreground label, as nnU-Net's cascade appends it."""
        labels = self.baseline.label_manager
        mask = labels.convert_logits_to_segmentation(_window(self.baseline, data).float().cpu())
        # Of a tensor nnU-Net takes the labels for indices; of an array it does not.
        channels = convert_labelmap_to_one_hot(np.asarray(mask), labels.foreground_labels)
        return torch.cat([data, torch.as_tensor(channels).to(data.dtype)])


def _load(folder: Path, device: torch.device, method: Method | None) -> nnUNetPredictor:
    """Our predictor for a method of ours; without one nnU-Net's own, for its own model."""
    folds = folds_with(folder)[:1]
    with quietly():
        options = {"allow_tqdm": False, "perform_everything_on_device": device.type == "cuda"}
        if method is not None:
            runtime = Runtime(str(device), precision=method.precision)
            predictor = DiffusionPredictor(method.settings, runtime=runtime, **options)
        else:
            predictor = nnUNetPredictor(device=device, **options)
        predictor.initialize_from_trained_model_folder(str(folder), folds)
    return predictor


def _window(predictor: nnUNetPredictor, data: torch.Tensor) -> torch.Tensor:
    """Logits [K, z, y, x] by nnU-Net's sliding window."""
    if isinstance(predictor, DiffusionPredictor):
        return predictor.predict(data)[0]
    return predictor.predict_sliding_window_return_logits(data)


@torch.no_grad()
def predict_published_way(
    network: DiffusionNetwork, image: torch.Tensor, disagreement: bool = False, samples: bool = False
) -> EnsembleMaps:
    """One sample after another in batches of one and in float32; every step of every sample is kept to the end.

    The image encoder's features are computed once. Samples are not mirrored.

    Args:
        network: its settings say how it samples.
        image: [1, C, H, W].
        disagreement: not computed.
    """
    sampling, shape = network.sampling, (network.heads, *image.shape[2:])
    timesteps = sampling_timesteps(sampling.first_timestep(network.process), sampling.sampling_steps)
    noise = SamplingNoise(sampling.seed, sampling.samples, shape, image.device).draw()
    with torch.autocast(image.device.type, enabled=False):
        features = network.denoiser.encode_image(image)
        network.encoder_evaluations += 1
        samples = [list(_steps(network, image, features, x[None], timesteps)) for x in noise]
    probabilities = [(torch.stack([s[i].pred_x_start for s in samples]) + 1) / 2 for i in range(len(timesteps))]
    ensemble = StepUncertaintyEnsemble(sampling.ensemble_steps, bool(network.regions))
    for step in probabilities[-sampling.ensemble_steps :]:
        ensemble.update(step)
    logits = probabilities_to_logits(ensemble.fused_probabilities(), bool(network.regions))
    return EnsembleMaps(logits, ensemble.uncertainty())


def _steps(network: DiffusionNetwork, image: torch.Tensor, features: list, x: torch.Tensor, timesteps: list[int]):
    alphas_cumprod = network.alphas_cumprod

    def denoise(x_t: torch.Tensor, timestep: int) -> torch.Tensor:
        prediction = network.denoiser(image, x_t, torch.tensor([timestep], device=x_t.device), features)
        network.network_evaluations += 1
        alpha = float(alphas_cumprod[timestep])
        return pred_x_start(network.process.prediction, prediction, x_t, alpha, bool(network.regions))

    draw: Callable[[], torch.Tensor] = partial(torch.randn_like, x)
    return ddim(denoise, x, timesteps, alphas_cumprod, draw, network.sampling.eta)
