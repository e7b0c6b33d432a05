"""Running the denoiser on as many samples at a time as the memory holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

# A larger batch gains nothing on a CPU once it fills the cache: one slice of 320 x 320, six of 128 x 128.
CPU_PIXELS = 320 * 320
# PyTorch's own words (CUDA, MPS, CPU), and the states in which cuDNN and cuBLAS end where they get no memory; cuBLAS
# says of a handle that it could not allocate only that it is not initialized.
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "status_alloc_failed",
    "allocation_failed",
    "cublas_status_not_initialized",
)

Result = TypeVar("Result")


def default_batch_size(device: torch.device, height: int, width: int, samples: int) -> int:
    """How many of `samples` slices of `height` x `width` to take at a time: all on a GPU, a cache's fill on a CPU."""
    return min(samples, cpu_batch_size(height, width)) if device.type == "cpu" else samples


def cpu_batch_size(height: int, width: int) -> int:
    """Slices of `height` x `width` that fill a CPU's cache, at least 1."""
    return max(1, CPU_PIXELS // (height * width))


def run_in_chunks(run: Callable[[slice], Result], count: int, size: int) -> tuple[list[Result], int]:
    """`run` over the slices of 0 ... count, `size` at a time; where memory runs out, half as many, with a warning.

    Returns:
        The result of each chunk, and the size that fitted.

    Raises:
        RuntimeError, MemoryError: what `run` raises, out of memory only where it does not even hold one sample.
    """
    results: list[Result] = []
    start = 0
    while start < count:
        try:
            results.append(run(slice(start, min(start + size, count))))
            start += size
            continue
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not _out_of_memory(error):
                raise
        # Outside of the handler, whose traceback keeps the tensors of the failed run alive.
        size = size // 2
        warnings.warn(f"out of memory: going on with {size} samples at a time", RuntimeWarning, stacklevel=2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()
    return results, size


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)
