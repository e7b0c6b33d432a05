"""Checkpoints read as data, not as code.

A checkpoint is a pickle, and a pickle can run any program when it is opened; PyTorch's restricted reader only builds
tensors and the types named here, which is all that nnU-Net writes.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunetv2_diffusion.files import is_whole_archive

ENTRIES = ("network_weights", "trainer_name", "init_args")


def load_checkpoint(path: str | Path, trust: bool = False, remedy: str = "allow it with --trust") -> dict[str, Any]:
    """nnU-Net's checkpoint in main memory.

    Args:
        path: the .pth file.
        trust: let the file run whatever code it holds; for files of known origin alone.
        remedy: what to do about a file of known origin that holds more than weights, in the words that end a sentence.

    Raises:
        ValueError: the file is damaged, no checkpoint of nnU-Net, or holds more than weights and settings.
    """
    try:
        with torch.serialization.safe_globals(_numpy_types()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = torch.load(path, map_location="cpu", weights_only=not trust)
    except FileNotFoundError:
        raise
    except Exception as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code is None:
            raise ValueError(
                f"{path} cannot be read as a checkpoint: it is damaged, truncated or another file"
            ) from error
        raise ValueError(
            f"{path} holds more than weights and settings ({code[1]}) and could run code when it is opened; "
            f"it was not opened. Where you know its origin, {remedy}"
        ) from error
    if zipfile.is_zipfile(path) and not is_whole_archive(path):
        raise ValueError(f"{path} is damaged, as its checksums show; copy it again")
    if not isinstance(checkpoint, dict) or any(name not in checkpoint for name in ENTRIES):
        raise ValueError(f"{path} is no checkpoint of nnU-Net: expected {', '.join(ENTRIES)} in it")
    return checkpoint


def _numpy_types() -> list[Any]:
    """What nnU-Net's record of losses and scores is made of, under its names in NumPy 1 and 2."""
    scalar, reconstruct = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    renamed = [
        (function, f"numpy.{core}.multiarray.{function.__name__}")
        for function in (scalar, reconstruct)
        for core in ("core", "_core")
    ]
    dtypes = {type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}
    return [*renamed, np.ndarray, np.dtype, *dtypes]
