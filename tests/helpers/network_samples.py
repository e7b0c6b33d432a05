"""Small plans and networks for the network tests, and what the ensemble must compute, written out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_diffusion.networks import Denoiser, DiffusionNetwork
from nnunetv2_diffusion.settings import Process, Sampling, Settings

ARCHITECTURES = ("PlainConvUNet", "ResidualEncoderUNet")
VIEWS = ((), (-2,), (-1,), (-2, -1))
SETTINGS = Settings(sampling=Sampling(sampling_steps=4, ensemble_steps=3, samples=5, seed=3))


def sampled(process: Process = SETTINGS.process, **changes) -> Settings:
    """SETTINGS with another process, sampled otherwise."""
    return Settings(process, replace(SETTINGS.sampling, **changes))


def configuration(name: str = "PlainConvUNet", dimensions: int = 2) -> ConfigurationManager:
    """A plan's configuration of three narrow stages."""
    residual = name == "ResidualEncoderUNet"
    arguments = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 16],
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [[3] * dimensions] * 3,
        "strides": [[1] * dimensions, [2] * dimensions, [2] * dimensions],
        "n_blocks_per_stage" if residual else "n_conv_per_stage": [1, 2, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    architecture = {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    return ConfigurationManager({"architecture": architecture, "patch_size": [16] * dimensions})


def network(
    settings: Settings = SETTINGS,
    channels: int = 1,
    heads: int = 3,
    name: str = "PlainConvUNet",
    regions=False,
) -> DiffusionNetwork:
    """A network in eval mode, its modulations away from their identity, its predictions away from even odds."""
    torch.manual_seed(0)
    denoiser = Denoiser(configuration(name), channels, heads)
    for modulation in [*denoiser.encoder_modulations, *denoiser.decoder_modulations]:
        nn.init.normal_(modulation.projection.weight, std=0.3)
    with torch.no_grad():
        denoiser.decoder.seg_layers[-1].weight.mul_(3)
    net = DiffusionNetwork(denoiser, settings, regions).eval()
    net.precision = "float32"
    return net


def images(count: int = 1, channels: int = 1, size: int = 16) -> torch.Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def nonlinearity(logits: np.ndarray, regions: bool) -> np.ndarray:
    """Softmax over axis 0 (regions: sigmoid) in float64."""
    if regions:
        return 1 / (1 + np.exp(-logits))
    exponentials = np.exp(logits - logits.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


@torch.no_grad()
def one_sample(net: DiffusionNetwork, image: torch.Tensor, sample: int, view: tuple[int, ...]) -> list[np.ndarray]:
    """DDIM without stochasticity (Song et al. 2021, equation 12), one sample of [C, H, W], in float64.

    Returns the probabilities [K, H, W] of each step, mirrored back.
    """
    sampling, heads = net.sampling, net.denoiser.decoder.seg_layers[-1].out_channels
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    steps = np.round(np.linspace(999, 0, sampling.sampling_steps)).astype(int)
    generator = torch.Generator().manual_seed(sampling.seed * 2**16 + sample)
    x = torch.randn(heads, *image.shape[1:], generator=generator).numpy().astype(float)
    seen = torch.flip(image, view)[None]
    probabilities = []
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        logits = net.denoiser(seen, torch.from_numpy(x)[None].float(), torch.tensor([step]))[0]
        p = nonlinearity(logits.double().numpy(), bool(net.regions))
        here, after = alphas[step], 1.0 if following is None else alphas[following]
        x_start = 2 * p - 1
        noise = (x - np.sqrt(here) * x_start) / np.sqrt(1 - here)
        x = np.sqrt(after) * x_start + np.sqrt(1 - after) * noise
        probabilities.append(np.flip(p, view))
    return probabilities


def by_hand(net: DiffusionNetwork, image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Fused probabilities [K, H, W] and uncertainty [H, W] of equations 1 to 3, sample by sample and step by step."""
    sampling, regions = net.sampling, bool(net.regions)
    views = [VIEWS[s % 4] if sampling.mirror_samples else () for s in range(sampling.samples)]
    samples = np.array([one_sample(net, image, s, view) for s, view in enumerate(views)])  # [S, steps, K, H, W]
    total, weights, uncertainty = 0.0, 0.0, 0.0
    last = sampling.ensemble_steps
    for t in range(1, last + 1):
        mean = samples[:, t - last - 1].mean(axis=0)
        weight = np.exp(1 / (1 + np.exp(-t / last))) * (1 + mean * np.log(mean))
        total, weights = total + weight * mean, weights + weight
        if regions:
            entropy = -(mean * np.log2(mean) + (1 - mean) * np.log2(1 - mean)).mean(axis=0)
        else:
            entropy = -(mean * np.log(mean)).sum(axis=0) / np.log(len(mean))
        uncertainty = uncertainty + entropy / last
    return total / (weights if regions else total.sum(axis=0)), uncertainty


class WithoutStages(nn.Module):
    """A network that nnU-Net could plan, but not a U-Net of stages."""

    def __init__(self, input_channels: int, num_classes: int, deep_supervision: bool):
        super().__init__()
        self.layer = nn.Conv2d(input_channels, num_classes, 1)
