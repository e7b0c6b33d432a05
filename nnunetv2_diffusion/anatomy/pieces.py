"""The pieces of one structure in a mask, with their place along the spine; merged bodies parted, broken ones joined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter1d, label
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

# In body heights, unless said otherwise.
GAP = 0.3  # between two bodies
MERGED = 1.55  # higher than that, a piece is more than one body
_JOINED = 1.3  # two pieces that together are no higher are one body
_CRACK = 5.0  # mm, the widest crack in a body
_SQUARE = 0.8  # a body's height over its depth where no body tells
_SCRAP = 0.12  # share of a body's area below which a piece is none
_CUT_SCRAP = 4.0  # mm2, the same where the slice's edge cuts it
_NECK = 0.3  # how far from its expected place two bodies are parted


@dataclass(frozen=True)
class Piece:
    """A connected part of a structure.

    Attributes:
        mask: bool [z, y].
        low, high: its extent in mm along the centreline, less a fiftieth of its pixels at each end.
        along, before: its centre in the centreline's coordinates, mm.
        depth: its extent across the centreline, mm.
        area: mm2.
        below, above: whether the slice's lower or upper edge cuts it.
    """

    mask: np.ndarray
    low: float
    high: float
    along: float
    before: float
    depth: float
    area: float
    below: bool
    above: bool

    @property
    def height(self) -> float:
        """Its extent along the centreline, mm."""
        return self.high - self.low

    @property
    def cut(self) -> bool:
        """Whether the slice's lower or upper edge cuts it."""
        return self.below or self.above


@dataclass(frozen=True)
class Places:
    """Where each pixel lies: centreline coordinates [z, y] in mm, and the area of a pixel in mm2."""

    along: np.ndarray
    before: np.ndarray
    pixel: float

    def piece(self, mask: np.ndarray) -> Piece:
        """The description of a mask, which must not be empty."""
        along, before = self.along[mask], self.before[mask]
        low, high = np.percentile(along, (2, 98))
        front, back = np.percentile(before, (96, 4))
        return Piece(
            mask=mask,
            low=float(low),
            high=float(high),
            along=float(along.mean()),
            before=float(before.mean()),
            depth=float(front - back),
            area=float(mask.sum() * self.pixel),
            below=bool(mask[0].any()),
            above=bool(mask[-1].any()),
        )

    def pieces(self, mask: np.ndarray) -> list[Piece]:
        """The connected pieces of a mask, from below upwards; pixels that touch at a corner alone are apart."""
        numbers, count = label(mask)
        return sorted((self.piece(numbers == n) for n in range(1, count + 1)), key=lambda piece: piece.along)


@dataclass(frozen=True)
class Bodies:
    """Vertebral bodies from below upwards, their usual height in mm, scraps that are none, and remarks.

    `parted` and `joined` hold the indices of the bodies that came of it.
    """

    bodies: list[Piece]
    height: float
    scraps: list[Piece]
    parted: frozenset[int] = frozenset()
    joined: frozenset[int] = frozenset()


def find_bodies(vertebrae: np.ndarray, discs: np.ndarray, places: Places) -> Bodies:
    """The bodies among the vertebrae's pixels before the canal.

    Args:
        vertebrae: bool [z, y], of the side before the canal alone.
        discs: bool [z, y].
        places: where the pixels lie.
    """
    found = places.pieces(vertebrae)
    if not found:
        return Bodies([], 0.0, [])
    height, area = _usual_size(found)
    parts: list[tuple[Piece, bool]] = []
    for piece in found:
        split = _part(piece, height, discs, places)
        parts += [(part, len(split) > 1) for part in split]
    height, area = _usual_size([part for part, _ in parts])
    parts.sort(key=lambda part: part[0].along)
    pieces, joined = _join([piece for piece, _ in parts], height, area, discs, places)
    largest = max(piece.area for piece in pieces)
    column = float(np.median([piece.before for piece in pieces if piece.area >= 0.5 * largest]))
    kept = [piece for piece in pieces if _is_body(piece, area, column)]
    cut_apart = [piece.mask for piece, was_parted in parts if was_parted]
    return Bodies(
        kept,
        height,
        [piece for piece in pieces if not any(piece is other for other in kept)],
        frozenset(n for n, piece in enumerate(kept) if any((piece.mask & mask).any() for mask in cut_apart)),
        frozenset(n for n, piece in enumerate(kept) if any(piece is other for other in joined)),
    )


def _usual_size(pieces: list[Piece]) -> tuple[float, float]:
    """Height in mm and area in mm2 of a usual body: the median of those that look like one."""
    largest = max(piece.area for piece in pieces)
    depth = float(np.median([piece.depth for piece in pieces if piece.area >= 0.25 * largest]))
    whole = [p for p in pieces if not p.cut and p.area >= 0.25 * largest and 0.4 * depth < p.height < 1.3 * depth]
    if not whole:
        return _SQUARE * depth, _SQUARE * depth**2
    return float(np.median([piece.height for piece in whole])), float(np.median([piece.area for piece in whole]))


