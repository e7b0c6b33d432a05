"""Scans that several raters segmented: masks/1_t2__<rater>.mha in place of masks/1_t2.mha, a case each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_diffusion.nnunet_names import rated_file_name, rater_case, split_rater
from nnunetv2_diffusion.spider import MASKS, Series


@dataclass(frozen=True, order=True)
class RatedSeries(Series):
    """A series as one rater segmented it, or, where the rater is "", as SPIDER did.

    nnU-Net knows one mask an image, so each rater's case has a copy of the image.
    """

    rater: str = ""

    @property
    def case(self) -> str:
        """The case's name: `SPIDER_001_t2__rater1`."""
        return rater_case(super().case, self.rater) if self.rater else super().case

    @property
    def mask_file_name(self) -> str:
        """The name of the rater's mask in masks/."""
        return rated_file_name(self.file_name, self.rater) if self.rater else self.file_name


def by_raters(root: Path, series: Iterable[Series]) -> list[RatedSeries]:
    """Every series once for each rater whose mask of it lies in `root`/masks, ordered; once where none does.

    Where there are raters' masks, the one without a rater's name is passed over.
    """
    raters: dict[str, list[str]] = {}
    for path in sorted((root / MASKS).glob(rated_file_name("*.mha", "*"))):
        scan, rater = split_rater(path.stem)
        raters.setdefault(scan, []).append(rater or "")
    return [
        RatedSeries(one.patient, one.contrast, one.series, rater)
        for one in series
        for rater in raters.get(one.name, [""])
    ]
