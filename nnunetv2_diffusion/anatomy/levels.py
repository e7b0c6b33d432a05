"""Vertebrae, discs and canal of a mid-sagittal slice by level: SPIDER's numbers, names, and doubts about the count."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nnunetv2_diffusion.anatomy.centreline import Centreline, centreline, foremost
from nnunetv2_diffusion.anatomy.counting import Count, count_levels
from nnunetv2_diffusion.anatomy.pieces import Piece, Places, find_bodies
from nnunetv2_diffusion.anatomy.processes import number_processes
from nnunetv2_diffusion.anatomy.structures import SpineSlice
from nnunetv2_diffusion.measures import disc_name, vertebra_name
from nnunetv2_diffusion.spider import CANAL_VALUE, FIRST_DISC, PARTLY_VISIBLE

_MARGIN = 12.0  # mm from the lowest body to the slice's edge, within which another vertebra may lie outside


@dataclass(frozen=True)
class Levels:
    """What was found in a slice, by level.

    Attributes:
        labels: uint8 [z, y] in SPIDER's numbering: vertebrae 1, 2, … from the lowest, 101, 102, … where the slice's
            edge cuts them, discs 201, 202, …, canal 100; 0 where nothing is, or what belongs to no level.
        bodies: number -> mask [z, y] of a vertebra's body, without its spinous process.
        discs: number, 1 for L5/S1 -> mask [z, y].
        cut: numbers of the vertebrae that the slice's edge cuts.
        line: the canal's middle, or what stands in for it.
        remarks: level's name -> what was done to it.
        doubts: why the count may be wrong; empty where nothing speaks against it.
        scraps: pieces that belong to no level, in mm2.
    """

    labels: np.ndarray
    bodies: dict[int, np.ndarray]
    discs: dict[int, np.ndarray]
    cut: frozenset[int]
    line: Centreline
    remarks: dict[str, list[str]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    scraps: list[float] = field(default_factory=list)


def find_levels(spine: SpineSlice) -> Levels:
    """Number the vertebrae and discs of a slice from the lowest one upwards, along the canal.

    The lowest vertebra found counts as L5. Whether a patient has four or six lumbar vertebrae cannot be known from a
    lumbar field of view, so a transitional vertebra shifts all names without a doubt being said.

    Raises:
        ValueError: no vertebrae and no discs, or structures that do not lie as in a sagittal slice.
    """
    canal, vertebrae, discs = (one > 0.5 for one in (spine.canal, spine.vertebrae, spine.discs))
    if not vertebrae.any() and not discs.any():
        raise ValueError("the slice shows neither vertebrae nor discs")
    line = centreline(canal, vertebrae, discs, spine.spacing)
    places = _places(line, vertebrae | discs, spine.spacing)
    bodies = vertebrae & (places.before > 0) if line.of_canal else foremost(vertebrae)
    found = find_bodies(bodies, discs, places)
    disc_pieces = places.pieces(discs)
    _check_meaning(found.bodies, disc_pieces, vertebrae, canal, places)
    count = count_levels(found, disc_pieces, discs_are_labelled=bool(discs.any()), places=places)
    processes = number_processes(vertebrae & ~bodies, count.bodies, found.height, places)
    cut = frozenset(n for n, piece in count.bodies.items() if piece.cut) | frozenset(
        n for n, mask in processes.items() if mask[-1].any() or mask[0].any() or n not in count.bodies
    )
    labels = _paint(canal, count, processes, cut)
    remarks = {name: list(texts) for name, texts in count.remarks.items()}
    for n, piece in count.bodies.items():
        if piece.cut:
            remarks.setdefault(vertebra_name(n), []).append("cut by the edge of the image")
    return Levels(
        labels,
        {n: piece.mask for n, piece in sorted(count.bodies.items())},
        {n: piece.mask for n, piece in sorted(count.discs.items())},
        cut,
        line,
        remarks,
        [*_edge_doubts(count, spine.spacing), *count.doubts],
        [piece.area for piece in (*found.scraps, *count.scraps)],
    )


def _places(line: Centreline, structures: np.ndarray, spacing: tuple[float, float]) -> Places:
    """Centreline coordinates of the structures' pixels; elsewhere, where nobody asks and they cost time, NaN."""
    along, before = (np.full(structures.shape, np.nan) for _ in range(2))
    along[structures], before[structures] = line.coordinates(np.argwhere(structures) * spacing)
    return Places(along, before, float(np.prod(spacing)))


def _check_meaning(
    bodies: list[Piece], discs: list[Piece], vertebrae: np.ndarray, canal: np.ndarray, places: Places
) -> None:
    """ValueError where sizes or sides are not a spine's: a flipped slice, or labels of another meaning."""
    if discs and bodies and np.median([disc.area for disc in discs]) > np.median([body.area for body in bodies]):
        raise ValueError("the discs are larger than the vertebrae: are their labels exchanged?")
    before = sum(body.area for body in bodies)
    if canal.any() and vertebrae.any() and before < 0.5 * vertebrae.sum() * places.pixel:
        raise ValueError(
            "most of the vertebrae lie behind the canal: expected the canal's, vertebrae's and discs' own labels, in a "
            "sagittal slice with its anterior side known"
        )


def _paint(canal: np.ndarray, count: Count, processes: dict[int, np.ndarray], cut: frozenset[int]) -> np.ndarray:
    labels = np.where(canal, CANAL_VALUE, 0).astype(np.uint8)
    for n, piece in count.discs.items():
        labels[piece.mask] = FIRST_DISC + n - 1
    masks = [*((n, piece.mask) for n, piece in count.bodies.items()), *processes.items()]
    for n, mask in masks:
        labels[mask] = n + PARTLY_VISIBLE * (n in cut)
    return labels


def _edge_doubts(count: Count, spacing: tuple[float, float]) -> list[str]:
    """Why the lowest structure found may not be the lowest one of the lumbar spine."""
    lowest = min((*count.bodies.values(), *count.discs.values()), key=lambda piece: piece.along)
    row = np.flatnonzero(lowest.mask.any(axis=1))[0] * spacing[0]
    if row < _MARGIN:
        return [f"the image ends {row:.0f} mm below the lowest structure found, so that L5 may lie outside"]
    if not count.discs and len(count.bodies) > 1:
        return ["no disc was found, so that nothing tells whether the lowest vertebra is L5"]
    if count.bodies and 1 not in count.discs and count.discs:
        return [f"no disc {disc_name(1)} was found below the lowest vertebra, so that the lowest may not be L5"]
    return []