def _is_body(piece: Piece, area: float, column: float) -> bool:
    if abs(piece.before - column) > 0.9 * np.sqrt(area):
        return False
    return piece.area >= (_CUT_SCRAP if piece.cut else _SCRAP * area)


def _part(piece: Piece, height: float, discs: np.ndarray, places: Places) -> list[Piece]:
    """A piece cut at its necks into as many bodies as it is high; one that is no higher than a body stays whole."""
    if piece.height < MERGED * height:
        return [piece]
    count = max(2, round((piece.height + GAP * height) / (height * (1 + GAP))))
    depth = distance_transform_edt(piece.mask)
    ways = []
    for markers in (_markers_between_necks(piece, count, height, discs, places), _deepest(piece, depth, count)):
        if len(np.unique(markers)) == count + 1:
            parts = watershed(-depth, markers, mask=piece.mask)
            if np.bincount(parts[piece.mask], minlength=count + 1)[1:].min() > 0.4 * piece.mask.sum() / count:
                ways.append(parts)
    if not ways:
        return [piece]
    parts = min(ways, key=_length_of_cuts)
    return [places.piece(parts == n) for n in range(1, count + 1)]


def _markers_between_necks(piece: Piece, count: int, height: float, discs: np.ndarray, places: Places) -> np.ndarray:
    """int [z, y]: 1, 2, … well between the necks, 0 elsewhere."""
    cuts = _necks(piece, count, height, discs, places)
    core = np.abs(places.along[..., None] - cuts).min(axis=-1) > 0.2 * height
    return np.where(piece.mask & core, np.searchsorted(cuts, places.along) + 1, 0)


def _deepest(piece: Piece, depth: np.ndarray, count: int) -> np.ndarray:
    """int [z, y]: 1, 2, … at the `count` deepest places that lie apart, 0 elsewhere: for bodies at an angle."""
    apart = max(1, int(0.7 * depth.max()))
    markers = np.zeros(depth.shape, int)
    for n, place in enumerate(peak_local_max(depth, min_distance=apart, num_peaks=count, exclude_border=False)):
        markers[tuple(place)] = n + 1
    return markers


def _length_of_cuts(parts: np.ndarray) -> int:
    """Number of neighbouring pixels that belong to different parts."""
    pairs = ((parts[1:], parts[:-1]), (parts[:, 1:], parts[:, :-1]))
    return sum(int(((one != other) & (one > 0) & (other > 0)).sum()) for one, other in pairs)


def _necks(piece: Piece, count: int, height: float, discs: np.ndarray, places: Places) -> np.ndarray:
    """mm along the centreline of the `count` - 1 cuts: where the piece is narrow and a disc lies in or beside it."""
    grid = np.arange(piece.low, piece.high, 0.5)
    edges = np.append(grid - 0.25, grid[-1] + 0.25)
    beside = discs & (np.abs(places.before - piece.before) < 0.6 * piece.depth)
    width, disc = (np.histogram(places.along[mask], edges)[0] for mask in (piece.mask, beside))
    score = gaussian_filter1d((width - disc).astype(float), 3.0) / max(np.median(width), 1.0)
    cuts = []
    for n in range(1, count):
        expected = piece.low + n * piece.height / count
        far = np.abs(grid - expected) / height
        cuts.append(grid[np.argmin(score + 0.3 * far + 10.0 * (far > _NECK))])
    return np.array(cuts)


def _join(
    pieces: list[Piece], height: float, area: float, discs: np.ndarray, places: Places
) -> tuple[list[Piece], list[Piece]]:
    """Neighbours that are one body made one, again and again; the pieces, and those that came of joining."""
    pieces, joined = list(pieces), []
    n = 0
    while n + 1 < len(pieces):
        if _are_one(pieces[n], pieces[n + 1], height, area, discs, places):
            one = places.piece(pieces[n].mask | pieces[n + 1].mask)
            joined = [*(p for p in joined if p is not pieces[n] and p is not pieces[n + 1]), one]
            pieces[n : n + 2] = [one]
            n = max(0, n - 1)
        else:
            n += 1
    return pieces, joined


def _are_one(lower: Piece, upper: Piece, height: float, area: float, discs: np.ndarray, places: Places) -> bool:
    low, high = min(lower.low, upper.low), max(lower.high, upper.high)
    if high - low > _JOINED * height or min(lower.area, upper.area) > 0.75 * area:
        return False
    if upper.low - lower.high > _CRACK or abs(lower.before - upper.before) > lower.depth + upper.depth:
        return False
    between = discs & (places.along > lower.along) & (places.along < upper.along)
    between &= np.abs(places.before - (lower.before + upper.before) / 2) < 0.5 * max(lower.depth, upper.depth)
    return between.sum() * places.pixel < 0.05 * area
