"""What a benchmark ran on, and when: a line of every table."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from pathlib import Path

import torch

from nnunetv2_diffusion.processors import available_processors
from nnunetv2_diffusion.sampling.precision import fast_bfloat16


def machine(device: str) -> dict[str, str]:
    """What it was measured on, and when."""
    described = f"{_processor()}, {available_processors()} cores, "
    described += f"PyTorch {torch.__version__} on {torch.get_num_threads()} threads"
    described += ", fast bfloat16" if fast_bfloat16() else ", no fast bfloat16"
    if device == "cuda":
        described = f"{torch.cuda.get_device_name()}, {described}"
    return {"machine": described, "date": datetime.now(timezone.utc).strftime("%Y-%m-%d")}


def _processor() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
