"""Spinous processes, behind the canal, given to the vertebra that they belong to."""

from __future__ import annotations

import numpy as np

from nnunetv2_diffusion.anatomy.pieces import GAP, Piece, Places

_HANGING = 0.35  # body heights by which a process' centre lies below its body's
_KISSING = 1.6  # body heights from which on a piece is more than one process
_SCRAP = 15.0  # mm2


def number_processes(
    behind: np.ndarray, bodies: dict[int, Piece], height: float, places: Places
) -> dict[int, np.ndarray]:
    """Number -> mask [z, y] of the spinous processes seen.

    One that lies above the highest body in view belongs to a vertebra of which nothing else is seen, and gets the next
    number.

    Args:
        behind: bool [z, y], the vertebrae's pixels behind the canal.
        bodies: number -> body.
        height: of a usual body, mm.
        places: where the pixels lie.
    """
    found: dict[int, np.ndarray] = {}
    if not bodies:
        return found
    numbers, centres = _expected(bodies, height)
    for piece in places.pieces(behind):
        if piece.area < _SCRAP and not piece.cut:
            continue
        whole = np.full(piece.mask.shape, piece.along)
        along = places.along if piece.height > _KISSING * height else whole
        nearest = numbers[np.abs(along[piece.mask][:, None] - centres).argmin(axis=1)]
        if piece.above and nearest.max() == max(bodies) and max(bodies) in found:
            nearest = np.full_like(nearest, max(bodies) + 1)  # its centre seems low, being cut
        for number in np.unique(nearest):
            mask = np.zeros_like(piece.mask)
            mask[piece.mask] = nearest == number
            found[int(number)] = found.get(int(number), np.zeros_like(mask)) | mask
    return found


def _expected(bodies: dict[int, Piece], height: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers, and where along the centreline their processes' centres are expected, one above the highest body too."""
    centres = {}
    for number, piece in bodies.items():
        middle = piece.along
        if piece.above and not piece.below:
            middle = max(middle, piece.low + height / 2)
        if piece.below and not piece.above:
            middle = min(middle, piece.high - height / 2)
        centres[number] = middle - _HANGING * height
    highest = max(bodies)
    centres[highest + 1] = centres[highest] + height * (1 + GAP)
    return np.array(list(centres)), np.array(list(centres.values()))
