"""NIfTI files (.nii, .nii.gz, .hdr with .img): whether they are whole, and what their two orientations say.

ITK fills what is missing with zeros. It reads either the qform or the sform and writes the one it read as both.
"""

from __future__ import annotations

import gzip
import io
import itertools
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.body import NO_IMAGE, check_length, check_raw, promised_bytes
from nnunetv2_diffusion.imaging.orientation import axes, unrecorded

if TYPE_CHECKING:
    from nibabel import Nifti1Header

TOLERANCE_MM = 0.1
_GZIP = b"\x1f\x8b"
_HEADER_BYTES, _NIFTI_2 = 348, 540
_SINGLE_FILE_OFFSET = 352
_CHUNK = 1 << 22
_RIGHT_ANGLE_TOLERANCE = 1e-4
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def check(path: Path) -> None:
    """ValueError where the file is damaged, truncated or not one that ITK reads."""
    try:
        _check(path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"it is damaged or truncated ({error}), copy it again") from error


def _check(path: Path) -> None:
    from nibabel.spatialimages import HeaderDataError

    header_file, data_file = _files(path)
    header = _header(header_file)
    try:
        bytes_per_voxel = header.get_data_dtype().itemsize
    except (HeaderDataError, KeyError) as error:
        raise ValueError(f"its header has a wrong type of voxels ({error})") from error
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7:
        raise ValueError(NO_IMAGE)
    length = promised_bytes([int(n) for n in header["dim"][1 : dimensions + 1]], bytes_per_voxel)
    offset = float(header["vox_offset"])
    if not (_SINGLE_FILE_OFFSET if header_file == data_file else 0) <= offset < 2**31:
        raise ValueError(f"its header puts its voxels at byte {offset:g}, where they cannot be")
    _check_body(data_file, int(offset), length)
    orientations = _orientations(header)
    if dimensions == 2 and _leaves_the_plane(orientations):
        raise ValueError(
            "it is a 2-D slice that its header places in three dimensions: save it as a volume of one slice"
        )


def _files(path: Path) -> tuple[Path, Path]:
    """Where the header is, and where the voxels are."""
    for ending in (".hdr", ".img", ".hdr.gz", ".img.gz"):
        if path.name.endswith(ending):
            stem, zipped = path.name.removesuffix(ending), ".gz" * ending.endswith(".gz")
            return path.with_name(f"{stem}.hdr{zipped}"), path.with_name(f"{stem}.img{zipped}")
    return path, path


def _header(file: Path) -> Nifti1Header:
    from nibabel import Nifti1Header

    with _opened(file) as stream:
        start = stream.read(_HEADER_BYTES)
    lengths = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    if _NIFTI_2 in lengths:
        raise ValueError("it is a NIfTI-2 file, and NIfTI-1 is expected: convert it")
    if len(start) < _HEADER_BYTES or _HEADER_BYTES not in lengths:
        raise ValueError(NO_IMAGE)
    return Nifti1Header.from_fileobj(io.BytesIO(start), check=False)


def _opened(file: Path) -> BinaryIO:
    """The file's content, decompressed; ValueError where there is none, or where its name hides that it is zipped."""
    if not file.is_file():
        raise ValueError(f"{file}, which belongs to it, is missing")
    with file.open("rb") as stream:
        zipped = stream.read(2) == _GZIP
    if zipped and not file.name.lower().endswith(".gz"):
        raise ValueError(f"it is gzip-compressed, but not named so: rename it to {file.name}.gz")
    return gzip.open(file) if zipped else file.open("rb")


def _check_body(file: Path, offset: int, length: int) -> None:
    """ValueError where the voxels are not all there; a compressed file is read to its end, where its checksum is."""
    with _opened(file) as stream:
        if not isinstance(stream, gzip.GzipFile):
            check_raw(file, offset, length)
            return
        found = 0
        while chunk := stream.read(_CHUNK):
            found += len(chunk)
    check_length(found - offset, length)


def _leaves_the_plane(orientations: dict[str, np.ndarray | None]) -> bool:
    """Whether the plane of a 2-D image is another one than that of the patient's x and y."""
    affines = (affine for affine in orientations.values() if affine is not None)
    return any(np.abs(affine[2, :2]).max() > _RIGHT_ANGLE_TOLERANCE for affine in affines)


def _orientations(header: Nifti1Header) -> dict[str, np.ndarray | None]:
    """The two affines (RAS, mm), each None where its code says that there is none."""
    pixdim = header["pixdim"]  # brought to what NIfTI says about zeros and signs, which nibabel insists on
    pixdim[0] = -1 if pixdim[0] < 0 else 1
    pixdim[1:4] = np.where(pixdim[1:4] == 0, 1, np.abs(pixdim[1:4]))
    try:
        found = {"qform": header.get_qform(coded=True)[0], "sform": header.get_sform(coded=True)[0]}
    except ValueError as error:
        raise ValueError(f"its qform is no rotation ({error}): restore its header") from error
    for name, affine in found.items():
        if affine is not None and not np.isfinite(affine).all():
            raise ValueError(f"its {name} holds NaN or infinity: restore its header")
    return found


def why_refused(path: Path) -> str:
    """What ITK found wrong in a file that is whole."""
    affine = _orientations(_header(_files(path)[0]))["sform"]
    if affine is not None:
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        cosines = affine[:3, :3].T @ affine[:3, :3] / np.maximum(np.outer(lengths, lengths), 1e-12)
        worst = np.abs(cosines - np.eye(3)).max()
        if worst > _RIGHT_ANGLE_TOLERANCE:
            angle = np.degrees(np.arccos(min(worst, 1.0)))
            return (
                f"its sform is sheared (axes {angle:.1f} degrees apart instead of 90): resample it to a grid of right "
                "angles"
            )
    return NO_IMAGE


def doubts(path: Path, image: sitk.Image) -> list[str]:
    """What there is to say about the place of `image`, as ITK read it from the file, in the patient; mostly nothing."""
    if image.GetDimension() < 3:
        return []
    found = _orientations(_header(_files(path)[0]))
    known = {name: affine for name, affine in found.items() if affine is not None}
    if not known or np.array_equal(next(reversed(known.values())), np.eye(4)):
        return [unrecorded(image)]  # an identity matrix is what programs write who know no orientation
    apart = _distance(known["qform"], known["sform"], image) if len(known) == 2 else 0.0
    if apart <= TOLERANCE_MM:
        return []
    name = min(known, key=lambda one: _distance(known[one], _affine(image), image))
    other = "sform" if name == "qform" else "qform"
    return [
        f"the file's qform and sform are up to {apart:.1f} mm apart: the {name} is used, and programs that read the "
        f"{other} see the results elsewhere"
    ]


def _affine(image: sitk.Image) -> np.ndarray:
    """The affine [4, 4] from voxel indices to RAS millimetres."""
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ (axes(image) * image.GetSpacing()[:3])
    affine[:3, 3] = _LPS_TO_RAS @ image.GetOrigin()[:3]
    return affine


def _distance(one: np.ndarray, other: np.ndarray, image: sitk.Image) -> float:
    """How far apart (mm) two affines put a corner of the image, at most."""
    corners = itertools.product(*((0, n - 1) for n in image.GetSize()[:3]))
    return max(float(np.linalg.norm((one - other) @ (*corner, 1))) for corner in corners)
