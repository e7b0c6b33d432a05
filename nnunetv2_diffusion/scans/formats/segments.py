"""A result as segments, as 3D Slicer and DICOM know them: a label map, and what each of its values means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.imaging.palette import level_colour, structure_colours
from nnunetv2_diffusion.measures import disc_name, vertebra_name
from nnunetv2_diffusion.scans.found import Segmentation
from nnunetv2_diffusion.spider import CANAL, CANAL_VALUE, DISCS, FIRST_DISC, PARTLY_VISIBLE, STRUCTURES, VERTEBRAE

_WITHOUT_LEVEL = "without a level"


@dataclass(frozen=True)
class Segment:
    """What a value of a label map means.

    Attributes:
        value: in the label map.
        name: for people; unique.
        colour: as in #2f7fc1.
        structure: the model's name of it; of a value in several regions their names, joined by "and".
        level: as in L4 or L4/L5; empty where it is of no single one.
    """

    value: int
    name: str
    colour: str
    structure: str
    level: str = ""


def segments_of(found: Segmentation, labels: Mapping[str, Any]) -> tuple[sitk.Image, list[Segment]]:
    """The levels where they were found, else the structures, as one label map that no segment overlaps in.

    Args:
        found: with levels, their values stay SPIDER's; what belongs to no level stays a structure, under a value that
            is free.
        labels: the model's structures by name.

    Returns:
        uint8 labels with the scan's geometry, and its segments: all structures, or the levels that are there.
    """
    structures = structure_segments(labels)
    if found.levels is None:
        return found.mask, structures
    levels, mask = sitk.GetArrayFromImage(found.levels), sitk.GetArrayViewFromImage(found.mask)
    segments = level_segments(found.levels, labels)
    taken = {segment.value for segment in segments}
    free = (value for value in range(1, 256) if value not in taken)
    for structure in structures:
        left = (levels == 0) & (mask == structure.value)
        if left.any():
            value = next(free)
            levels[left] = value
            name = f"{structure.name} {_WITHOUT_LEVEL}" if structure.structure in STRUCTURES else structure.name
            segments.append(Segment(value, name, structure.colour, structure.structure))
    image = sitk.GetImageFromArray(levels)
    image.CopyInformation(found.levels)
    return image, segments


def level_segments(levels: sitk.Image, labels: Mapping[str, Any]) -> list[Segment]:
    """The segments of a map in SPIDER's numbering, canal first, then vertebrae and discs from below."""
    return list(_levels(sitk.GetArrayFromImage(levels), structure_colours([*labels, *STRUCTURES])))


def structure_segments(labels: Mapping[str, Any]) -> list[Segment]:
    """A segment for each value; a value of several regions has the names of all and the colour of the smallest."""
    colours = structure_colours(labels)
    holders: dict[int, list[str]] = {}
    for name, value in sorted(labels.items(), key=lambda item: -len(_values(item[1]))):
        for one in _values(value):
            holders.setdefault(one, []).append(name)
    return [
        Segment(value, " and ".join(names).replace("_", " "), colours[names[-1]], " and ".join(names))
        for value, names in sorted(holders.items())
    ]


def _values(label: Any) -> list[int]:
    return [int(value) for value in (label if isinstance(label, list | tuple) else [label])]


def _levels(array: np.ndarray, colours: Mapping[str, str]) -> Iterator[Segment]:
    there = np.unique(array[array > 0]).tolist()
    for value in sorted(there, key=lambda value: (value != CANAL_VALUE, value >= FIRST_DISC, value % PARTLY_VISIBLE)):
        if value == CANAL_VALUE:
            yield Segment(value, CANAL.replace("_", " "), colours[CANAL], CANAL)
        elif value >= FIRST_DISC:
            number = value - FIRST_DISC + 1
            name = disc_name(number)
            yield Segment(value, name, level_colour(colours[DISCS], number), DISCS, name)
        else:
            number = value % PARTLY_VISIBLE
            name = vertebra_name(number)
            shown = f"{name} partly visible" if value > PARTLY_VISIBLE else name
            yield Segment(value, shown, level_colour(colours[VERTEBRAE], number), VERTEBRAE, name)
