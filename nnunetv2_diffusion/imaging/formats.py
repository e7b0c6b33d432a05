"""Which module knows the format of an image file: each has `check(path)` and `doubts(path, image)`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from nnunetv2_diffusion.imaging import metaimage, nifti, nrrd

_ENDINGS = {
    (".mha", ".mhd"): metaimage,
    (".nrrd", ".nhdr"): nrrd,
    (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz"): nifti,
}


def format_of(path: Path) -> ModuleType | None:
    """The module for the file's ending, by which ITK goes too; None for formats that are left to ITK alone."""
    return next((module for endings, module in _ENDINGS.items() if path.name.lower().endswith(endings)), None)
