"""Where the axes of an image run to in the patient, as ITK read it, and what to say where its file does not tell."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

_SIDES = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}


def axes(image: sitk.Image) -> np.ndarray:
    """The directions [3, 3] of the first three axes of an image of three dimensions or more, in columns (LPS)."""
    dimension = image.GetDimension()
    return np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]


def unrecorded(image: sitk.Image) -> str:
    """The warning about a file that records no orientation."""
    code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(axes(image).ravel().tolist())
    sides = ", ".join(_SIDES[letter] for letter in code)
    return f"the file records no orientation: its axes are taken to run to {sides}; check that left is left"
