"""Raters of a phantom who differ in known ways, each in a known share: what they count to a structure at its edge.

The image is the same for all, and nothing in it tells how a rater will decide: so the true distribution of its masks is
known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from nnunetv2_diffusion.spider import CANAL_VALUE, DISCS, VALUES, VERTEBRAE

# How often a rater counts each in; the choices are independent of each other, of the rater and of the image.
SHARES = {"endplates": 0.5, "bulge": 0.7, "epidural_fat": 0.3}
RATERS_FILE = "raters.csv"


@dataclass(frozen=True)
class Convention:
    """What is counted in; as it stands that of the phantoms' own masks.

    Attributes:
        endplates: to the vertebrae their uppermost and lowest 2 mm; else they are background.
        bulge: to the discs what protrudes beyond the bodies' edges; else it is canal, or background outside of it.
        epidural_fat: to the canal the fat behind it; else it is background.
    """

    endplates: bool = True
    bulge: bool = True
    epidural_fat: bool = False

    def apply(self, label: np.ndarray, zones: Mapping[str, np.ndarray]) -> np.ndarray:
        """A mask as this rater would have drawn it.

        Args:
            label: SPIDER's values, of the phantom's own mask.
            zones: boolean, of `label`'s shape: "endplates", "bulge", "epidural_fat" and, below whatever covers it,
                "canal"; see `rendering.render_zones`.
        """
        drawn = label.copy()
        if not self.endplates:
            drawn[zones["endplates"] & _shows(label, VERTEBRAE)] = 0
        if not self.bulge:
            protruding = zones["bulge"] & _shows(label, DISCS)
            drawn[protruding] = np.where(zones["canal"][protruding], CANAL_VALUE, 0)
        if self.epidural_fat:
            drawn[zones["epidural_fat"] & (label == 0)] = CANAL_VALUE
        return drawn


def draw_convention(rng: np.random.Generator) -> Convention:
    """A rater's choices for one image, by `SHARES`."""
    return Convention(**{name: bool(rng.random() < share) for name, share in SHARES.items()})


def every_convention() -> dict[str, Convention]:
    """All eight conventions, named by their choices in the order of `SHARES`: `in_out_in`."""
    made = {}
    for choices in itertools.product((True, False), repeat=len(SHARES)):
        name = "_".join("in" if choice else "out" for choice in choices)
        made[name] = Convention(**dict(zip(SHARES, choices, strict=True)))
    return made


def probability(convention: Convention) -> float:
    """How often a rater draws by this convention."""
    chosen = asdict(convention)
    return math.prod(share if chosen[name] else 1 - share for name, share in SHARES.items())


def rater_name(number: int) -> str:
    """The name of a rater, counted from 1."""
    return f"rater{number}"


def by_rater(conventions: Iterable[Convention]) -> dict[str, Convention]:
    """Conventions keyed by the names of their raters, in order."""
    return {rater_name(number): convention for number, convention in enumerate(conventions, start=1)}


def rater_row(scan: str, rater: str, convention: Convention) -> dict[str, object]:
    """A row of `RATERS_FILE`: what a rater counted in on a scan, 0 or 1."""
    return {"scan": scan, "rater": rater, **{name: int(choice) for name, choice in asdict(convention).items()}}


def _shows(label: np.ndarray, structure: str) -> np.ndarray:
    return np.isin(label, [value for values in VALUES[structure] for value in values])
