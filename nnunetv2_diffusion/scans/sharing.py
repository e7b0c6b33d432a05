"""Several models for one folder of scans: each takes the scans of its own contrast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnunetv2_diffusion.scans.sources import ScanSource


@dataclass(frozen=True)
class Share:
    """One model's part of the scans: those of `contrast`, one of the contrasts `among` which all models share them."""

    contrast: str
    among: tuple[str, ...]

    def own(self, sources: Sequence[ScanSource]) -> list[ScanSource]:
        """The scans of this contrast; of those that cannot be read every share knows, and the first one names them."""
        return [source for source in sources if source.contrast == self.contrast]

    def unknown(self, sources: Sequence[ScanSource]) -> list[str]:
        """A sentence for each scan that is no model's, told by the first share alone."""
        if self.contrast != self.among[0]:
            return []
        return [
            f"{source.shown_name} was not segmented: "
            + (
                f"no model was named for {source.contrast}"
                if source.contrast
                else "neither its DICOM headers nor a name such as sub-01_T2w.nii.gz tell its contrast; name one model"
            )
            for source in sources
            if source.contrast not in self.among
        ]
