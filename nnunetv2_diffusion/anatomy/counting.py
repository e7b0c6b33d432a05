"""Counts bodies and discs along the spine, leaves a number for one that a gap must hold, says what does not fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nnunetv2_diffusion.anatomy.pieces import GAP, Bodies, Piece, Places
from nnunetv2_diffusion.measures import disc_name, vertebra_name

_EMPTY = 1.05  # body heights between two bodies from which on one is missing
_DISC_SCRAP = 0.15  # share of the median disc's area below which a piece is none
_MOST = 24  # numbers that SPIDER has, less one


@dataclass
class Count:
    """Numbered bodies and discs, 1 for L5 and for L5/S1; remarks by level's name, doubts, and pieces left over."""

    bodies: dict[int, Piece] = field(default_factory=dict)
    discs: dict[int, Piece] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    scraps: list[Piece] = field(default_factory=list)

    def remark(self, name: str, text: str) -> None:
        """Note what was done to a level, once."""
        if text not in self.remarks.setdefault(name, []):
            self.remarks[name].append(text)


def count_levels(found: Bodies, discs: list[Piece], *, discs_are_labelled: bool, places: Places) -> Count:
    """Number bodies and discs from below upwards.

    Args:
        found: the bodies, from below upwards.
        discs: pieces of discs, from below upwards.
        discs_are_labelled: whether missing ones mean anything.
        places: where the pixels lie.

    Raises:
        ValueError: more levels than a spine has.
    """
    count = Count()
    discs = _real_discs(discs, found.bodies, count)
    if found.bodies:
        _number_bodies(found, discs, count)
        numbers = {id(disc): _disc_number(disc, count.bodies, found.height) for disc in discs}
    else:
        numbers = _number_discs_alone(discs, count)
    for disc in discs:
        number = numbers[id(disc)]
        if number in count.discs:
            count.remark(disc_name(number), "joined from pieces")
            disc = places.piece(disc.mask | count.discs[number].mask)
        count.discs[number] = disc
    if max((*count.bodies, *count.discs)) > _MOST:
        raise ValueError(f"{len(count.bodies)} vertebrae and {len(count.discs)} discs are more than a spine has")
    if discs_are_labelled and found.bodies:
        _compare_numbers(count)
    if len(count.bodies) == 1:
        count.doubts.append("one vertebra alone cannot tell its level")
    return count


def _real_discs(discs: list[Piece], bodies: list[Piece], count: Count) -> list[Piece]:
    """The pieces that are discs by their size and by lying in the column; the others become scraps."""
    whole = [disc.area for disc in discs if not disc.cut] or [disc.area for disc in discs]
    least = _DISC_SCRAP * float(np.median(whole)) if whole else 0.0
    column = (
        np.median([body.before for body in bodies]) if bodies else np.median([disc.before for disc in discs] or [0])
    )
    reach = np.median([piece.depth for piece in bodies or discs] or [0])
    kept = []
    for disc in discs:
        fits = (disc.area >= least or disc.cut) and abs(disc.before - column) < reach
        (kept if fits else count.scraps).append(disc)
    return kept


def _number_bodies(found: Bodies, discs: list[Piece], count: Count) -> None:
    pitch = found.height * (1 + GAP)
    number = 1
    below = [found.bodies[0].low - disc.along for disc in discs if disc.along < found.bodies[0].along]
    if below and max(below) > 0.8 * found.height:
        missing = max(1, round((max(below) - GAP / 2 * found.height) / pitch))
        number += missing
        count.doubts.append(f"{missing} vertebra(e) seem(s) to be missing above the lowest disc")
    for index, body in enumerate(found.bodies):
        if index:
            empty = body.low - found.bodies[index - 1].high
            missing = 0 if empty < _EMPTY * found.height else max(1, round((empty - GAP * found.height) / pitch))
            if missing:
                count.doubts.append(
                    f"{missing} vertebra(e) seem(s) to be missing in the gap of {empty:.0f} mm above "
                    f"{vertebra_name(number)}"
                )
            number += 1 + missing
        count.bodies[number] = body
        if index in found.parted:
            count.remark(vertebra_name(number), "parted from a neighbour that it was merged with")
        if index in found.joined:
            count.remark(vertebra_name(number), "joined from pieces")
    if found.parted:
        count.doubts.append("merged vertebrae were parted, so that their number is a guess")


def _disc_number(disc: Piece, bodies: dict[int, Piece], height: float) -> int:
    """The number of a disc by the bodies that it lies between; in a gap and beyond them by whole steps."""
    pitch = height * (1 + GAP)
    under = [n for n, body in bodies.items() if body.along < disc.along]
    if not under:
        lowest = min(bodies)
        steps = max(0, round((bodies[lowest].low - disc.along - GAP / 2 * height) / pitch))
        return max(1, lowest - steps)
    number = max(under)
    steps = max(0, round((disc.along - bodies[number].high - GAP / 2 * height) / pitch))
    above = min((n for n in bodies if n > number), default=None)
    return number + 1 + (steps if above is None else min(steps, above - number - 1))


def _number_discs_alone(discs: list[Piece], count: Count) -> dict[int, int]:
    """Discs numbered by their distances where no body is labelled."""
    count.doubts.append("no vertebrae were found: the lowest disc is taken for L5/S1")
    places = np.array([disc.along for disc in discs])
    pitch = float(np.median(np.diff(places))) if len(discs) > 1 else 1.0
    steps = np.rint(np.diff(places) / pitch).astype(int)
    if (steps > 1).any():
        count.doubts.append("a disc seems to be missing in a gap")
    return {id(disc): 1 + int(n) for disc, n in zip(discs, np.concatenate([[0], np.cumsum(steps)]), strict=True)}


def _compare_numbers(count: Count) -> None:
    """Doubts where a disc between two neighbouring bodies is missing."""
    missing = [disc_name(n) for n in sorted(count.bodies) if n - 1 in count.bodies and n not in count.discs]
    if missing:
        count.doubts.append(f"no disc {', '.join(missing)} was found between its vertebrae")
