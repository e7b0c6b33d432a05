"""The web page of a folder of results: one self-contained index.html, its pictures in the files beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.scans.page.results import Result, all_measurements, kind_of, read_results
from nnunetv2_diffusion.scans.page.summary_table import summary_table
from nnunetv2_diffusion.scans.page.verdicts import COLUMNS

TEMPLATES = Path(__file__).with_name("templates")
PAGE, TABLE = "index.html", "summary.csv"


def write_page(folder: Path, excluded: Collection[str] = ()) -> list[str]:
    """Write index.html and summary.csv of the results in a folder.

    Args:
        folder: of `segment_files`.
        excluded: names of scans to leave out.

    Returns:
        A remark for each result that cannot be read and was left out.

    Raises:
        OSError: a file cannot be written.
    """
    results, remarks = read_results(folder, excluded)
    write_csv(summary_table(results), folder / TABLE)
    write_text(render(results), folder / PAGE)
    return remarks


def render(results: Sequence[Result]) -> str:
    """The page as text; `results` in the order in which they are shown first."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    reasons = Counter(kind for result in results for kind in {kind_of(reason) for reason in result.reasons})
    data = {"columns": COLUMNS, "measurements": _distributions(results)}
    return environment.get_template("cohort.html.j2").render(
        style=_text("cohort.css"),
        script=_text("cohort.js"),
        data=_as_script_json(data),
        scans=[_shown(result) for result in results],
        reasons=reasons.most_common(),
        models=Counter(_model(result) for result in results).most_common(),
        reviews=sum(bool(result.reasons) for result in results),
        sampled=any(result.pairwise_dice is not None for result in results),
        measured=bool(data["measurements"]),
    )


def _shown(result: Result) -> dict[str, Any]:
    """What a row of the page says."""
    return {
        "name": result.name,
        "identity": result.identity,
        "picture": f"./{quote(result.picture)}",
        "json": f"./{quote(result.json)}",
        "uncertainty": result.uncertainty,
        "pairwise_dice": result.pairwise_dice,
        "reasons": result.reasons,
        "kinds": json.dumps(sorted({kind_of(reason) for reason in result.reasons})),
        "warnings": result.warnings,
        "levels_doubt": len(result.levels_doubt),
        "outlying": len(result.outlying),
        "structures": [
            (name, figures["area_mm2"], figures.get("volume_mm3"), figures["mean_uncertainty"])
            for name, figures in result.report["structures"].items()
        ],
    }


def _model(result: Result) -> str:
    model = result.report["model"]
    return (
        f"{model.get('dataset')}, {model.get('trainer')}, {model.get('configuration')} ({str(model.get('hash'))[:12]})"
    )


def _distributions(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For each measurement its name, unit, levels, and a list of [level's number, result's number, value]."""
    found = []
    for (structure, measurement), group in all_measurements(results).groupby(["structure", "measurement"], sort=False):
        levels = list(dict.fromkeys(group["level"]))
        values = [
            [levels.index(level), int(result), _short(value)]
            for level, result, value in zip(group["level"], group["result"], group["value"], strict=True)
        ]
        title = f"{structure} {measurement}".replace("_", " ").strip()
        found.append({"title": title, "unit": str(group["unit"].iloc[0]), "levels": levels, "values": values})
    return found


def _short(value: float) -> float:
    """Four significant digits: as many as can be seen, and a page of thousands of scans stays small."""
    return float(np.format_float_positional(value, 4, fractional=False, unique=False))


def _as_script_json(data: Any) -> Markup:
    """JSON that can stand inside a script element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _text(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
