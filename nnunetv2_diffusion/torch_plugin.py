"""Lets nnU-Net find external trainers where PyTorch is a CPU build and torchvision the package index's CUDA build.

On a Linux machine without a GPU pip easily combines the two. Their versions match, but torchvision's compiled operators
need CUDA libraries, and `import torchvision` stops with "operator torchvision::nms does not exist". nnU-Net imports it
(through timm) whenever it looks for a trainer that is not its default one, in its own folder first, so nothing in the
folder that nnUNet_extTrainer names comes early enough. Neither nnU-Net nor this package calls these operators, so
declaring their names is enough.

PyTorch's entry point group `torch.backends` is the one place that is reached in time. It is asked in every program that
imports PyTorch, so `prepare_search` does nothing unless nnUNet_extTrainer names our trainers.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from nnunetv2_diffusion.nnunet_names import EXTENSION, EXTERNAL_TRAINERS

OPERATORS = (
    "nms",
    "qnms",
    "roi_align",
    "qroi_align",
    "_roi_align_backward",
    "roi_pool",
    "_roi_pool_backward",
    "ps_roi_align",
    "_ps_roi_align_backward",
    "ps_roi_pool",
    "_ps_roi_pool_backward",
    "deform_conv2d",
    "_deform_conv2d_backward",
)

# Declarations last as long as their library object, a torch.library.Library.
_libraries: list[object] = []


def prepare_search() -> None:
    """The entry point, called at the end of `import torch`: declare what is missing where our trainers are sought."""
    folders = os.environ.get(EXTERNAL_TRAINERS, "").split(os.pathsep)
    if any(folder and Path(folder).resolve() == EXTENSION for folder in folders):
        declare_missing_operators()


def declare_missing_operators() -> None:
    """Declare torchvision's operators, without implementations, if its compiled extension cannot be loaded."""
    import torch  # here, since `import torch` itself imports this module

    spec = importlib.util.find_spec("torchvision")
    if torch.version.cuda or torch.version.hip or spec is None or spec.origin is None or _libraries:
        return
    extension = Path(spec.origin).with_name("_C.so")
    if not extension.is_file():
        return
    try:
        torch.ops.load_library(extension)
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in OPERATORS:
            library.define(f"{operator}(Tensor input) -> Tensor")
        _libraries.append(library)
