"""The two parts of an image on which uncertainty is judged: the foreground crop, and the image as a whole.

Most of an image is background that every model gets right, so that the whole alone would hide the differences.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.metrics import bounding_box

# As the tables' column `region` names them.
CROPS = ("foreground", "image")
FOREGROUND_MARGIN = 10  # pixels


def crops_of(reference: np.ndarray, labels: LabelScheme) -> Iterator[tuple[str, tuple[slice, ...]]]:
    """Name and slices of the two `CROPS` of a case.

    The foreground is the bounding box of the reference's structures and `FOREGROUND_MARGIN` pixels around it on every
    axis, as far as the image reaches; the whole image where the reference holds no structure. It does not look at the
    prediction, so that all models are judged on the same pixels: one that strays would be given more right background.
    """
    foreground = np.zeros(reference.shape, dtype=bool)
    for structure in labels.structures:
        foreground |= labels.mask(reference, structure)
    yield "foreground", foreground_crop(foreground)
    yield "image", tuple(slice(None) for _ in reference.shape)


def foreground_crop(foreground: np.ndarray) -> tuple[slice, ...]:
    """Slices of the box around a boolean mask, grown by `FOREGROUND_MARGIN`; of the whole image for an empty mask."""
    margin = FOREGROUND_MARGIN
    sides = zip(bounding_box(foreground), foreground.shape, strict=True)
    return tuple(slice(max(side.start - margin, 0), min(side.stop + margin, length)) for side, length in sides)
