"""A slice's samples as masks on the scan's own pixels."""

from __future__ import annotations

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_diffusion.scans.model import PredictedSlice
from nnunetv2_diffusion.scans.sagittal import SagittalVolume


def samples_on_scan(
    found: PredictedSlice, volume: SagittalVolume, index: int, label_manager: LabelManager
) -> np.ndarray:
    """A slice's samples [S, z, y], decided on the scan's own pixels as its mask is."""
    return np.stack(
        [
            label_manager.convert_probabilities_to_segmentation(
                np.stack([volume.plane_on_scan(head, index) for head in sample])
            )
            for sample in found.samples
        ]
    )
