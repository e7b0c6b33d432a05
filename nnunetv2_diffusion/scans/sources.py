"""The scans that a path stands for: one file, a DICOM series, or a folder of either; and reading one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import SimpleITK as sitk

from nnunetv2_diffusion.imaging.reading import as_scan, read_image
from nnunetv2_diffusion.scans.dicom import (
    Series,
    choose_series,
    find_series,
    names_a_patient,
    read_series,
    series_of_file,
)

# The ending that keeps the geometry to the last digit: NIfTI stores it in single precision, and others do not.
OUTPUT_ENDINGS = {
    ".nii.gz": ".nii.gz",
    ".nii": ".nii.gz",
    ".mha": ".mha",
    ".mhd": ".mha",
    ".nrrd": ".nrrd",
    ".nhdr": ".nrrd",
}
DICOM_ENDING = ".mha"
DICOM_NAME = "dicom"
DICOM_MARK = " (DICOM)"


@dataclass(frozen=True)
class Scan:
    """A scan in memory: its volume, the 2-D image that it was made of if it was one, and warnings about it."""

    volume: sitk.Image
    plane: sitk.Image | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScanSource:
    """A scan on disk: the name of what is written for it, its own file ending, and the one for images about it."""

    name: str
    ending: str
    output_ending: str
    where: Path | Series

    @property
    def shown_name(self) -> str:
        """What the results call the scan: its file name, or the name of its DICOM series and that it is one."""
        return f"{self.name}{self.ending}" if isinstance(self.where, Series) else self.where.name

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files."""
        return (self.where,) if isinstance(self.where, Path) else tuple(map(Path, self.where.files))

    def read(self) -> Scan:
        """Read it; ValueError or FileNotFoundError, naming it, where it cannot be segmented."""
        if isinstance(self.where, Series):
            return Scan(*_volume_and_warnings(self.where))
        reading = read_image(self.where)
        plane = reading.image if reading.image.GetDimension() == 2 else None
        return Scan(as_scan(reading.image, str(self.where)), plane, reading.warnings)


def _volume_and_warnings(series: Series) -> tuple[sitk.Image, None, list[str]]:
    volume, warnings = read_series(series)
    return volume, None, warnings


def scan_from_image(image: sitk.Image) -> Scan:
    """A SimpleITK image as a scan; ValueError where it is not one grey 2-D or 3-D image."""
    return Scan(as_scan(image), image if image.GetDimension() == 2 else None)


def find_scans(path: Path, series: str | None = None) -> tuple[list[ScanSource], list[str]]:
    """The scans in a file or folder, each with a name of its own, and what there is to say about DICOM series.

    Args:
        path: an image file; or a folder of image files, of DICOM series (also in folders below), or of both.
        series: which DICOM series, see `dicom.choose_series`; None takes one of each study.

    Raises:
        FileNotFoundError: the path does not exist, or there is no scan in it.
        ValueError: no such series.
    """
    if path.is_file() and series is None:
        return [_file_source(path)], []
    if path.is_file():
        raise ValueError(f"--series {series} was given, but {path} is a file: name the folder of the DICOM series")
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist: expected a scan or a folder of scans")
    files = [_file_source(file) for file in sorted(path.iterdir()) if file.is_file() and _ending(file)]
    found = find_series(path)
    if series is not None and not found:
        raise ValueError(f"--series {series} was given, but there is no DICOM series in {path}")
    chosen, remarks = choose_series(found, series)
    sources = [*files, *(_series_source(path, s, len(chosen)) for s in chosen)]
    if not sources:
        endings = ", ".join(OUTPUT_ENDINGS)
        raise FileNotFoundError(f"there is no scan in {path}: expected {endings} files, or undamaged DICOM images")
    return _with_own_names(sources), remarks


def _ending(file: Path) -> str:
    """The file's ending among those known; empty for others and hidden files."""
    name = file.name.lower()
    known = (ending for ending in OUTPUT_ENDINGS if name.endswith(ending))
    return "" if name.startswith(".") else next(known, "")


def _file_source(file: Path) -> ScanSource:
    ending = _ending(file)
    series = None if ending else series_of_file(file)
    if series is not None:
        name = DICOM_NAME if names_a_patient(file.stem, series) else file.stem
        return ScanSource(name, DICOM_MARK, DICOM_ENDING, series)
    if not ending:
        return ScanSource(file.stem, file.suffix, ".nii.gz", file)
    return ScanSource(file.name[: -len(ending)], ending, OUTPUT_ENDINGS[ending], file)


def _series_source(root: Path, series: Series, chosen: int) -> ScanSource:
    """Named after its folder, or the way to it from the folder that was given; not where that names a patient."""
    way = series.folder.resolve().relative_to(root.resolve()).parts
    name = "_".join(way) if chosen > 1 and way else root.resolve().name
    if names_a_patient(name, series):
        name = DICOM_NAME
    return ScanSource(name, DICOM_MARK, DICOM_ENDING, series)


def _with_own_names(sources: Iterable[ScanSource]) -> list[ScanSource]:
    """Number those that share a name: scan, scan_2, scan_3, …"""
    named: dict[str, ScanSource] = {}
    for source in sources:
        name, number = source.name, 1
        while name in named:
            number += 1
            name = f"{source.name}_{number}"
        named[name] = replace(source, name=name)
    return list(named.values())
