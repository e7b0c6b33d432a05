"""Writing images: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from nnunetv2_diffusion.files import replacing
from nnunetv2_diffusion.imaging.formats import format_of


def write_image(image: sitk.Image, path: str | Path, *, partial_folder: Path | None = None) -> None:
    """Write an image, compressed where its format can be.

    Args:
        image: any image that the format can hold.
        path: its ending settles the format.
        partial_folder: see `files.replacing`.

    Raises:
        OSError: the disk refused; the file is as it was.
    """
    try:
        with replacing(path, partial_folder=partial_folder) as partial:
            sitk.WriteImage(image, str(partial), useCompression=True)
            check_written(partial)
    except (OSError, RuntimeError) as error:
        raise OSError(f"{path} cannot be written: is the disk full or the folder read-only?") from error


def check_written(path: Path) -> None:
    """OSError where an image just written is not whole: on a full disk ITK cuts NIfTI files off and says nothing."""
    kind = format_of(path)
    try:
        if kind is not None:
            kind.check(path)
    except ValueError as error:
        raise OSError(f"{path} was not written whole: {error}") from error
