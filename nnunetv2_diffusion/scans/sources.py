"""The scans that a path stands for: one file, a DICOM series, or a folder of either; and reading one of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from nnunetv2_diffusion.imaging.reading import as_scan, read_image
from nnunetv2_diffusion.nnunet_names import CONVERSION
from nnunetv2_diffusion.scans import dicom

if TYPE_CHECKING:
    from nnunetv2_diffusion.scans.dicom import Series

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
_BIDS_CONTRAST = re.compile(r"_(T[12])w(?=[_.]|$)")


@dataclass(frozen=True)
class Scan:
    """A scan in memory: its volume, the 2-D image that it was made of if it was one, and warnings about it."""

    volume: sitk.Image
    plane: sitk.Image | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ScanSource:
    """A scan on disk: the name of what is written for it, its own file ending, and the one for images about it.

    `fault` says why it cannot be read where that is known before, `doubt` what is to be said of it when it is.
    """

    name: str
    ending: str
    output_ending: str
    where: Path | Series
    fault: str = ""
    doubt: str = ""

    @property
    def shown_name(self) -> str:
        """What the results call the scan: its file name, or the name of its DICOM series and that it is one."""
        return self.where.name if isinstance(self.where, Path) else f"{self.name}{self.ending}"

    @property
    def contrast(self) -> str:
        """ "T1" or "T2" where its DICOM headers or a name as in BIDS (sub-01_T2w.nii.gz) say so, else empty."""
        if not isinstance(self.where, Path):
            return self.where.contrast
        named = _BIDS_CONTRAST.search(self.where.name)
        return named[1] if named else ""

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files."""
        return (self.where,) if isinstance(self.where, Path) else tuple(map(Path, self.where.files))

    def read(self) -> Scan:
        """Read it; ValueError or FileNotFoundError, naming it, where it cannot be segmented."""
        if self.fault:
            raise FileNotFoundError(self.fault)
        if not isinstance(self.where, Path):
            return Scan(*_volume_and_warnings(self.where))
        reading = read_image(self.where)
        plane = reading.image if reading.image.GetDimension() == 2 else None
        warnings = [*reading.warnings, *filter(None, [self.doubt])]
        return Scan(as_scan(reading.image, str(self.where)), plane, warnings)


def _volume_and_warnings(series: Series) -> tuple[sitk.Image, None, list[str]]:
    volume, warnings = dicom.read_series(series)
    return volume, None, warnings


def scan_from_image(image: sitk.Image) -> Scan:
    """A SimpleITK image as a scan; ValueError where it is not one grey 2-D or 3-D image."""
    return Scan(as_scan(image), image if image.GetDimension() == 2 else None)


