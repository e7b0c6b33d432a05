"""Scans of any geometry in, masks and uncertainty maps on their own grid out."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Segmentation": "segmentation",
    "SegmentationModel": "model",
    "load_model": "model",
    "segment": "segmentation",
}
__all__ = ["Segmentation", "SegmentationModel", "load_model", "segment"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: PyTorch and nnU-Net take seconds to load."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
