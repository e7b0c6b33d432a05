"""The report's gallery: which cases it shows, and one slice of each as small layers for the page to draw.

Label maps and uncertainty maps travel as run lengths, not as pictures: a page opened from disk can then colour them
itself, and no colour management of a browser changes a label.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from nnunetv2_diffusion.imaging.palette import structure_colours
from nnunetv2_diffusion.imaging.volumes import Volume, check_same_grid, read_volume
from nnunetv2_diffusion.scoring.labels import LabelScheme, display_name

LONGEST_SIDE = 400
LEVELS = 32
COLOUR_MAP = "inferno"
JPEG_QUALITY = 82


@dataclass(frozen=True)
class Slice:
    """How to cut the picture of a case out of its volumes: slice axis and index, cropped and thinned.

    Volumes are brought to superior first, anterior left (sagittal), patient's right on the left (coronal, axial).
    """

    axis: int | None
    index: int
    crop: tuple[slice, slice]

    def cut(self, volume: Volume) -> np.ndarray:
        """The picture `[rows, columns]` of a volume on the same grid."""
        return _plane(volume, self.axis, self.index)[self.crop]


def select_cases(structures: pd.DataFrame, count: int) -> pd.DataFrame:
    """The worst, the median and the best cases of each dataset, by the mean Dice over structures and models.

    Args:
        structures: `Scores.structures`.
        count: how many cases in all, shared evenly by the datasets; a dataset with fewer is shown whole.

    Returns:
        dataset, case and group (worst, median or best), worst first.
    """
    means = structures.groupby(["dataset", "case"], sort=False)["dice"].mean().reset_index().sort_values("dice")
    datasets = list(dict.fromkeys(structures["dataset"]))
    parts = []
    for number, dataset in enumerate(datasets):
        share = count // len(datasets) + (number < count % len(datasets))
        ranked = means[means["dataset"] == dataset].reset_index(drop=True)
        third = np.array_split(np.arange(min(share, len(ranked))), 3)
        worst, median, best = (len(part) for part in third)
        middle = max(worst, (len(ranked) - median) // 2)
        rows = [*range(worst), *range(middle, middle + median), *range(len(ranked) - best, len(ranked))]
        groups = ["worst"] * worst + ["median"] * median + ["best"] * best
        parts.append(ranked.iloc[rows][["dataset", "case"]].assign(group=groups))
    return pd.concat(parts, ignore_index=True)


def gallery_data(
    chosen: pd.DataFrame,
    cases: pd.DataFrame,
    labels: Mapping[str, LabelScheme],
    structures: pd.DataFrame,
    uncertainty: pd.DataFrame,
    progress: bool = True,
) -> dict[str, Any]:
    """Everything that the page draws, ready for JSON.

    Args:
        chosen: `select_cases`.
        cases: `Results.cases` (a row a training and case, with its files).
        labels: the label scheme of each dataset.
        structures, uncertainty: as in `Scores`, for the numbers beside the pictures.

    Returns:
        cases (pictures, run lengths and numbers), structures (names, colours), models, vmax (the uncertainty at and
        above which the colour map ends) and colours (the colour map).
    """
    files = dict(list(cases.astype(object).where(cases.notna(), None).groupby(["dataset", "case"], sort=False)))
    dice = structures.set_index(["dataset", "model", "case", "structure"])["dice"]
    doubt = uncertainty.set_index(["dataset", "model", "case"])["mean_uncertainty"] if len(uncertainty) else pd.Series()
    entries, maps = [], []
    for row in tqdm(chosen.to_dict("records"), desc="Gallery", unit="case", disable=not progress):
        entry, own_maps = _entry(row, files[row["dataset"], row["case"]], labels[row["dataset"]], dice, doubt)
        entries.append(entry)
        maps += own_maps
    vmax = _upper_end([values for _, values in maps])
    for prediction, values in maps:
        prediction["uncertainty"] = run_lengths(np.rint(np.clip(values / vmax, 0, 1) * (LEVELS - 1)).astype(np.uint8))
    names = list(dict.fromkeys(name for row in chosen["dataset"] for name in labels[row].structures))
    rgb = (mpl.colormaps[COLOUR_MAP](np.linspace(0, 1, LEVELS))[:, :3] * 255).round().astype(int)
    return {
        "cases": entries,
        "structures": [
            {"name": name, "label": display_name(name), "colour": tint}
            for name, tint in structure_colours(names).items()
        ],
        "models": list(dict.fromkeys(cases["model"])),
        "vmax": vmax,
        "colours": rgb.tolist(),
    }


def run_lengths(picture: np.ndarray) -> str:
    """A picture of whole numbers 0 ... 255, row by row, as base64 of (value, length) pairs; lengths as LEB128."""
    values = np.asarray(picture, dtype=np.uint8).reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.concatenate([starts, [values.size]]))
    encoded = bytearray()
    for value, length in zip(values[starts].tolist(), lengths.tolist(), strict=True):
        encoded.append(value)
        while length > 127:
            encoded.append(length & 127 | 128)
            length >>= 7
        encoded.append(length)
    return base64.b64encode(bytes(encoded)).decode("ascii")


def choose_slice(reference: Volume, masks: Sequence[Volume], image: Volume | None) -> Slice:
    """The slice with most of the reference in it, cropped to what the image and the masks hold.

    The slice axis is an axis of length one, else the one of the largest spacing, as nnU-Net takes it.
    """
    if reference.array.ndim == 2:
        axis, index = None, 0
    else:
        oriented, spacing = _to_lps(reference)
        axis = int(np.argmin(oriented.shape)) if 1 in oriented.shape else int(np.argmax(spacing))
        others = tuple(other for other in range(3) if other != axis)
        area = (oriented > 0).sum(axis=others)
        index = int(area.argmax()) if area.any() else oriented.shape[axis] // 2
    content = np.zeros(_plane(reference, axis, index).shape, dtype=bool)
    for volume in (reference, *masks, *([image] if image else [])):
        content |= _plane(volume, axis, index) > 0
    rows, columns = (np.flatnonzero(content.any(axis=other)) for other in (1, 0))
    box = [
        (used[0], used[-1] + 1) if used.size else (0, n) for used, n in zip((rows, columns), content.shape, strict=True)
    ]
    thin = -(-max(stop - start for start, stop in box) // LONGEST_SIDE)
    return Slice(axis, index, tuple(slice(int(start), int(stop), thin) for start, stop in box))


def _entry(
    row: dict, files: pd.DataFrame, labels: LabelScheme, dice: pd.Series, doubt: pd.Series
) -> tuple[dict[str, Any], list[tuple[dict, np.ndarray]]]:
    """A case for the page, and its uncertainty maps, which wait for the scale they share."""
    dataset, case = row["dataset"], row["case"]
    rows = files.to_dict("records")
    reference = read_volume(rows[0]["reference"])
    masks = [read_volume(one["prediction"]) for one in rows]
    image = read_volume(rows[0]["image"]) if rows[0]["image"] else None
    if image is not None:
        check_same_grid(image, reference)
    cut = choose_slice(reference, masks, image)
    picture = cut.cut(reference)
    codes = sorted({0, *(value for values in labels.structures.values() for value in values)})
    predictions, maps = [], []
    for one, mask in zip(rows, masks, strict=True):
        scores = {name: _number(dice.get((dataset, one["model"], case, name))) for name in labels.structures}
        known = [score for score in scores.values() if score is not None]
        entry = {
            "model": one["model"],
            "fold": int(one["fold"]),
            "mask": run_lengths(_coded(cut.cut(mask), codes)),
            "dice": scores,
            "mean_dice": _number(np.mean(known)) if known else None,
            "mean_uncertainty": _number(doubt.get((dataset, one["model"], case))),
            "uncertainty": None,
        }
        predictions.append(entry)
        if one["uncertainty"]:
            maps.append((entry, cut.cut(read_volume(one["uncertainty"])).astype(float)))
    return {
        "dataset": dataset,
        "modality": rows[0]["modality"],
        "case": case,
        "group": row["group"],
        "height": picture.shape[0],
        "width": picture.shape[1],
        "aspect": _aspect(reference, cut, picture),
        "image": _jpeg(cut.cut(image)) if image is not None else None,
        "reference": run_lengths(_coded(picture, codes)),
        "codes": {name: [codes.index(value) for value in values] for name, values in labels.structures.items()},
        "predictions": predictions,
    }, maps


def _plane(volume: Volume, axis: int | None, index: int) -> np.ndarray:
    if axis is None:
        return volume.array
    plane = np.take(_to_lps(volume)[0], index, axis=axis)
    return plane if axis == 0 else plane[::-1]


def _to_lps(volume: Volume) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array and spacing with the axes superior, posterior, left (each increasing that way)."""
    letters = (volume.orientation or "LPS")[::-1]
    order = [next(axis for axis, letter in enumerate(letters) if letter in pair) for pair in ("SI", "PA", "LR")]
    array = volume.array.transpose(order)
    flips = tuple(axis for axis, source in enumerate(order) if letters[source] in "IAR")
    return np.flip(array, flips), tuple(volume.spacing[source] for source in order)


def _aspect(reference: Volume, cut: Slice, picture: np.ndarray) -> float:
    """Width over height of the picture in mm."""
    spacing = reference.spacing if cut.axis is None else np.delete(_to_lps(reference)[1], cut.axis)
    return round(float(picture.shape[1] * spacing[1] / (picture.shape[0] * spacing[0])), 4)


def _coded(picture: np.ndarray, codes: Sequence[int]) -> np.ndarray:
    """Label values as positions in `codes`; values that are no structure (ignored voxels) as background."""
    coded = np.zeros(picture.shape, dtype=np.uint8)
    for position, value in enumerate(codes):
        coded[picture == value] = position
    return coded


def _jpeg(picture: np.ndarray) -> str:
    low, high = np.percentile(picture, (1, 99.5))
    grey = np.clip((picture - low) / max(high - low, 1e-6), 0, 1) * 255
    buffer = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _upper_end(maps: Sequence[np.ndarray]) -> float:
    """The scale's upper end: what all but one voxel in 200 of every map stay under, up to the next tenth."""
    highest = max((float(np.percentile(values, 99.5)) for values in maps), default=1.0)
    return round(min(1.0, max(0.1, np.ceil(highest * 10) / 10)), 1)


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else round(float(value), 4)
