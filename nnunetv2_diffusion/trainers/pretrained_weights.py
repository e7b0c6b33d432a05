"""`nnUNetv2_train -pretrained_weights` where the pretraining had other labels: what fits is loaded.

nnU-Net demands that every layer but the last fits. A denoiser also sees the mask, so its first convolution has the
number of labels in its shape.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from nnunetv2.run import load_pretrained_weights as nnunets
from nnunetv2.run import run_training
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.networks.diffusion_network import PROCESS

# As nnU-Net's: what makes the segmentation of the last features is not taken over.
_LAST_LAYER = ".seg_layers."


def let_pretrained_weights_fit_in_part(log: Callable[[str], None]) -> None:
    """Put `load_pretrained_weights` where nnU-Net's training looks its own up: it has no hook for a trainer there."""
    run_training.load_pretrained_weights = partial(load_pretrained_weights, log=log)


def load_pretrained_weights(
    network: nn.Module, fname: str, verbose: bool = False, log: Callable[[str], None] = print
) -> None:
    """As nnU-Net's; into a `DiffusionNetwork` also what fits, and the rest is named; its process stays its own.

    Args:
        network, fname, verbose: those of nnU-Net.
        log: takes a line of the log.

    Raises:
        ValueError: no layer of a `DiffusionNetwork` fits.
    """
    module = network.module if isinstance(network, DistributedDataParallel) else network
    module = module._orig_mod if isinstance(module, OptimizedModule) else module
    if not isinstance(module, DiffusionNetwork):
        nnunets.load_pretrained_weights(network, fname, verbose)
        return
    given = torch.load(fname, map_location="cpu", weights_only=False)["network_weights"]
    own = module.state_dict()
    wanted = {name: value for name, value in own.items() if _LAST_LAYER not in name and name != PROCESS}
    fitting = {
        name: given[name] for name, value in wanted.items() if name in given and given[name].shape == value.shape
    }
    if not fitting.keys() & dict(module.named_parameters()):
        raise ValueError(f"nothing in {fname} fits this network; name a checkpoint of the same trainer and plans")
    module.load_state_dict({**own, **fitting})
    log(f"Pretrained weights from {fname}: {len(fitting)} of {len(wanted)} tensors fit and were loaded")
    for name in sorted(wanted.keys() - fitting.keys()):
        log(f"  not loaded: {name} {_shape(own[name])}, in the file {_shape(given.get(name))}")


def _shape(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else " x ".join(map(str, tensor.shape)) or "a number"
