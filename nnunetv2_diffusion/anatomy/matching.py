"""One mask's levels named after another's by overlap, so that a mask that misses a disc does not shift the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from nnunetv2_diffusion.anatomy.levels import Levels
from nnunetv2_diffusion.measures import disc_name, vertebra_name
from nnunetv2_diffusion.spider import CANAL_VALUE, FIRST_DISC, PARTLY_VISIBLE

# Share of the larger of two structures that they must have in common: two bodies that are merged are neither of them,
# while thin discs are the same at a fraction of their height.
_BODY, _DISC = 0.5, 0.2


def match_levels(found: Levels, reference: Levels) -> Levels:
    """The levels of `found` under the numbers of the structures of `reference` that they lie on.

    Each structure goes to one, so that their common pixels are the most; what lies on none is left out. Remarks go with
    their structures; doubts are about the count, and stay the reference's.

    Args:
        found, reference: levels of masks of one slice.

    Raises:
        ValueError: the slices differ in shape.
    """
    if found.labels.shape != reference.labels.shape:
        raise ValueError(f"levels of slices {found.labels.shape} and {reference.labels.shape} cannot be matched")
    bodies = overlapping(found.bodies, reference.bodies, _BODY)
    discs = overlapping(found.discs, reference.discs, _DISC)
    names = {vertebra_name(n): vertebra_name(m) for n, m in bodies.items()}
    names |= {disc_name(n): disc_name(m) for n, m in discs.items()}
    values = np.zeros(256, np.uint8)
    values[CANAL_VALUE] = CANAL_VALUE
    for n, m in bodies.items():
        values[n], values[PARTLY_VISIBLE + n] = m, PARTLY_VISIBLE + m
    for n, m in discs.items():
        values[FIRST_DISC + n - 1] = FIRST_DISC + m - 1
    return replace(
        found,
        labels=values[found.labels],
        bodies=dict(sorted((m, found.bodies[n]) for n, m in bodies.items())),
        discs=dict(sorted((m, found.discs[n]) for n, m in discs.items())),
        cut=frozenset(bodies[n] for n in found.cut if n in bodies),
        remarks={names[name]: texts for name, texts in found.remarks.items() if name in names},
        doubts=list(reference.doubts),
    )


def overlapping(found: dict[int, np.ndarray], reference: dict[int, np.ndarray], least: float) -> dict[int, int]:
    """Number in `found` -> number in `reference` of masks that have at least a share `least` of the larger in common.

    One to one, with the largest sum of common pixels (Kuhn 1955).
    """
    if not found or not reference:
        return {}
    common = np.array([[np.count_nonzero(one & other) for other in reference.values()] for one in found.values()])
    larger = np.maximum.outer(*([np.count_nonzero(mask) for mask in masks.values()] for masks in (found, reference)))
    rows, columns = linear_sum_assignment(np.where(common >= least * larger, common, 0), maximize=True)
    numbers = list(found), list(reference)
    kept = [(r, c) for r, c in zip(rows, columns, strict=True) if common[r, c] >= max(1, least * larger[r, c])]
    return {numbers[0][r]: numbers[1][c] for r, c in kept}
