"""A sagittal slice of the three structures as fields in [0, 1], from label maps of any numbering or probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunetv2_diffusion.spider import CANAL, DISCS, LABELS, STRUCTURES, VALUES, VERTEBRAE

Values = Mapping[str, Sequence[int]]
_SPIDER = {name: tuple(value for span in VALUES[name] for value in span) for name in STRUCTURES}
_CONVERTED = {name: (LABELS[name],) for name in STRUCTURES}
# As a command line names them.
_SHORT_NAMES = {"canal": CANAL, "vertebrae": VERTEBRAE, "discs": DISCS}


@dataclass(frozen=True)
class SpineSlice:
    """The three structures in one sagittal slice.

    Attributes:
        canal, vertebrae, discs: float32 [z, y] in [0, 1]; z runs to superior, y to anterior. A structure is where its
            field is above 0.5.
        spacing: (z, y) in mm.
    """

    canal: np.ndarray
    vertebrae: np.ndarray
    discs: np.ndarray
    spacing: tuple[float, float]

    def __post_init__(self) -> None:
        shapes = {field.shape for field in (self.canal, self.vertebrae, self.discs)}
        if len(shapes) > 1 or len(next(iter(shapes))) != 2 or min(next(iter(shapes))) < 2:
            raise ValueError(f"a slice is [z, y] and at least 2 x 2, the same for all structures, not {sorted(shapes)}")
        if len(self.spacing) != 2 or not all(np.isfinite(step) and step > 0 for step in self.spacing):
            raise ValueError(f"the spacing of a slice is two lengths in mm above 0, (z, y), not {self.spacing}")

    @classmethod
    def of_labels(cls, labels: np.ndarray, spacing: tuple[float, float], values: Values | None = None) -> SpineSlice:
        """From a label map [z, y]; `values` says which labels make up each structure, None finds out (`known_values`).

        Raises:
            ValueError: labels that belong to no structure, or shapes and spacings that are not a slice's.
        """
        values = known_values(labels) if values is None else values
        fields = (np.isin(labels, list(values.get(name, ()))).astype(np.float32) for name in STRUCTURES)
        return cls(*fields, tuple(map(float, spacing)))

    @classmethod
    def of_probabilities(
        cls, probabilities: np.ndarray, spacing: tuple[float, float], order: Sequence[str]
    ) -> SpineSlice:
        """From probabilities [K, z, y], `order` naming the K channels as SPIDER's structures; other names are ignored.

        Raises:
            ValueError: `order` lacks a structure or does not fit K.
        """
        missing = [name for name in STRUCTURES if name not in order]
        if missing or len(order) != len(probabilities):
            raise ValueError(
                f"{len(probabilities)} channels named {', '.join(order)}: each needs a name, and "
                f"{', '.join(STRUCTURES)} must be among them"
            )
        fields = (np.asarray(probabilities[order.index(name)], np.float32) for name in STRUCTURES)
        return cls(*fields, tuple(map(float, spacing)))


def known_values(labels: np.ndarray) -> dict[str, tuple[int, ...]]:
    """The labels of each structure in a map of SPIDER's own numbering or of a dataset that `convert` made.

    Raises:
        ValueError: the map has other labels.
    """
    found = set(np.unique(labels).tolist()) - {0}
    for values in (_CONVERTED, _SPIDER):
        if found <= {value for group in values.values() for value in group}:
            return values
    raise ValueError(
        f"labels {', '.join(f'{value:g}' for value in sorted(found)[:6])} are neither those of `spinesegdiff convert` "
        f"({', '.join(f'{name} {LABELS[name]}' for name in STRUCTURES)}) nor SPIDER's own: say which is which with "
        "--structures canal=1 vertebrae=2 discs=3"
    )


def named_values(labels: Mapping[str, object], origin: str) -> dict[str, tuple[int, ...]]:
    """The labels of each structure from a dataset.json's "labels".

    Raises:
        ValueError: it does not name the vertebrae and discs.
    """
    found = {}
    for name in STRUCTURES:
        value = labels.get(name)
        if value is not None:
            found[name] = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(value, int) for group in found.values() for value in group) or VERTEBRAE not in found:
        raise ValueError(
            f"{origin} names no {VERTEBRAE}: its labels are {', '.join(labels)}; say which is which with "
            "--structures canal=1 vertebrae=2 discs=3"
        )
    return found


def parse_values(words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The labels of each structure from words such as `canal=100`, `vertebrae=1-25,101-125` or `discs=3`.

    Raises:
        ValueError: a word that is none, a label given twice, or no vertebrae.
    """
    found: dict[str, tuple[int, ...]] = {}
    for word in words:
        name, _, text = word.partition("=")
        name = _SHORT_NAMES.get(name, name)
        if name not in STRUCTURES or name in found:
            raise ValueError(f"--structures takes canal, vertebrae and discs once each, as in discs=3, not {word!r}")
        found[name] = tuple(value for part in text.split(",") for value in _span(part, word))
    taken = [value for group in found.values() for value in group]
    if VERTEBRAE not in found or len(set(taken)) < len(taken) or 0 in taken:
        raise ValueError("--structures must name the vertebrae, no label twice, and not 0, which is the background")
    return found


def _span(text: str, word: str) -> range:
    first, _, last = text.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
        raise ValueError(f"--structures takes labels as in vertebrae=2 or vertebrae=1-25,101-125, not {word!r}")
    return range(int(first), int(last or first) + 1)
