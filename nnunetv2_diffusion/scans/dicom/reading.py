"""A stack as one volume: every slice in its place, scaled to grey values, without anything but its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.scans.dicom.frames import Frame
from nnunetv2_diffusion.scans.dicom.pixels import PixelFile
from nnunetv2_diffusion.scans.dicom.series import Series
from nnunetv2_diffusion.scans.dicom.stacks import Stack, along_normal, axes, has_gap, in_plane, same_line_mm, steps

# Steps between slices that differ by less than this share of the usual one are rounding.
_EVEN = 0.05


def read_series(series: Series) -> tuple[sitk.Image, list[str]]:
    """The volume without any tag, and warnings, which name no file and nobody.

    Slices run along the normal (row x column). Their spacing is the mean distance of their positions, never the slice
    thickness; that of a single slice is what its header says.

    Raises:
        ValueError: files are damaged or compressed in an unknown way, or do not make one scalar volume.
    """
    name = f"the DICOM series {series.label} in {series.folder}"
    if series.fault:
        raise ValueError(f"{name} cannot be segmented: {series.fault}")
    _check_straight(series.slices, name)
    gap = _gap(series.slices)
    if gap and series.unread:
        raise ValueError(f"{gap} in {name}, and {series.unread} files in {series.folder} are damaged")
    array, copies = _grey_values(series.slices, name)
    frames = [place[0] for place in series.slices]
    uneven = gap or _uneven(series.slices)
    if uneven:
        uneven += f"; they are shown at even distances, up to {_displacement(series.slices):.1f} mm from their place"
    warnings = [uneven, *series.warnings, copies]
    if any(frame.inverted for frame in frames):
        array = array.max() - array.astype(np.result_type(array, np.int32))
        warnings.append("grey values are stored inverted (MONOCHROME1), and were turned round")
    if series.unread:
        warnings.append(f"{series.unread} DICOM files of the series or beside it are damaged")
    return _volume(array, frames), [warning for warning in warnings if warning]


def _volume(array: np.ndarray, frames: Sequence[Frame]) -> sitk.Image:
    first, last = (np.array(frame.position) for frame in (frames[0], frames[-1]))
    extent = float(np.linalg.norm(last - first))
    step = extent / (len(frames) - 1) if len(frames) > 1 else frames[0].thickness or 1.0
    rows_apart, columns_apart = frames[0].spacing
    volume = sitk.GetImageFromArray(array)
    volume.SetSpacing((columns_apart, rows_apart, step))
    volume.SetOrigin(first.tolist())
    volume.SetDirection(axes(frames[0]).ravel().tolist())
    return volume


def _grey_values(slices: Stack, name: str) -> tuple[np.ndarray, str]:
    """Values [slice, row, column], and what to say of slices that come more than once.

    Raises:
        ValueError: two images of one place differ, or an image cannot be read.
    """
    planes: list[np.ndarray] = []
    repeated = 0
    # the frames of a multi-frame file share one reading of it
    opened = lru_cache(maxsize=2)(PixelFile)
    for place in slices:
        for frame in place:
            plane = _scaled(opened(frame.file).frame(frame.number), frame)
            if frame is place[0]:
                planes.append(plane)
            elif np.array_equal(plane, planes[-1]):
                repeated += 1
            else:
                raise ValueError(
                    f"{name} shows the same place by different images, and no tag tells them apart, such as "
                    f"{place[0].file} and {frame.file}: leave one of each in the folder"
                )
    return np.stack(planes), f"{repeated} images are copies of others and were left out" if repeated else ""


def _first(slices: Stack) -> list[Frame]:
    return [place[0] for place in slices]


def _scaled(stored: np.ndarray, frame: Frame) -> np.ndarray:
    slope, intercept = frame.rescale
    return stored if frame.rescale == (1.0, 0.0) else stored * slope + intercept


def _check_straight(slices: Stack, name: str) -> None:
    """ValueError where slices are shifted against each other: no grid of SimpleITK's holds such a block."""
    frames = _first(slices)
    shift = np.abs(in_plane(frames)).max()
    if shift > same_line_mm(frames[0]):
        raise ValueError(
            f"{name} is a sheared block: its slices are shifted sideways, up to {shift:.1f} mm from the first to the "
            "last; resample it to a straight one first"
        )


def _gap(slices: Stack) -> str:
    """What to say where slices are missing; empty if none is."""
    if not has_gap(slices):
        return ""
    found = steps(slices)
    return f"slices are missing: gaps of up to {found.max():.1f} mm among slices {np.median(found):.1f} mm apart"


def _uneven(slices: Stack) -> str:
    found = steps(slices)
    if len(found) < 2 or np.abs(found - np.median(found)).max() <= _EVEN * np.median(found):
        return ""
    return f"slices are not equally far apart: {found.min():.2f} to {found.max():.2f} mm"


def _displacement(slices: Stack) -> float:
    """How far a slice lies from where a volume of even steps shows it, in mm."""
    heights = along_normal(_first(slices))
    return float(np.abs(heights - np.linspace(heights[0], heights[-1], len(heights))).max())
