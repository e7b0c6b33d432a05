"""The report's web page: tables and pictures put into one self-contained index.html by Jinja2."""

from __future__ import annotations

import json
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.ablation import SERIES, table_2_layout
from nnunetv2_diffusion.report.analysis import Report, lead_trainings
from nnunetv2_diffusion.report.figures import p_text
from nnunetv2_diffusion.report.statistics import ALPHA, MIN_GROUP
from nnunetv2_diffusion.scoring.calibration import CALIBRATION_BINS
from nnunetv2_diffusion.scoring.labels import display_name
from nnunetv2_diffusion.scoring.metrics import EMPTY_MASK_RULE
from nnunetv2_diffusion.scoring.tables import MEAN, METRICS, TRAINING

TEMPLATES = Path(__file__).with_name("templates")
DISTRIBUTION = "nnunetv2-diffusion"


def render_page(report: Report, figures: dict[str, str], gallery: dict[str, Any] | None) -> str:
    """The page as text.

    Args:
        report: all tables.
        figures: name -> inline SVG.
        gallery: `gallery.gallery_data`, or None for a page without gallery.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "fixed": fixed,
        "signed": signed,
        "p": p_text,
        "structure": display_name,
        "unbroken": unbroken,
    }
    return environment.get_template("report.html.j2").render(
        title="Lumbar spine segmentation: evaluation",
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        scripts=[Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in ("cases.js", "gallery.js")],
        data=as_script_json({"trainings": case_rows(report), "gallery": gallery}),
        figures={name: Markup(svg) for name, svg in figures.items()},
        facts=_facts(report),
        structures=_structures(report.table_1["structure"]),
        table_1=_table_1_rows(report.table_1),
        stages=_stages(report.ablation),
        prevalence=report.prevalence.to_dict("records"),
        pathology=_pathology_groups(report),
        paired=_paired_groups(report.paired),
        uncertainty=report.uncertainty.to_dict("records"),
        gallery=gallery,
        notes=report.results.notes,
        rules={"empty": EMPTY_MASK_RULE, "alpha": ALPHA, "min_group": MIN_GROUP, "bins": CALIBRATION_BINS},
        pfirrmann=report.pfirrmann,
        paper_source=paper.SOURCE,
    )


def as_script_json(data: Any) -> Markup:
    """JSON that can stand inside a script element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def case_rows(report: Report) -> list[dict[str, Any]]:
    """The cases of every training, compact: case, fold, oblique, mean uncertainty, then each structure's metrics."""
    doubt = report.scores.uncertainty
    doubt = doubt.set_index([*TRAINING, "case"])["mean_uncertainty"].to_dict() if len(doubt) else {}
    trainings = []
    for training, frame in report.scores.structures.groupby(TRAINING, sort=False):
        names = list(dict.fromkeys(frame["structure"]))
        wide = frame.pivot(index=["case", "fold", "oblique"], columns="structure", values=list(METRICS))
        columns = [(metric, name) for name in names for metric in METRICS]
        values = wide[columns].round(4).astype(object).where(wide[columns].notna(), None)
        rows = [
            [case, int(fold), int(oblique), _rounded(doubt.get((*training, case))), *numbers]
            for (case, fold, oblique), numbers in zip(values.index, values.to_numpy().tolist(), strict=True)
        ]
        about = dict(zip(TRAINING, training, strict=True))
        trainings.append({**about, "structures": [[name, display_name(name)] for name in names], "rows": rows})
    return trainings


def fixed(value: Any, digits: int = 3) -> str:
    """A number with a fixed count of decimals; an en dash where there is none."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}".replace("-", "−")


def signed(value: Any, digits: int = 3) -> str:
    """As `fixed`, with its sign."""
    return "–" if value is None or pd.isna(value) else f"{value:+.{digits}f}".replace("-", "−")


def unbroken(name: str) -> str:
    """A model's name that does not break at "T = 30"."""
    return name.replace(" = ", "\u00a0=\u00a0")


