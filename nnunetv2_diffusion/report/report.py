"""nnU-Net's results folders -> tables, statistics, pictures and one web page: the work behind `spinesegdiff report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.imaging.drawing import as_svg, save
from nnunetv2_diffusion.report import figures
from nnunetv2_diffusion.report.ablation import SERIES, table_2_layout
from nnunetv2_diffusion.report.analysis import Report, analyse, lead_trainings
from nnunetv2_diffusion.report.gallery import gallery_data, select_cases
from nnunetv2_diffusion.report.page import render_page
from nnunetv2_diffusion.report.pathology import PFIRRMANN_THRESHOLD, check_patients, patient_flags, read_gradings
from nnunetv2_diffusion.report.results import read_results
from nnunetv2_diffusion.report.statistics import patient_means
from nnunetv2_diffusion.scoring.cases import score_cases
from nnunetv2_diffusion.scoring.figures import reliability_diagram, risk_coverage_curves
from nnunetv2_diffusion.scoring.tables import TRAINING, reliability

GALLERY_CASES = 60


def make_report(
    datasets: Sequence[int | str],
    out: str | Path,
    results: Path,
    preprocessed: Path | None = None,
    raw: Path | None = None,
    spider: str | Path | None = None,
    pfirrmann: int = PFIRRMANN_THRESHOLD,
    gallery: int = GALLERY_CASES,
    processes: int | None = None,
) -> Report:
    """Read, score, test, and write index.html, the csv files and figures/ into `out`.

    Args:
        datasets: numbers or names of datasets.
        out: folder of the report.
        results, preprocessed, raw: nnU-Net's three folders.
        spider: SPIDER's folder, or its radiological_gradings.csv; None leaves the pathologies out.
        pfirrmann: lowest Pfirrmann grade that counts as disc degeneration.
        gallery: how many cases the gallery shows.
        processes: worker processes; None chooses.

    Raises:
        FileNotFoundError, ValueError: no results, or files that are missing or do not fit together.
    """
    if gallery < 0:
        raise ValueError(f"the gallery cannot show {gallery} cases; give 0 or more")
    gradings = None if spider is None else read_gradings(spider)
    found = read_results(datasets, results, preprocessed, raw)
    if gradings is not None:
        flags = patient_flags(gradings, pfirrmann)
        check_patients(found.cases.loc[~found.cases["oblique"], "patient"], flags)
    scores = score_cases(found.cases, found.labels, processes)
    report = analyse(found, scores, gradings, pfirrmann)
    write_report(report, Path(out), gallery)
    return report


def write_report(report: Report, out: Path, gallery: int = GALLERY_CASES) -> None:
    """Write the csv files, then the pictures, and last the page."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in csv_tables(report).items():
        path = out / f"{name}.csv"
        if table.empty:
            path.unlink(missing_ok=True)  # an earlier report's file must not pass for this one's
        else:
            write_csv(table, path)
    svgs = {}
    for name, figure in draw_figures(report).items():
        save(figure, out / "figures" / name)
        svgs[name] = as_svg(figure, name)
    pictures: dict[str, Any] | None = None
    if gallery:
        evaluated = report.evaluated
        cases = report.results.cases
        chosen = select_cases(evaluated.structures, gallery)
        pictures = gallery_data(chosen, cases, report.results.labels, evaluated.structures, evaluated.uncertainty)
    write_text(render_page(report, svgs, pictures), out / "index.html")


def csv_tables(report: Report) -> dict[str, pd.DataFrame]:
    """The csv files of a report by name; some may be empty."""
    scores = report.evaluated
    curves = scores.curves
    if not curves.empty:
        curves = curves.groupby([*TRAINING, "region", "coverage"], sort=False)["risk"].mean().reset_index()
    stages = {
        "table2" if number == 0 else f"table2_{number + 1}": table_2_layout(table)
        for number, (_, table) in enumerate(report.ablation.groupby(SERIES, sort=False))
    }
    return {
        "table1": report.table_1,
        **stages,
        "table2_values": report.ablation,
        "table3": report.prevalence,
        "folds": report.results.folds,
        "cases": report.scores.structures,
        "pathology_tests": report.pathology,
        "paired_tests": report.paired,
        "uncertainty": report.uncertainty,
        "uncertainty_cases": report.scores.uncertainty,
        "reliability": reliability(scores.bins, TRAINING),
        "risk_coverage": curves,
    }


def draw_figures(report: Report) -> dict[str, Any]:
    """Every picture by name; those without data are left out."""
    scores = report.evaluated
    drawn = {"dice": figures.dice_by_model(scores.structures)}
    for number, (_, table) in enumerate(report.ablation.groupby(SERIES, sort=False)):
        drawn[f"ablation_{number + 1}"] = figures.ablation_curves(table)
    if report.flags is not None:
        for training in lead_trainings(report).to_dict("records"):
            means = patient_means(_only(scores.structures, training))
            tests = _only(report.pathology, training)
            drawn[f"pathologies_{training['dataset']}"] = figures.dice_by_pathology(means, report.flags, tests)
    for region in ("foreground", "image"):
        if not scores.bins.empty:
            points = reliability(scores.bins, TRAINING)
            drawn[f"reliability_{region}"] = reliability_diagram(points[points["region"] == region])
        if not scores.curves.empty:
            curves = scores.curves
            drawn[f"risk_coverage_{region}"] = risk_coverage_curves(curves[curves["region"] == region])
    if not scores.uncertainty.empty:
        drawn["uncertainty_and_dice"] = figures.uncertainty_and_dice(scores.uncertainty, report.uncertainty)
    return drawn


def _only(table: pd.DataFrame, training: dict[str, str]) -> pd.DataFrame:
    return table[(table["dataset"] == training["dataset"]) & (table["model"] == training["model"])]
