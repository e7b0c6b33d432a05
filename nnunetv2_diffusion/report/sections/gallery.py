"""The gallery: which cases it shows, and one slice of each as small layers for the page's script to draw.

Label maps and uncertainty maps travel as run lengths, not as pictures: a page opened from disk can then colour them
itself, and no colour management of a browser changes a label.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from nnunetv2_diffusion.imaging.palette import structure_colours
from nnunetv2_diffusion.imaging.volumes import Volume, check_same_grid, read_volume
from nnunetv2_diffusion.report.section import Context, Section
from nnunetv2_diffusion.report.slices import choose_slice
from nnunetv2_diffusion.report.wording import rounded
from nnunetv2_diffusion.scoring.case_files import read_map
from nnunetv2_diffusion.scoring.labels import LabelScheme, display_name

CSV_FILES = ()
LEVELS = 32
COLOUR_MAP = "inferno"
JPEG_QUALITY = 82


def section(context: Context) -> Section | None:
    """The chosen cases, ready to be drawn; None where none is asked for."""
    if not context.gallery_cases:
        return None
    scores, results = context.evaluated, context.results
    chosen = select_cases(scores.structures, context.gallery_cases)
    pictures = gallery_data(chosen, results.cases, results.labels, scores.structures, scores.uncertainty)
    return Section(
        id="gallery",
        title="Gallery",
        template="gallery.html.j2",
        variables={"gallery": pictures},
        script="gallery.js",
        data={"gallery": pictures},
    )


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


def _entry(
    row: dict, files: pd.DataFrame, labels: LabelScheme, dice: pd.Series, doubt: pd.Series
) -> tuple[dict[str, Any], list[tuple[dict, np.ndarray]]]:
    """A case for the page, and its uncertainty maps, which wait for the scale they share."""
    dataset, case = row["dataset"], row["case"]
    rows = files.to_dict("records")
    reference = read_volume(rows[0]["reference"])
    masks = [read_volume(one["prediction"]) for one in rows]
    image = _read_image(rows[0]["image"], reference) if rows[0]["image"] else None
    cut = choose_slice(reference, masks, image)
    picture = cut.cut(reference)
    codes = sorted({0, *(value for values in labels.structures.values() for value in values)})
    predictions, maps = [], []
    for one, mask in zip(rows, masks, strict=True):
        scores = {name: rounded(dice.get((dataset, one["model"], case, name))) for name in labels.structures}
        known = [score for score in scores.values() if score is not None]
        entry = {
            "model": one["model"],
            "fold": int(one["fold"]),
            "mask": run_lengths(_coded(cut.cut(mask), codes)),
            "dice": scores,
            "mean_dice": rounded(np.mean(known)) if known else None,
            "mean_uncertainty": rounded(doubt.get((dataset, one["model"], case))),
            "uncertainty": None,
        }
        predictions.append(entry)
        if one["uncertainty"]:
            maps.append((entry, cut.cut(read_map(one["uncertainty"], reference))))
    return {
        "dataset": dataset,
        "modality": rows[0]["modality"],
        "case": case,
        "group": row["group"],
        "height": picture.shape[0],
        "width": picture.shape[1],
        "aspect": cut.aspect(reference),
        "image": _jpeg(cut.cut(image)) if image is not None else None,
        "reference": run_lengths(_coded(picture, codes)),
        "codes": {name: [codes.index(value) for value in values] for name, values in labels.structures.items()},
        "predictions": predictions,
    }, maps


def _read_image(path: Path, reference: Volume) -> Volume:
    """A case's image on the reference's grid; a coloured picture as its brightness."""
    image = read_volume(path)
    if image.array.ndim == reference.array.ndim + 1:
        image = replace(image, array=image.array.mean(axis=-1))
    check_same_grid(image, reference)
    return image


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
