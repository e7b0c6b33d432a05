"""What was found in a scan, and writing it: all of its files, or none of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from nnunetv2_diffusion.inference.preview import Picture, write_preview
from nnunetv2_diffusion.inference.scans import ScanSource


@dataclass(frozen=True)
class Segmentation:
    """What was found in a scan, on its own grid: size, spacing, origin and direction are the scan's.

    Attributes:
        mask: uint8 labels, 0 where nothing was segmented.
        uncertainty: float32 in [0, 1], 0 where nothing was segmented.
        probabilities: float32 with one dimension more, one volume a head of the model (background first; regions
            have none for the background); 0 where nothing was segmented. None unless asked for.
        report: what is written to <name>.json.
        picture: what the preview shows.
    """

    mask: sitk.Image
    uncertainty: sitk.Image
    probabilities: sitk.Image | None
    report: dict[str, Any]
    picture: Picture


def check_output_folder(folder: Path, sources: Sequence[ScanSource], ending: str | None) -> None:
    """Create the output folder and try it, before anything is computed.

    Raises:
        OSError: it cannot be created or written to.
        ValueError: a mask would be written over the scan that it is made of.
    """
    staging = folder / f".partial_{os.getpid()}"
    try:
        staging.mkdir(parents=True)
        staging.rmdir()
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error.strerror}): choose another output folder") from error
    scans = {file.resolve() for source in sources for file in source.files}
    for source in sources:
        target = folder / f"{source.name}{ending or source.output_ending}"
        if target.resolve() in scans:
            raise ValueError(f"the mask {target} would overwrite a scan: choose another output folder")


def write_segmentation(found: Segmentation, folder: Path, name: str, ending: str, labels: Mapping[str, Any]) -> None:
    """Write <name><ending>, <name>_uncertainty<ending>, probabilities if there are any, <name>.png and <name>.json.

    They are written into a folder beside and then moved, the json last: where it lies, all is there.

    Raises:
        OSError: a file cannot be written; none is left then.
    """
    staging = folder / f".partial_{os.getpid()}"
    images = {f"{name}{ending}": found.mask, f"{name}_uncertainty{ending}": found.uncertainty}
    if found.probabilities is not None:
        images[f"{name}_probabilities{ending}"] = found.probabilities
    try:
        staging.mkdir()
        for file, image in images.items():
            sitk.WriteImage(image, str(staging / file), useCompression=True)
        write_preview(staging / f"{name}.png", found.picture, labels, title=name)
        report = json.dumps({"files": [*images, f"{name}.png"], **found.report}, indent=2)
        (staging / f"{name}.json").write_text(report + "\n", encoding="utf-8")
        for file in (*images, f"{name}.png", f"{name}.json"):
            os.replace(staging / file, folder / file)
    except (OSError, RuntimeError) as error:
        raise OSError(f"{folder / name} cannot be written: is the disk full or the folder read-only?") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
