"""Sorts frames into stacks by their geometry alone: one orientation, one kind of frame, each place once.

Neither the order of files, their names nor their number says anything. Frames come in any order; the stacks do not
depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np

from nnunetv2_diffusion.scans.dicom.frames import KINDS, RUNS, Frame

# Places of a stack along its normal, in order; more than one frame at a place shows the same slice again.
Stack = tuple[tuple[Frame, ...], ...]

# Rounding: direction cosines and pixel spacings that differ by less are one (0.1 degrees, 2 micrometres); positions
# along the normal that differ by less are one place.
PARALLEL = 2e-3
SAME_PLACE_MM = 0.1
# A slice belongs to a stack where its corner lies within half a pixel of the line along the normal.
SAME_LINE_PIXELS = 0.5
# A step between neighbours of so many usual ones means that slices are missing.
UNEVEN = 1.5
_DIGITS = 16


def stacks(frames: Iterable[Frame]) -> list[Stack]:
    """The stacks in the frames of one series, the largest first; frames without a place make stacks of their own."""
    ordered = sorted(frames, key=_canonical)
    groups = _groups(ordered, lambda f: (f.placed, f.grey, f.size))
    groups = [part for group in groups for part in _clusters(group, _directions, PARALLEL)]
    for number in range(len(KINDS)):
        groups = [part for group in groups for part in _by_kind(group, number)]
    placed = [part for group in groups if group[0].placed for part in _lines(group)]
    placed = [part for group in placed for part in _runs(group)]
    placed = [part for group in placed for part in _blocks(group)]
    found = [places(group) for group in placed]
    found += [tuple((frame,) for frame in group) for group in groups if not group[0].placed]
    return sorted(found, key=lambda stack: (-len(stack), _by_number(stack[0][0]), _canonical(stack[0][0])))


def places(group: Sequence[Frame]) -> Stack:
    """Frames of one orientation in order along its normal, those at one place together."""
    heights = along_normal(group)
    found: list[list[Frame]] = []
    last = -np.inf
    for index in np.argsort(heights, kind="stable"):
        if heights[index] - last > SAME_PLACE_MM:
            found.append([])
            last = heights[index]
        found[-1].append(group[index])
    return tuple(map(tuple, found))


def axes(frame: Frame) -> np.ndarray:
    """Directions of a row, a column and the normal as the columns of a right-handed rotation; rounding removed."""
    row, column = np.reshape(frame.orientation, (2, 3))
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    row = np.cross(column, normal)
    row /= np.linalg.norm(row)
    return np.column_stack([row, np.cross(normal, row), normal])


def along_normal(frames: Sequence[Frame]) -> np.ndarray:
    """Where frames lie along the normal of the first, in mm [n]."""
    return np.array([frame.position for frame in frames]) @ axes(frames[0])[:, 2]


def in_plane(frames: Sequence[Frame]) -> np.ndarray:
    """Where the corners of frames lie in the plane of the first, in mm from its own corner [n, 2]."""
    offsets = np.array([frame.position for frame in frames]) - np.array(frames[0].position)
    return offsets @ axes(frames[0])[:, :2]


def same_line_mm(frame: Frame) -> float:
    """How far the corner of a slice may lie from the line of its stack."""
    return SAME_LINE_PIXELS * min(frame.spacing)


def is_copy(a: Frame, b: Frame) -> bool:
    """Whether two frames are one and the same, by the name that every image has of its own."""
    return bool(a.instance) and (a.instance, a.number) == (b.instance, b.number)


def _canonical(frame: Frame) -> tuple:
    return (frame.orientation or (), frame.position or (), frame.kinds, frame.runs, frame.instance, frame.number,
            frame.file)  # fmt: skip


def _by_number(frame: Frame) -> list[str]:
    """Kinds and runs, such that a second echo comes before a tenth one."""
    return [value.rjust(_DIGITS) for value in (*frame.kinds, *frame.runs)]


def _directions(frame: Frame) -> np.ndarray:
    return np.array((*frame.orientation, *frame.spacing)) if frame.placed else np.zeros(1)


def _groups(frames: Iterable[Frame], key: Callable[[Frame], object]) -> list[list[Frame]]:
    found: dict[object, list[Frame]] = {}
    for frame in frames:
        found.setdefault(key(frame), []).append(frame)
    return list(found.values())


def _clusters(frames: Iterable[Frame], vector: Callable[[Frame], np.ndarray], tolerance: float) -> list[list[Frame]]:
    """Frames whose vectors are, number by number, within the tolerance of the first of their cluster."""
    found: list[tuple[np.ndarray, list[Frame]]] = []
    for frame in frames:
        own = vector(frame)
        near = (members for first, members in found if np.abs(own - first).max() <= tolerance)
        members = next(near, None)
        if members is None:
            found.append((own, [frame]))
        else:
            members.append(frame)
    return [members for _, members in found]


def _by_kind(group: list[Frame], number: int) -> list[list[Frame]]:
    """Parts of one value of a kind; the whole where the value numbers the frames rather than tells their kind."""
    parts = _groups(group, lambda f: f.kinds[number])
    return [group] if _numbers_frames(parts, group) else parts


def _numbers_frames(parts: Sequence[Sequence[Frame]], group: Sequence[Frame]) -> bool:
    return len(parts) == len(group) > 2 and len({frame.position for frame in group}) > 1


def _lines(group: list[Frame]) -> list[list[Frame]]:
    """Parts whose slices lie behind each other; the whole where they are shifted evenly, as in a sheared block."""
    tolerance = same_line_mm(group[0])
    offsets = in_plane(group)
    if np.abs(offsets).max() <= tolerance or _is_sheared(along_normal(group), offsets, tolerance):
        return [group]
    nearest = {id(frame): offset for frame, offset in zip(group, offsets, strict=True)}
    return _clusters(group, lambda frame: nearest[id(frame)], tolerance)


def _is_sheared(heights: np.ndarray, offsets: np.ndarray, tolerance: float) -> bool:
    if len(np.unique(np.round(heights, 2))) < 3:
        return False
    design = np.column_stack([heights, np.ones(len(heights))])
    fitted, *_ = np.linalg.lstsq(design, offsets, rcond=None)
    return bool(np.abs(design @ fitted - offsets).max() <= tolerance)


def _repeats(group: Sequence[Frame]) -> int:
    """How many frames show a place that another one shows already; copies of one frame do not count."""
    return sum(len(place) - 1 - _copies(place) for place in places(group))


def _copies(place: Sequence[Frame]) -> int:
    return sum(any(is_copy(frame, other) for other in place[:index]) for index, frame in enumerate(place))


def _runs(group: list[Frame]) -> list[list[Frame]]:
    """Parts in which no place comes twice, by the first of RUNS that makes fewer places come again."""
    repeats = _repeats(group)
    for number in range(len(RUNS) if repeats else 0):
        parts = _groups(group, lambda f: f.runs[number])  # noqa: B023 - used before the next turn
        if not _numbers_frames(parts, group) and sum(map(_repeats, parts)) < repeats:
            return [part for whole in parts for part in _runs(whole)]
    return [group]


def _blocks(group: list[Frame]) -> list[list[Frame]]:
    """Blocks of parallel slices one behind the other, each an acquisition of its own with even steps."""
    parts = _groups(group, lambda f: f.runs[0])
    if len(parts) == 1 or not has_gap(places(group)):
        return [group]
    normal = axes(group[0])[:, 2]
    heights = [sorted(np.array(frame.position) @ normal for frame in part) for part in parts]
    apart = all(a[-1] < b[0] for a, b in pairwise(sorted(heights)))
    whole = all(len(part) > 1 and not has_gap(places(part)) for part in parts)
    return parts if apart and whole else [group]


def steps(stack: Stack) -> np.ndarray:
    """Distances in mm between neighbours along the normal [n - 1]."""
    return np.diff(along_normal([place[0] for place in stack]))


def has_gap(stack: Stack) -> bool:
    """Whether slices are missing between others."""
    found = steps(stack)
    return len(found) > 1 and bool(found.max() > UNEVEN * np.median(found))