def _facts(report: Report) -> dict[str, Any]:
    cases = report.results.cases
    evaluated = report.evaluated.structures
    try:
        software = f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    except PackageNotFoundError:
        software = DISTRIBUTION
    return {
        "software": software,
        "date": date.today().isoformat(),
        "datasets": list(dict.fromkeys(cases["dataset"])),
        "trainings": len(report.results.trainings),
        "masks": len(evaluated.drop_duplicates([*TRAINING, "case"])),
        "patients": evaluated["patient"].nunique(),
        "missing_folds": int((report.results.folds["found"] == 0).sum()),
        "oblique": cases.loc[cases["oblique"].astype(bool), "case"].nunique(),
        "missed": int(report.table_1["missed"].sum()),
    }


def _structures(column: pd.Series) -> list[str]:
    """The structures that appear, the mean last."""
    names = [name for name in dict.fromkeys(column.dropna()) if name != MEAN]
    return [*names, MEAN]


def _table_1_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a training: its cells by structure, the paper's cells beside them, and what is missing."""
    table = table.assign(best=_is_best(table))
    rows = []
    for training, frame in table.groupby(TRAINING, sort=False):
        scored = frame.dropna(subset="structure")
        cells = {cell["structure"]: cell for cell in scored.to_dict("records")}
        first = frame.iloc[0]
        rows.append(
            {
                **dict(zip(TRAINING, training, strict=True)),
                "cells": cells,
                "cases": int(scored["cases"].max()) if len(scored) else 0,
                "missing": first["missing_folds"],
                "partial": first["partial_folds"],
                "paper": {name: cell for name, cell in cells.items() if not pd.isna(cell["paper_dice_mean"])},
            }
        )
    return rows


def _is_best(table: pd.DataFrame) -> pd.Series:
    """The highest Dice of a modality and structure, among trainings that lack no fold and where there are several."""
    whole = table["missing_folds"].eq("") & table["partial_folds"].eq("")
    dice = table["dice_mean"].where(whole)
    keys = [table["modality"], table["structure"]]
    return dice.eq(dice.groupby(keys).transform("max")) & dice.groupby(keys).transform("count").gt(1)


def _stages(ablation: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"modality": series[1], "name": series[2], "table": table_2_layout(table), "figure": f"ablation_{number + 1}"}
        for number, (series, table) in enumerate(ablation.groupby(SERIES, sort=False))
    ]


def _pathology_groups(report: Report) -> list[dict[str, Any]]:
    """The tests of every training, a row a pathology; the trainings with a picture first."""
    if report.pathology.empty:
        return []
    leads = {tuple(row) for row in lead_trainings(report).to_numpy()}
    family = dict(zip(report.results.trainings["model"], report.results.trainings["family"], strict=True))
    groups = []
    for training, frame in report.pathology.groupby(TRAINING, sort=False):
        about = dict(zip(TRAINING, training, strict=True))
        of_the_paper = (family[about["model"]], about["modality"]) == paper.SECTION_4_2_MODEL
        rows = [
            {"pathology": name, "n_with": part["n_with"].max(), "n_without": part["n_without"].max(),
             "cells": {cell["structure"]: cell for cell in part.to_dict("records")}}
            for name, part in frame.groupby("pathology", sort=False)
        ]  # fmt: skip
        groups.append(
            {
                **about,
                "rows": rows,
                "structures": list(dict.fromkeys(frame["structure"])),
                "significant": int(frame["significant"].sum()),
                "tested": int(frame["p"].notna().sum()),
                "figure": f"pathologies_{about['dataset']}" if training in leads else None,
                "paper": {f"{p}|{s}": value for (p, s), value in paper.SECTION_4_2.items()} if of_the_paper else {},
            }
        )
    return sorted(groups, key=lambda group: group["figure"] is None)


def _paired_groups(paired: pd.DataFrame) -> list[dict[str, Any]]:
    """The comparisons by the modalities that were trained on, those within one modality first; a row a pair."""
    groups = []
    for (first, second), frame in paired.groupby(["modality", "other_modality"], sort=False) if len(paired) else ():
        rows = [
            {"model": model, "other": other, "cells": {cell["structure"]: cell for cell in part.to_dict("records")}}
            for (model, other), part in frame.groupby(["model", "other_model"], sort=False)
        ]
        title = first if first == second else f"trained on {first} against trained on {second}"
        structures = _structures(frame["structure"])
        groups.append({"title": title, "across": first != second, "rows": rows, "structures": structures})
    return sorted(groups, key=lambda group: group["across"])


def _rounded(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else round(float(value), 4)
