"""What a training step keeps for its backward pass: nnU-Net's U-Net, the denoiser, the denoiser checkpointed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunetv2_diffusion.networks import Denoiser

MIB = 2**20


def kept_mib(module: nn.Module, run: Callable[[], object]) -> float:
    """MiB of activations that autograd holds after `run`; what it holds of the weights takes no memory of its own."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = run()
    total = sum(sizes.values()) / MIB
    del answer
    return total


class _LargestStage:
    """Stands in a denoiser's place for running a stage, and notes what the largest one keeps while it is recomputed."""

    def __init__(self, denoiser: Denoiser):
        self.denoiser, self.run, self.mib = denoiser, denoiser._stage, 0.0

    def __call__(self, function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        self.mib = max(self.mib, kept_mib(self.denoiser, lambda: function(*inputs)))
        return self.run(function, *inputs)


def activation_rows(configuration: ConfigurationManager, channels: int, heads: int) -> list[dict[str, object]]:
    """A row a network: MiB an image in float32 at the end of the forward pass, and at most in the backward pass.

    Args:
        configuration: of the plans.
        channels: of the image.
        heads: K.
    """
    image, x_t = (torch.randn(1, count, *configuration.patch_size) for count in (channels, heads))
    unet = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        channels,
        heads,
        deep_supervision=True,
    ).train()
    nnunets = kept_mib(unet, lambda: unet(image))
    architecture = configuration.network_arch_class_name.rpartition(".")[2]
    rows: list[dict[str, object]] = [
        {"architecture": architecture, "network": "nnU-Net", "kept_mib": nnunets, "peak_mib": nnunets}
    ]
    for name, auxiliary in (("SpineSegDiff", True), ("IISDM", False)):
        for checkpointed in (False, True):
            denoiser = Denoiser(configuration, channels, heads, auxiliary, checkpointed).train()
            kept = kept_mib(denoiser, lambda net=denoiser: net(image, x_t, torch.tensor([5])))
            peak = kept + (_largest(denoiser, image, x_t) if checkpointed else 0)
            network = f"{name}, checkpoint_activations" if checkpointed else name
            rows.append({"architecture": architecture, "network": network, "kept_mib": kept, "peak_mib": peak})
    for row in rows:
        row["times_nnunet"] = row["peak_mib"] / nnunets
    return rows


def _largest(denoiser: Denoiser, image: torch.Tensor, x_t: torch.Tensor) -> float:
    stage = _LargestStage(denoiser)
    denoiser._stage = stage
    denoiser(image, x_t, torch.tensor([5]))
    return stage.mib
