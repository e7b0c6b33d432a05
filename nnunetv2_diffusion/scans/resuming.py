"""A folder of scans whose results are all there: told without loading the model, or PyTorch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.nnunet_names import DATASET_FILE
from nnunetv2_diffusion.scans.finished import asked_hash, finished_line, input_hash, is_finished_as_asked
from nnunetv2_diffusion.scans.formats.images import ImageFiles
from nnunetv2_diffusion.scans.sharing import Share
from nnunetv2_diffusion.scans.sources import ScanSource, trained_contrasts
from nnunetv2_diffusion.scans.zipped import unzipped


@dataclass(frozen=True)
class Asked:
    """A model by its folder, and what is asked of it in the words of the command line; see `finished.asked_hash`."""

    folder: Path
    folds: tuple[str, ...] | None
    checkpoint: str
    words: dict[str, Any]

    def hash(self, form: str) -> str | None:
        """Of what is written in a format, by its `ImageFiles.request`."""
        return asked_hash(self.folder, self.folds, self.checkpoint, {**self.words, "form": form})


def all_finished(
    path: Path,
    output: Path,
    asked: Asked,
    *,
    series: str | None = None,
    form: ImageFiles,
    excluded: Collection[str] = (),
    share: Share | None = None,
) -> list[str] | None:
    """What there is to say where every scan has its result, made of these files as asked; None where one has not.

    Args: see `segmentation.segment_files`. The page of the results is written anew, since the exclusions may be others.

    Raises:
        FileNotFoundError, ValueError: see `sources.find_scans`.
    """
    if not output.is_dir() or not any(output.glob("*.json")):
        return None
    try:
        contrasts = share.among if share else trained_contrasts(read_json(asked.folder / DATASET_FILE))
    except (OSError, ValueError):
        return None  # what is wrong is told where the model is loaded
    with unzipped(path) as given:
        sources, remarks = form.find(given, series, contrasts, False)
        wanted = [source for source in sources if source.name not in excluded]
        own = share.own(wanted) if share else wanted
        if (share and share.unknown(wanted)) or not _are_finished(own, output, asked, form):
            return None
    if own:
        remarks.append(finished_line(len(own), len(own)))
    if len(sources) > 1:
        from nnunetv2_diffusion.scans.page.page import write_page

        remarks += write_page(output, excluded)
    return remarks


def _are_finished(sources: list[ScanSource], output: Path, asked: Asked, form: ImageFiles) -> bool:
    hashes: dict[str, str | None] = {}
    for source in sources:
        own = form.request(source)
        if own not in hashes:
            hashes[own] = asked.hash(own)
        if source.fault or hashes[own] is None:
            return False
        if not is_finished_as_asked(output, form.files(source), input_hash(source), hashes[own]):
            return False
    return True
