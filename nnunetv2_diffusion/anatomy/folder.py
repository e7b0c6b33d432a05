"""Measuring masks on disk: the work behind `spinesegdiff measure`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import SimpleITK as sitk

from nnunetv2_diffusion.anatomy.midsagittal import check_sagittal, on_image
from nnunetv2_diffusion.anatomy.sample_masks import Samples, samples_beside
from nnunetv2_diffusion.anatomy.structures import Values, named_values, parse_values
from nnunetv2_diffusion.anatomy.volume import measure_volume
from nnunetv2_diffusion.files import read_json, staging, write_csv, write_json
from nnunetv2_diffusion.imaging.grid import to_ras
from nnunetv2_diffusion.imaging.reading import as_scan, read_image
from nnunetv2_diffusion.imaging.volumes import list_masks
from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.measures import LEVELS_SUFFIX, MEASUREMENTS_FILE
from nnunetv2_diffusion.nnunet_names import DATASET_FILE

ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
SAY = partial(print, flush=True)


@dataclass(frozen=True)
class Measured:
    """A mask's measurements: `levels` uint8 on the mask's own grid, the table, and what is written to <case>.json."""

    levels: sitk.Image
    table: pd.DataFrame
    report: dict[str, Any]


def measure_mask(
    image: sitk.Image, values: Values | None = None, name: str = "the mask", samples: Samples | None = None
) -> Measured:
    """Measure the mid-sagittal slice of a mask, and number its structures in all slices.

    Args:
        image: 3-D, any orientation; or a 2-D sagittal slice whose columns run to posterior and rows to inferior.
        values: the labels of each structure; None finds out (`structures.known_values`).
        name: what errors and the table call it.
        samples: of the mask; with them each measurement has an interval.

    Raises:
        ValueError: it holds no vertebrae, other labels, or is no sagittal scan; the message names it and says so.
    """
    volume = as_scan(image, name)
    ras = to_ras(volume)
    check_sagittal(ras, name)
    try:
        found = measure_volume(sitk.GetArrayFromImage(ras), ras.GetSpacing()[::-1], values, name, samples)
    except ValueError as error:
        raise ValueError(f"{name} cannot be measured: {error}") from error
    return Measured(_as_given(on_image(found.levels, volume), image), found.table, found.report)


def measure_folder(
    masks: str | Path, output: str | Path, structures: Sequence[str] | None = None, say: Callable[[str], None] = SAY
) -> list[str]:
    """Measure a mask or every mask of a folder, and write measurements.csv, and <case>_levels and <case>.json for each.

    Args:
        masks: a mask, or a folder of them; maps and levels beside them are passed over. Samples in their folder
            `samples` give each measurement an interval.
        output: folder to write to.
        structures: see `structures.parse_values`; None takes the names of a dataset.json beside the masks or above
            them, else the labels of `spinesegdiff convert` or SPIDER's own.
        say: told of every mask that is done.

    Returns:
        One sentence for each mask that could not be measured; the others are written.

    Raises:
        FileNotFoundError: there is no mask.
        OSError: the output folder cannot be written to.
        ValueError: `structures` or the dataset.json says nothing that can be used, or two masks share a name.
    """
    masks, output = Path(masks), Path(output)
    values = parse_values(structures) if structures else _values_beside(masks)
    cases = find_masks(masks)
    if output.resolve() == (masks if masks.is_dir() else masks.parent).resolve():
        raise ValueError(f"{output} holds the masks: choose another output folder")
    output.mkdir(parents=True, exist_ok=True)
    tables, failures = [], []
    for case, path in cases.items():
        try:
            image = read_image(path).image
            found = measure_mask(image, values, path.name, samples_beside(path, case, image))
            found.table["scan"] = case
            _write(found, output, case, path.name[len(case) :])
        except (ValueError, OSError, RuntimeError) as error:
            failures.append(" ".join(str(error).split()))
            continue
        tables.append(found.table)
        doubt = f"; levels in doubt: {'; '.join(found.report['levels_doubt'])}" if found.report["levels_doubt"] else ""
        say(f"{case}: {len(found.report['vertebrae'])} vertebrae, {len(found.report['discs'])} discs{doubt}")
    if tables:
        write_csv(pd.concat(tables, ignore_index=True), output / MEASUREMENTS_FILE)
    return failures


def find_masks(path: Path) -> dict[str, Path]:
    """Case name -> file of a mask or a folder of masks.

    Raises:
        FileNotFoundError: there is none.
        ValueError: two files would have one name.
    """
    if path.is_file():
        ending = next((one for one in ENDINGS if path.name.lower().endswith(one)), path.suffix)
        return {path.name[: -len(ending)] if ending else path.name: path}
    found: dict[str, Path] = {}
    for ending in ENDINGS:
        for case, file in list_masks(path, ending).items():
            if case.endswith(LEVELS_SUFFIX):
                continue
            if case in found:
                raise ValueError(f"{found[case]} and {file} would have one name: take one of them out of the folder")
            found[case] = file
    if not found:
        raise FileNotFoundError(f"{path} holds no mask: expected files that end in {', '.join(ENDINGS)}")
    return dict(sorted(found.items()))


def _values_beside(masks: Path) -> Values | None:
    folder = masks if masks.is_dir() else masks.parent
    for place in (folder, folder.resolve().parent):
        if (place / DATASET_FILE).is_file():
            labels = read_json(place / DATASET_FILE).get("labels")
            return named_values(labels if isinstance(labels, dict) else {}, str(place / DATASET_FILE))
    return None


def _as_given(levels: sitk.Image, image: sitk.Image) -> sitk.Image:
    """Levels as a 2-D image again where the mask was one."""
    if image.GetDimension() != 2:
        return levels
    plane = sitk.GetImageFromArray(sitk.GetArrayFromImage(levels)[0])
    plane.CopyInformation(image)
    return plane


def _write(found: Measured, folder: Path, case: str, ending: str) -> None:
    """<case>_levels and <case>.json, the json last; both or none."""
    ending = {".mhd": ".mha", ".nhdr": ".nrrd"}.get(ending, ending)
    name = f"{case}{LEVELS_SUFFIX}{ending}"
    try:
        with staging(folder, f"{case}.json") as stage:
            write_image(found.levels, stage / name)
            write_json({"files": [name], **found.report}, stage / f"{case}.json")
    except (OSError, RuntimeError) as error:
        raise OSError(f"{folder / case} cannot be written: is the disk full or the folder read-only?") from error
