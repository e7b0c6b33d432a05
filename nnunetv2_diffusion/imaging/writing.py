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
            kind = format_of(partial)
            if kind is not None:
                kind.check(partial)  # ITK does not notice a disk that is full while it compresses a NIfTI file
    except (OSError, RuntimeError, ValueError) as error:
        raise OSError(f"{path} cannot be written: is the disk full or the folder read-only?") from error