def trained_contrasts(dataset: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The contrasts, "T1" and "T2", of a model's training images from its dataset.json; None where it does not say."""
    modality = (dataset.get(CONVERSION) or {}).get("modality")
    return tuple(re.findall(r"T[12](?=w)", str(modality))) or None


def find_scans(
    path: Path, series: str | None = None, contrasts: tuple[str, ...] | None = None, progress: bool = False
) -> tuple[list[ScanSource], list[str]]:
    """The scans in a file or folder, each with a name of its own, and what there is to say about DICOM series.

    Args:
        path: an image file; a DICOMDIR; or a folder of image files, of DICOM series (also in folders below), or of
            both.
        series: which DICOM series, see `dicom.choose_series`; None takes one of each study.
        contrasts: that the model was trained on, see `trained_contrasts`; None for any.
        progress: show a bar in a terminal where reading DICOM headers takes long.

    Raises:
        FileNotFoundError: the path does not exist, or there is no scan in it.
        ValueError: no such series, or the one file that was named is damaged.
    """
    if dicom.is_index(path):
        return _in_index(path, series, contrasts, progress)
    if path.is_file():
        return doubted(_in_file(path, series, contrasts), contrasts), []
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist: expected a scan or a folder of scans")
    files = [_file_source(file) for file in sorted(path.iterdir()) if file.is_file() and _ending(file)]
    found = dicom.find_series(path, progress)
    if series is not None and not found:
        raise ValueError(f"--series {series} was given, but there is no DICOM series in {path}")
    chosen, remarks = dicom.choose_series(found, series, contrasts)
    sources = [*files, *_broken_links(path, found), *(_series_source(path, s, len(chosen)) for s in chosen)]
    if not sources:
        endings = ", ".join(OUTPUT_ENDINGS)
        links = dicom.dangling_links(path)
        lost = f"; {links[0]} is a link to nothing" if links else ""
        raise FileNotFoundError(
            f"there is no scan in {path}: expected {endings} files, or undamaged DICOM images{lost}"
        )
    return doubted(_with_own_names(sources), contrasts), remarks


def doubted(sources: Iterable[ScanSource], contrasts: tuple[str, ...] | None) -> list[ScanSource]:
    """Image files whose names tell another contrast than the model's get a doubt; series have theirs already."""
    return [
        replace(
            source, doubt=f"its name says {source.contrast}, but the model was trained on {' and '.join(contrasts)}"
        )
        if contrasts and isinstance(source.where, Path) and source.contrast not in ("", *contrasts)
        else source
        for source in sources
    ]


def _in_file(file: Path, series: str | None, contrasts: tuple[str, ...] | None) -> list[ScanSource]:
    """The scan in a file; of one that holds several stacks the best one, or those that were asked for."""
    found = [] if _ending(file) else dicom.series_of_file(file)
    if series is not None and not found:
        raise ValueError(f"--series {series} was given, but {file} is a file: name the folder of the DICOM series")
    if not found:
        return [_file_source(file)]
    chosen, _ = dicom.choose_series(found, series, contrasts)
    name = DICOM_NAME if any(dicom.names_a_patient(file.stem, s) for s in chosen) else _printable(file.stem)
    return _with_own_names(ScanSource(name, DICOM_MARK, DICOM_ENDING, s) for s in chosen)


def _in_index(
    index: Path, wanted: str | None, contrasts: tuple[str, ...] | None, progress: bool
) -> tuple[list[ScanSource], list[str]]:
    """The scans among the files that a DICOMDIR lists."""
    files, missing = dicom.indexed_files(index)
    chosen, remarks = dicom.choose_series(dicom.find_series(index.parent, progress, files), wanted, contrasts)
    if not chosen:
        lost = f"; of those that it lists, {missing} are missing" if missing else ""
        raise FileNotFoundError(f"there is no scan in {index}: expected undamaged DICOM images that it lists{lost}")
    if missing:
        remarks.append(f"of the files that {index} lists, {missing} are missing")
    return _with_own_names(_series_source(index.parent, series, len(chosen)) for series in chosen), remarks


def _broken_links(root: Path, found: Sequence[Series]) -> list[ScanSource]:
    """A source that fails for each link to nothing that is named as an image, or lies among those of a series.

    Those in a folder of DICOM files count as one: an archive that keeps files elsewhere leaves a link for every slice.
    """
    folders = {Path(file).parent for series in found for file in series.files}
    single, of_dicom = [], {}
    for link in dicom.dangling_links(root):
        if link.parent == root and _ending(link):
            single.append(_broken(link, 1))
        elif link.suffix.lower() in dicom.DICOM_SUFFIXES or link.parent in folders:
            of_dicom.setdefault(link.parent, []).append(link)
    return [*single, *(_broken(links[0], len(links)) for links in of_dicom.values())]


def _broken(link: Path, links: int) -> ScanSource:
    others = f" (and {links - 1} more in its folder)" if links > 1 else ""
    fault = f"{link}{others} is a link to a file that does not exist: copy the file itself, or mount where it lies"
    return ScanSource(link.stem, link.suffix, DICOM_ENDING, link, fault)


def _ending(file: Path) -> str:
    """The file's ending among those known; empty for others and hidden files."""
    name = file.name.lower()
    known = (ending for ending in OUTPUT_ENDINGS if name.endswith(ending))
    return "" if name.startswith(".") else next(known, "")


def _file_source(file: Path) -> ScanSource:
    ending = _ending(file)
    if not ending:
        return ScanSource(file.stem, file.suffix, ".nii.gz", file)
    return ScanSource(file.name[: -len(ending)], ending, OUTPUT_ENDINGS[ending], file)


def _series_source(root: Path, series: Series, chosen: int) -> ScanSource:
    """Named after its folder, or the way to it from the folder that was given; not where that names a patient."""
    way = series.folder.relative_to(root).parts
    name = "_".join(way) if chosen > 1 and way else root.resolve().name
    name = DICOM_NAME if dicom.names_a_patient(name, series) else _printable(name)
    return ScanSource(name, DICOM_MARK, DICOM_ENDING, series)


def _printable(name: str) -> str:
    """A name that SimpleITK can write: bytes of a folder's name that are no UTF-8 become underscores."""
    return os.fsencode(name).decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "_")


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
