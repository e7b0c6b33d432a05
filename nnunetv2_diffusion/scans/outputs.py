"""What was found in a scan, and writing it: all of its files, or none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from nnunetv2_diffusion.files import staging, write_csv, write_json
from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.inference.tile_predictor import DISAGREEMENT
from nnunetv2_diffusion.measures import LEVELS_SUFFIX, MEASUREMENTS_FILE
from nnunetv2_diffusion.scans.picture import Picture, write_picture
from nnunetv2_diffusion.scans.sources import ScanSource

if TYPE_CHECKING:
    import pandas as pd

# What follows a scan's name in the names of its mask, its map and its probabilities.
_DISAGREEMENT = tuple(f"_{name}" for name in DISAGREEMENT)
_ADDITIONS = ("", "_uncertainty", "_probabilities", LEVELS_SUFFIX, *_DISAGREEMENT)


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
        levels: uint8 in SPIDER's numbering, see `anatomy.levels.Levels`. None unless asked for, or where the mask could
            not be measured.
        measurements: a table of `measures.COLUMNS`; a single row, whose remark says why, where the mask could not be
            measured. None unless asked for.
        disagreement: float32 maps of DISAGREEMENT, in its order; empty unless the model was loaded with them.
    """

    mask: sitk.Image
    uncertainty: sitk.Image
    probabilities: sitk.Image | None
    report: dict[str, Any]
    picture: Picture
    levels: sitk.Image | None = None
    measurements: pd.DataFrame | None = None
    disagreement: tuple[sitk.Image, ...] = ()


def check_output_folder(folder: Path, sources: Sequence[ScanSource], ending: str | None) -> None:
    """Create the output folder and try it, before anything is computed.

    Raises:
        OSError: it cannot be created or written to.
        ValueError: something would be written over a scan, or over what belongs to another one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with staging(folder, ""):
            pass
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error.strerror}): choose another output folder") from error
    taken = {file.resolve() for source in sources for file in source.files}
    for source in sources:
        for addition in _ADDITIONS:
            target = folder / f"{source.name}{addition}{ending or source.output_ending}"
            if target.resolve() in taken:
                raise ValueError(
                    f"{target} would be written over a scan or another scan's result: choose another output folder, "
                    "or take masks and maps out of the folder of scans"
                )
            taken.add(target.resolve())


def write_segmentation(found: Segmentation, folder: Path, name: str, ending: str, labels: Mapping[str, Any]) -> None:
    """Write <name><ending>, <name>_uncertainty<ending>, what else there is of images, <name>.png and <name>.json.

    Measurements, if there are any, go to <name>_measurements.csv.

    They are written into a folder beside and then moved, the json last: where it lies, all is there.

    Raises:
        OSError: a file cannot be written; none is left then.
    """
    disagreement = found.disagreement or (None,) * len(_DISAGREEMENT)
    images = (found.mask, found.uncertainty, found.probabilities, found.levels, *disagreement)
    results = zip(_ADDITIONS, images, strict=True)
    images = {f"{name}{addition}{ending}": image for addition, image in results if image is not None}
    tables = {} if found.measurements is None else {f"{name}_{MEASUREMENTS_FILE}": found.measurements}
    try:
        with staging(folder, f"{name}.json") as stage:
            for file, image in images.items():
                write_image(image, stage / file)
            for file, table in tables.items():
                write_csv(table.assign(scan=name), stage / file)
            write_picture(stage / f"{name}.png", found.picture, labels, title=name)
            write_json({"files": [*images, *tables, f"{name}.png"], **found.report}, stage / f"{name}.json")
    except (OSError, RuntimeError) as error:
        raise OSError(f"{folder / name} cannot be written: is the disk full or the folder read-only?") from error
