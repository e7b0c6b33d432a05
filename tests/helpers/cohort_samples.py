"""Folders of results as `spinesegdiff segment` writes them, of any number of scans, without a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from nnunetv2_diffusion.measures import COLUMNS

LEVELS = ("L5", "L4", "L3", "L2", "L1")
HOSTILE = '<img src=x onerror="document.title=1"> & "q" \'s #1%20'


def write_result(
    folder: Path,
    name: str,
    *,
    uncertainty: float | None = 0.1,
    pairwise_dice: float | None = None,
    reasons: tuple[str, ...] = (),
    heights: tuple[float, ...] = (),
    levels_doubt: tuple[str, ...] = (),
    made: str = "first",
) -> None:
    """The json, the preview (one colour, of its own) and, with heights of vertebrae, the measurements of a scan."""
    files = [f"{name}.mha", f"{name}_uncertainty.mha"]
    report = {
        "input": f"{name}.mha",
        "model": {"dataset": "Dataset502_Phantom", "trainer": "T", "configuration": "2d", "hash": "ab" * 32, "seed": 0},
        "structures": {"vertebrae": {"label": 1, "area_mm2": 1234.4, "mean_uncertainty": uncertainty}},
        "mean_uncertainty": {"segmented_slices": 0.05, "mask": uncertainty},
        "pairwise_dice": pairwise_dice,
        "review": bool(reasons),
        "review_reasons": list(reasons),
        "warnings": ["no orientation"],
        "seconds": {"prediction": 1.0, "total": 1.5},
        "made_of": {"input": name, "request": made},
    }
    if heights:
        rows = [
            dict(zip(COLUMNS, (name, level, "vertebra", "height_middle", height, "", "", "", "mm", ""), strict=True))
            for level, height in zip(LEVELS, heights, strict=False)
        ]
        rows.append(dict(zip(COLUMNS, (name, "", "spine", "lordosis", "", "", "", "", "degrees", "cut"), strict=True)))
        pd.DataFrame(rows).to_csv(folder / f"{name}_measurements.csv", index=False)
        files.append(f"{name}_measurements.csv")
        report["measured"] = {"levels_doubt": list(levels_doubt), "measurements": [], "remarks": []}
    shade = int(np.frombuffer(name.encode()[-1:], np.uint8)[0])
    Image.new("RGB", (90, 35), (shade, 100, 100)).save(folder / f"{name}.png")
    (folder / f"{name}.json").write_text(json.dumps({"files": [*files, f"{name}.png"], **report}), encoding="utf-8")
