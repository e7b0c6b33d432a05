"""DICOM in: the stacks of images in a folder, by their geometry; which of them to segment; its voxels without a tag."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "DICOM_SUFFIXES": "folders",
    "Series": "series",
    "choose_series": "choice",
    "dangling_links": "folders",
    "find_series": "series",
    "indexed_files": "index",
    "is_index": "index",
    "names_a_patient": "identifiers",
    "read_series": "reading",
    "series_of_file": "series",
}
__all__ = [
    "DICOM_SUFFIXES",
    "Series",
    "choose_series",
    "dangling_links",
    "find_series",
    "indexed_files",
    "is_index",
    "names_a_patient",
    "read_series",
    "series_of_file",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: an image file needs no pydicom."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
