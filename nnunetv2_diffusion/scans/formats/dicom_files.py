"""Results as DICOM: a segmentation and a parametric map beside the images that they were made of, as archives take."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunetv2_diffusion.scans.dicom import Series
from nnunetv2_diffusion.scans.formats.dicom_sources import check_series
from nnunetv2_diffusion.scans.formats.images import ImageFiles, ResultFiles, named_files
from nnunetv2_diffusion.scans.found import Segmentation
from nnunetv2_diffusion.scans.sources import DICOM_ENDING, ScanSource

NAME = "dicom-seg"
_SEGMENTATION, _MAP = ".seg.dcm", ".dcm"


@dataclass(frozen=True)
class DicomFiles(ImageFiles):
    """<name>.seg.dcm with structures, or levels where they were found, and <name>_uncertainty.dcm.

    Raises:
        RuntimeError: highdicom is not installed.
    """

    ending: str = NAME

    def __post_init__(self) -> None:
        if importlib.util.find_spec("highdicom") is None:
            raise RuntimeError(f"--format {NAME} needs highdicom: pip install 'nnunetv2-diffusion[dicom]'")

    def check(self, source: ScanSource) -> None:
        """ValueError where the scan is no DICOM series, or one that nothing can refer to."""
        if not isinstance(source.where, Series):
            raise ValueError(f"--format {NAME} needs DICOM images to refer to, and this is none: take another --format")
        check_series(source.where)

    def files(self, source: ScanSource) -> ResultFiles:
        """The levels have no file of their own: they are segments. Probabilities are an image."""
        names = named_files(source.name, DICOM_ENDING)
        segmentation, uncertainty = f"{source.name}{_SEGMENTATION}", f"{source.name}_uncertainty{_MAP}"
        return replace(names, mask=segmentation, uncertainty=uncertainty, levels="")

    def write_images(
        self, found: Segmentation, source: ScanSource, labels: Mapping[str, Any], stage: Path
    ) -> list[str]:
        """Segmentation, map, and probabilities as an image."""
        from nnunetv2_diffusion.scans.formats.dicom_objects import write_map, write_segments

        files = self.files(source)
        write_segments(found, source.where, labels, stage / files.mask)
        write_map(found, source.where, stage / files.uncertainty)
        rest = replace(found, mask=None, uncertainty=None, levels=None)
        return [files.mask, files.uncertainty, *super().write_images(rest, source, labels, stage)]
