"""Writing what was found in a scan: all of its files, or none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_diffusion.files import staging, write_csv, write_json
from nnunetv2_diffusion.scans.picture import write_picture
from nnunetv2_diffusion.scans.sources import ScanSource

if TYPE_CHECKING:
    from nnunetv2_diffusion.scans.formats.images import ImageFiles
    from nnunetv2_diffusion.scans.found import Segmentation


def check_output_folder(folder: Path, sources: Sequence[ScanSource], form: ImageFiles) -> None:
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
        files = form.files(source)
        for name in files.images:
            target = folder / files.folder / name
            if target.resolve() in taken:
                raise ValueError(
                    f"{target} would be written over a scan or another scan's result: choose another output folder, "
                    "or take masks and maps out of the folder of scans"
                )
            taken.add(target.resolve())


def write_segmentation(
    found: Segmentation, folder: Path, source: ScanSource, form: ImageFiles, labels: Mapping[str, Any]
) -> None:
    """Write a scan's images in a format, its measurements if there are any, preview and json, as `form` names them.

    They are written into a folder beside and then moved, the json last: where it lies, all is there.

    Raises:
        OSError: a file cannot be written; none is left then.
        ValueError: what was found cannot be written in this format; none is left then.
    """
    files, target = form.files(source), folder / form.files(source).folder
    try:
        target.mkdir(parents=True, exist_ok=True)
        with staging(target, files.report) as stage:
            written = form.write_images(found, source, labels, stage)
            if found.measurements is not None:
                write_csv(found.measurements.assign(scan=source.name), stage / files.measurements)
                written.append(files.measurements)
            write_picture(stage / files.picture, found.picture, labels, title=source.name)
            listed = {"files": [*written, files.picture], **form.describe(source)}
            write_json({**listed, **found.report}, stage / files.report)
    except (OSError, RuntimeError) as error:
        raise OSError(f"{folder / source.name} cannot be written: is the disk full or the folder read-only?") from error
