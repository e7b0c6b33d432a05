"""What was found in a scan, before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import SimpleITK as sitk

from nnunetv2_diffusion.scans.picture import Picture


@dataclass(frozen=True)
class Segmentation:
    """What was found in a scan, on its own grid: size, spacing, origin and direction are the scan's.

    Attributes:
        mask: uint8 labels, 0 where nothing was segmented.
        uncertainty: float32 in [0, 1], 0 where nothing was segmented.
        probabilities: float32 with one dimension more, one volume a head of the model (background first; regions
            have none for the background); 0 where nothing was segmented. None unless asked for.
        report: what is written to <name>.json.
        picture: what the preview shows.
        levels: uint8 in SPIDER's numbering, see `anatomy.levels.Levels`. None unless asked for, or where the mask could
            not be measured.
        measurements: a table of `measures.COLUMNS`; a single row, whose remark says why, where the mask could not be
            measured. None unless asked for.
        disagreement: float32 maps of `nnunet_names.DISAGREEMENT`, in its order; empty unless the model was loaded with
            them.
    """

    mask: sitk.Image
    uncertainty: sitk.Image
    probabilities: sitk.Image | None
    report: dict[str, Any]
    picture: Picture
    levels: sitk.Image | None = None
    measurements: pd.DataFrame | None = None
    disagreement: tuple[sitk.Image, ...] = ()
