"""The panel that figures of Dice share: one structure, its cases along the Dice axis."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nnunetv2_diffusion.scoring.labels import display_name


def set_dice_axis(panel: Axes, structure: str, dice: pd.Series) -> None:
    """Name the panel after its structure and let its axis start on a twentieth, below the lowest case."""
    lowest = dice.min()
    start = 0.5 if pd.isna(lowest) else np.floor(lowest * 20) / 20 - 0.005
    panel.set(title=display_name(structure), xlabel="Dice", xlim=(start, 1.005))
    panel.grid(axis="y", visible=False)
