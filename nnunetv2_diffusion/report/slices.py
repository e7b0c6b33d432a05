"""One slice of a case as a picture: which one shows most, turned upright, cropped and thinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunetv2_diffusion.imaging.volumes import Volume

LONGEST_SIDE = 400


@dataclass(frozen=True)
class Slice:
    """How to cut the picture of a case out of its volumes: slice axis and index, cropped and thinned.

    Volumes are brought to superior first, anterior left (sagittal), patient's right on the left (coronal, axial).
    """

    axis: int | None
    index: int
    crop: tuple[slice, slice]

    def cut(self, volume: Volume) -> np.ndarray:
        """The picture `[rows, columns]` of a volume on the same grid."""
        return _plane(volume, self.axis, self.index)[self.crop]

    def aspect(self, volume: Volume) -> float:
        """Width over height in mm of the picture of a volume."""
        spacing = volume.spacing if self.axis is None else np.delete(_to_lps(volume)[1], self.axis)
        rows, columns = self.cut(volume).shape
        return round(float(columns * spacing[1] / (rows * spacing[0])), 4)


def choose_slice(reference: Volume, masks: Sequence[Volume], image: Volume | None) -> Slice:
    """The slice with most of the reference in it, cropped to what the image and the masks hold.

    The slice axis is an axis of length one, else the one of the largest spacing, as nnU-Net takes it.
    """
    if reference.array.ndim == 2:
        axis, index = None, 0
    else:
        oriented, spacing = _to_lps(reference)
        axis = int(np.argmin(oriented.shape)) if 1 in oriented.shape else int(np.argmax(spacing))
        others = tuple(other for other in range(3) if other != axis)
        area = (oriented > 0).sum(axis=others)
        index = int(area.argmax()) if area.any() else oriented.shape[axis] // 2
    content = np.zeros(_plane(reference, axis, index).shape, dtype=bool)
    for volume in (reference, *masks, *([image] if image else [])):
        content |= _plane(volume, axis, index) > 0
    rows, columns = (np.flatnonzero(content.any(axis=other)) for other in (1, 0))
    box = [
        (used[0], used[-1] + 1) if used.size else (0, n) for used, n in zip((rows, columns), content.shape, strict=True)
    ]
    thin = -(-max(stop - start for start, stop in box) // LONGEST_SIDE)
    return Slice(axis, index, tuple(slice(int(start), int(stop), thin) for start, stop in box))


def _plane(volume: Volume, axis: int | None, index: int) -> np.ndarray:
    if axis is None:
        return volume.array
    plane = np.take(_to_lps(volume)[0], index, axis=axis)
    return plane if axis == 0 else plane[::-1]


def _to_lps(volume: Volume) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array and spacing with the axes superior, posterior, left (each increasing that way)."""
    letters = (volume.orientation or "LPS")[::-1]
    order = [next(axis for axis, letter in enumerate(letters) if letter in pair) for pair in ("SI", "PA", "LR")]
    array = volume.array.transpose(order)
    flips = tuple(axis for axis, source in enumerate(order) if letters[source] in "IAR")
    return np.flip(array, flips), tuple(volume.spacing[source] for source in order)
