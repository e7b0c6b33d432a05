"""The number format that the denoiser computes in; x_t, probabilities and the ensemble stay float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

PRECISIONS = ("auto", "float32", "bfloat16")


def check_precision(precision: str) -> str:
    """The name itself; ValueError where it is none of PRECISIONS."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    return precision


def fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32 (AVX512-BF16 or AMX).

    Others emulate it, slower than float32. A PyTorch that cannot tell counts as no.
    """
    known = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(supported is not None and supported() for supported in known)


def computes_in(precision: str, device: torch.device) -> str:
    """What the denoiser computes in: "float32", "bfloat16", or "auto" for what the caller set, see `autocast`."""
    if precision != "auto" or device.type != "cpu":
        return precision
    return "bfloat16" if fast_bfloat16() else "float32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Where the denoiser runs.

    Args:
        precision: "float32", "bfloat16", or "auto": bfloat16 on a CPU that is fast at it; elsewhere what the caller
            set, which for nnU-Net is its own autocast on a GPU and float32 on the CPU.
        device: of the network.
    """
    chosen = computes_in(precision, device)
    if chosen == "auto" or (precision == "auto" and chosen == "float32"):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bfloat16")
