"""Results as image files beside each other: <name>.mha and what belongs to it. Other formats change parts of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.measures import LEVELS_SUFFIX, MEASUREMENTS_FILE
from nnunetv2_diffusion.nnunet_names import DISAGREEMENT
from nnunetv2_diffusion.scans.sources import ScanSource, find_scans

if TYPE_CHECKING:
    from nnunetv2_diffusion.scans.found import Segmentation


@dataclass(frozen=True)
class ResultFiles:
    """Names of a result's files.

    Attributes:
        mask, uncertainty, probabilities: images.
        levels: an image; empty where the mask's file has the levels.
        disagreement: images of `DISAGREEMENT`.
        measurements: a table.
        picture: the preview.
        report: the json, which is written last.
        folder: theirs, below the output folder.
    """

    mask: str
    uncertainty: str
    probabilities: str
    levels: str
    disagreement: tuple[str, ...]
    measurements: str
    picture: str
    report: str
    folder: str = ""

    @property
    def images(self) -> list[str]:
        """Those that could be mistaken for scans."""
        names = (self.mask, self.uncertainty, self.probabilities, self.levels, *self.disagreement)
        return [name for name in names if name]


@dataclass(frozen=True)
class ImageFiles:
    """Image files of one ending; None for the scan's own. The base of the other formats."""

    ending: str | None = None

    def find(
        self, path: Path, series: str | None, contrasts: tuple[str, ...] | None, progress: bool
    ) -> tuple[list[ScanSource], list[str]]:
        """The scans that a path stands for; see `sources.find_scans`."""
        return find_scans(path, series, contrasts, progress)

    def check(self, source: ScanSource) -> None:
        """ValueError where a scan's result cannot be written in this format; images can always be."""

    def request(self, source: ScanSource) -> str:
        """What tells a result in this format from one in another."""
        return self.ending or source.output_ending

    def files(self, source: ScanSource) -> ResultFiles:
        """The names of what is written."""
        return named_files(source.name, self.request(source))

    def describe(self, source: ScanSource) -> dict[str, Any]:
        """What the json says besides."""
        return {}

    def write_images(
        self, found: Segmentation, source: ScanSource, labels: Mapping[str, Any], stage: Path
    ) -> list[str]:
        """Write what there is of images into a folder; returns their names."""
        files = self.files(source)
        images = {
            files.mask: found.mask,
            files.uncertainty: found.uncertainty,
            files.probabilities: found.probabilities,
            files.levels: found.levels,
            **dict(zip(files.disagreement, found.disagreement, strict=False)),
        }
        written = [name for name, image in images.items() if image is not None]
        for name in written:
            write_image(images[name], stage / name)
        return written

    def begin(self, folder: Path) -> None:
        """Write what belongs to all results of a folder; nothing here."""


def named_files(name: str, ending: str) -> ResultFiles:
    """A result's files beside each other, its images of one ending."""
    return ResultFiles(
        mask=f"{name}{ending}",
        uncertainty=f"{name}_uncertainty{ending}",
        probabilities=f"{name}_probabilities{ending}",
        levels=f"{name}{LEVELS_SUFFIX}{ending}",
        disagreement=tuple(f"{name}_{shown}{ending}" for shown in DISAGREEMENT),
        measurements=f"{name}_{MEASUREMENTS_FILE}",
        picture=f"{name}.png",
        report=f"{name}.json",
    )
