"""Where and in which portions a model computes: the options that commands, models and predictors pass on together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from nnunetv2.configuration import default_num_processes

from nnunetv2_diffusion import processors
from nnunetv2_diffusion.sampling.precision import check_precision


@dataclass(frozen=True)
class Runtime:
    """How to compute; none of it is a setting of the method.

    Attributes:
        device: "cpu", "cuda" or "mps"; None takes the GPU where there is one, else the CPU.
        batch_size: how many samples the denoiser takes at a time; None takes all on a GPU, a cache's fill on a CPU.
        slice_batch: how many slices (or tiles of large ones) of a volume the ensemble takes at a time where slices are
            predicted one by one; None: 4 on a GPU, on a CPU as many as fill its cache with their samples.
        precision: of the denoiser: "float32", "bfloat16", or "auto", as nnUNetv2_predict with the same model.
        trust: open checkpoints that could run code (see `checkpoints.load_checkpoint`).

    Raises:
        ValueError: a number below 1, or a precision that is none.
    """

    device: str | None = None
    batch_size: int | None = None
    slice_batch: int | None = None
    precision: str = "auto"
    trust: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, not {self.batch_size}")
        if self.slice_batch is not None and self.slice_batch < 1:
            raise ValueError(f"the number of slices in a batch must be at least 1, not {self.slice_batch}")
        check_precision(self.precision)


def choose_device(name: str | None) -> torch.device:
    """`name` as a device; without a name the GPU where there is one, else the CPU.

    Raises:
        ValueError: a device that this machine does not have.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"-device {name} was asked for, but this machine has no CUDA device; use -device cpu")
    return torch.device(name)


def use_processors(device: torch.device) -> None:
    """On a CPU let PyTorch compute with as many threads as this process may have."""
    if device.type == "cpu":
        torch.set_num_threads(processors.available_threads())


@contextmanager
def nnunets_threads() -> Iterator[None]:
    """Within, as many threads as nnU-Net predicts with: others sum in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(min(default_num_processes, threads))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
