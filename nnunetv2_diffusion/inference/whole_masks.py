"""nnU-Net's export with masks written beside and renamed: a killed prediction leaves no half-written mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_diffusion.files import replacing
from nnunetv2_diffusion.imaging.writing import check_written


class WholeMaskPlans(PlansManager):
    """nnU-Net's, whose reader and writer of images writes a mask whole or not at all.

    nnU-Net exports a case's probabilities and properties first and its mask last, so what lies beside a mask is whole.
    """

    @property
    def image_reader_writer_class(self) -> type[BaseReaderWriter]:
        """The plan's own class with another `write_seg`."""
        nnunets = super().image_reader_writer_class

        class WholeMaskWriter(nnunets):
            def write_seg(self, seg: np.ndarray, output_fname: str, properties: dict[str, Any]) -> None:
                with replacing(output_fname) as partial:
                    super().write_seg(seg, str(partial), properties)
                    check_written(partial)

        return WholeMaskWriter
