"""Dice of every vertebra, disc and the canal by itself, as SPIDER's challenge scores a mask of numbered structures."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nnunetv2_diffusion.spider import CANAL, CANAL_VALUE, DISCS, FIRST_DISC, PARTLY_VISIBLE, VERTEBRAE

LEAST_DICE = 0.1  # below which the challenge counts a structure as missed
COLUMNS = ("label", "structure", "found", "dice", "detected")


def instance_dice(reference: np.ndarray, found: np.ndarray) -> pd.DataFrame:
    """A row a numbered structure of the reference: COLUMNS.

    A structure is compared with the one that covers most of it, `found`, whatever its number, so that a count that is
    off costs nothing; where none does, `found` and its Dice are 0. `detected` where it is at least `LEAST_DICE`: the
    challenge's Dice of vertebrae and discs is the mean over those, its detection rate their share. Vertebrae that are
    partly visible count in neither and are left out (van der Graaf et al. 2024, doi 10.1038/s41597-024-03090-w, and
    their evaluation).

    Args:
        reference, found: whole numbers in SPIDER's numbering, of one shape.
    """
    rows = []
    for label in np.unique(reference[reference > 0]).tolist():
        if PARTLY_VISIBLE < label < FIRST_DISC:
            continue
        own = reference == label
        covering = found[own & (found > 0)]
        number, dice = 0, 0.0
        if covering.size:
            number = int(np.bincount(covering).argmax())
            other = found == number
            dice = float(2 * np.count_nonzero(own & other) / (np.count_nonzero(own) + np.count_nonzero(other)))
        structure = CANAL if label == CANAL_VALUE else DISCS if label >= FIRST_DISC else VERTEBRAE
        rows.append((label, structure, number, dice, dice >= LEAST_DICE))
    return pd.DataFrame(rows, columns=list(COLUMNS))
