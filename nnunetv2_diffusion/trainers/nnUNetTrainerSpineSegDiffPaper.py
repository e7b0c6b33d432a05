"""SpineSegDiff by the paper's recipe alone, for its tables."""

from __future__ import annotations

from nnunetv2_diffusion.settings import Settings
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff


class nnUNetTrainerSpineSegDiffPaper(nnUNetTrainerSpineSegDiff):
    """The mask is noised unscaled (paper, B.2) and sampled in 5 steps; all else as `nnUNetTrainerSpineSegDiff`."""

    settings = Settings()
