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


def crops_of(reference: np.ndarray, prediction: np.ndarray, labels: LabelScheme) -> Iterator[tuple[str, tuple]]:
    """Name and slices of the two `CROPS`; the foreground is the whole image where both masks are empty."""
    foreground = np.zeros(reference.shape, dtype=bool)
    for structure in labels.structures:
        foreground |= labels.mask(reference, structure) | labels.mask(prediction, structure)
    yield "foreground", bounding_box(foreground)
    yield "image", tuple(slice(None) for _ in reference.shape)
