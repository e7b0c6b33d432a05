"""What nnU-Net's dataset.json says of masks: structures, label values, regions, ignore label, file ending."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_diffusion.files import read_json

NEEDED = "nnU-Net's dataset.json is needed for the label names"


@dataclass(frozen=True)
class LabelScheme:
    """What is scored in a mask.

    Attributes:
        structures: name -> the label values that make it up (one, or several for a region).
        ignore: label value left out of every metric, or None.
        has_regions: whether the dataset is trained on (overlapping) regions, with one sigmoid head a region.
    """

    structures: dict[str, tuple[int, ...]]
    ignore: int | None = None
    has_regions: bool = False

    def mask(self, labels: np.ndarray, structure: str) -> np.ndarray:
        """Boolean mask of one structure, of `labels`' shape."""
        values = self.structures[structure]
        return labels == values[0] if len(values) == 1 else np.isin(labels, values)

    def check_values(self, labels: np.ndarray, origin: str | Path) -> None:
        """Demand that a mask holds no value that the scheme does not know.

        Raises:
            ValueError: it does; the message names the file and the values.
        """
        known = {0, *(value for values in self.structures.values() for value in values)}
        unknown = sorted(set(np.unique(labels).tolist()) - known - {self.ignore})
        if unknown:
            raise ValueError(
                f"{origin} holds the values {', '.join(map(str, unknown[:5]))}, which dataset.json does not name "
                f"(it names {', '.join(map(str, sorted(known)))}); is it a mask of another dataset?"
            )

    def valid(self, reference: np.ndarray) -> np.ndarray | None:
        """Where the reference is annotated; None when there is no ignore label in it."""
        if self.ignore is None or not (reference == self.ignore).any():
            return None
        return reference != self.ignore


def read_labels(dataset_json: str | Path) -> LabelScheme:
    """The label scheme of a dataset.json (nnU-Net's format; background and ignore are no structures).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON, or holds no usable "labels".
    """
    labels = read_json(dataset_json, remedy=NEEDED).get("labels")
    if not isinstance(labels, dict):
        raise ValueError(f'{dataset_json} has no "labels": {{"background": 0, "name": value, ...}}')
    return label_scheme(labels, str(dataset_json))


def read_file_ending(dataset_json: str | Path) -> str:
    """The ending of a dataset's images and masks; `.nii.gz` where its dataset.json names none.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no JSON.
    """
    return str(read_json(dataset_json, remedy=NEEDED).get("file_ending", ".nii.gz"))


def label_scheme(labels: dict[str, Any], origin: str = "dataset.json") -> LabelScheme:
    """The label scheme of a dictionary name -> value, or name -> list of values for a region.

    Raises:
        ValueError: a value that is no whole number, or no structure beside the background.
    """
    structures: dict[str, tuple[int, ...]] = {}
    ignore = None
    for name, value in labels.items():
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not values or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            raise ValueError(f"label {name!r} of {origin} is {value!r}; a whole number or a list of them is expected")
        if name == "ignore":
            ignore = values[0]
        elif values != (0,):
            structures[name] = values
    if not structures:
        raise ValueError(f"{origin} names no structure beside the background")
    return LabelScheme(structures, ignore, has_regions=any(len(values) > 1 for values in structures.values()))


def display_name(structure: str) -> str:
    """A structure's name as people read it: `spinal_canal` becomes `Spinal canal`."""
    return structure.replace("_", " ").strip().capitalize()
