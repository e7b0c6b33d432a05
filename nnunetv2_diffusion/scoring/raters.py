"""Several references of one image: which raters a case has, in a folder each or as `<case>__<rater>` in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.imaging.volumes import list_masks
from nnunetv2_diffusion.nnunet_names import split_rater

RATER = "rater"
_WHOLE_CASE = ("dataset", "modality", "model", "case", "structure")


@dataclass(frozen=True)
class References:
    """The references of a data set.

    Attributes:
        by_case: case -> rater -> file; the rater is "" where a single folder's file names the case.
        by_image: image -> rater -> file of a single folder's files `<image>__<rater>`.
    """

    by_case: dict[str, dict[str, Path]]
    by_image: dict[str, dict[str, Path]] = field(default_factory=dict)

    def of(self, case: str) -> dict[str, Path]:
        """Rater -> file of a case; of its own name before those `<case>__<rater>`. Empty where it has none."""
        return self.by_case.get(case) or self.by_image.get(case, {})

    def without(self, cases: Sequence[str]) -> list[str]:
        """The names of the references that belong to none of the cases."""
        known = set(cases)
        return [name for name in self.by_case if name not in known and split_rater(name)[0] not in known]


def list_references(folders: Sequence[Path], file_ending: str) -> References:
    """The references in one folder, or in a folder a rater, named after it.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: two folders of one name.
    """
    if len({folder.resolve().name for folder in folders}) < len(folders):
        names = ", ".join(map(str, folders))
        raise ValueError(f"the folders {names} name the raters, so their last parts must differ; rename or link one")
    by_case: dict[str, dict[str, Path]] = {}
    by_image: dict[str, dict[str, Path]] = {}
    for folder in folders:
        rater = folder.resolve().name if len(folders) > 1 else ""
        for case, path in list_masks(folder, file_ending).items():
            by_case.setdefault(case, {})[rater] = path
    if len(folders) == 1:
        for case, files in by_case.items():
            image, rater = split_rater(case)
            if rater is not None:
                by_image.setdefault(image, {})[rater] = files[""]
    return References(by_case, by_image)


def mean_over_raters(table: pd.DataFrame) -> pd.DataFrame:
    """A row an image (and structure) of a table of scores: the mean over its raters, so that it counts once.

    Args:
        table: as in `Scores`; raters are told by the column `RATER`, or by cases named `<image>__<rater>`.

    Returns:
        the columns that say what was scored, and every number; the table as it is where it knows no raters.
    """
    images = table["case"].map(lambda case: split_rater(case)[0]) if "case" in table else None
    if images is None or (RATER not in table and images.equals(table["case"])):
        return table
    keys = [name for name in _WHOLE_CASE if name in table]
    return table.assign(case=images).groupby(keys, sort=False, dropna=False).mean(numeric_only=True).reset_index()
