"""nnU-Net's results folders -> sections -> csv files, figures and one page: the work behind `spinesegdiff report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.imaging.drawing import as_svg, save
from nnunetv2_diffusion.report.gradings import PFIRRMANN_THRESHOLD, check_patients, patient_flags, read_gradings
from nnunetv2_diffusion.report.measured import measure_cases
from nnunetv2_diffusion.report.page import render_page
from nnunetv2_diffusion.report.results import read_results
from nnunetv2_diffusion.report.section import GALLERY_CASES, Context, Section
from nnunetv2_diffusion.report.sections import (
    all_cases,
    dice_and_distances,
    gallery,
    measurements,
    methods,
    model_comparison,
    pathologies,
    presegmentation,
    study,
    uncertainty,
)
from nnunetv2_diffusion.report.studies import read_study
from nnunetv2_diffusion.scoring.cases import score_cases

# In the page's order. Each has `section(context) -> Section | None` and CSV_FILES, patterns of what it may write.
SECTIONS = (
    dice_and_distances,
    model_comparison,
    presegmentation,
    pathologies,
    uncertainty,
    measurements,
    gallery,
    all_cases,
    study,
    methods,
)


def make_report(
    datasets: Sequence[int | str],
    out: str | Path,
    *,
    results: Path,
    preprocessed: Path | None = None,
    raw: Path | None = None,
    spider: str | Path | None = None,
    study_folder: str | Path | None = None,
    pfirrmann: int = PFIRRMANN_THRESHOLD,
    gallery_cases: int = GALLERY_CASES,
    processes: int | None = None,
    measure: bool = False,
) -> Context:
    """Read, score, test, and write index.html, the csv files and figures/ into `out`.

    Args:
        datasets: numbers or names of datasets.
        out: folder of the report.
        results, preprocessed, raw: nnU-Net's three folders.
        spider: SPIDER's folder, or its radiological_gradings.csv; None leaves the pathologies out.
        study_folder: of `spinesegdiff reproduce`, whose progress, software and data the report then tells; or None.
        pfirrmann: lowest Pfirrmann grade that counts as disc degeneration.
        gallery_cases: how many cases the gallery shows.
        processes: worker processes; None chooses.
        measure: also measure every mask and its reference, which takes about a fifth of a second each.

    Returns:
        what was reported; its `results.notes` are for the reader.

    Raises:
        FileNotFoundError, ValueError: no results, or files that are missing or do not fit together.
    """
    if gallery_cases < 0:
        raise ValueError(f"the gallery cannot show {gallery_cases} cases; give 0 or more")
    gradings = None if spider is None else read_gradings(spider)
    about = None if study_folder is None else read_study(study_folder)
    found = read_results(datasets, results, preprocessed, raw)
    evaluated = found.cases[~found.cases["oblique"]]
    if evaluated.empty:
        raise ValueError("every validated case is one of the oblique scans, which are left out; nothing to report")
    if gradings is not None:
        check_patients(evaluated["patient"], patient_flags(gradings, pfirrmann))
    scores = score_cases(found.cases, found.labels, processes)
    measured = measure_cases(found.cases, found.labels, processes) if measure else None
    context = Context(found, scores, gradings, pfirrmann, gallery_cases, study=about, measured=measured)
    write_report(context, Path(out))
    return context


def write_report(context: Context, out: Path) -> None:
    """Write the csv files, then the figures, and last the page."""
    made = [(module, module.section(context)) for module in SECTIONS]
    sections = [section for _, section in made if section is not None]
    out.mkdir(parents=True, exist_ok=True)
    for module, section in made:
        _write_tables(section, module.CSV_FILES, out)
    svgs = {}
    for name, figure in [pair for section in sections for pair in section.figures.items()]:
        save(figure, out / "figures" / name)
        svgs[name] = as_svg(figure, name)
    write_text(render_page(context.results, context.evaluated, sections, svgs), out / "index.html")


def _write_tables(section: Section | None, patterns: Sequence[str], out: Path) -> None:
    """The csv files of one section; an earlier report's must not pass for this one's."""
    tables = {} if section is None else {f"{name}.csv": table for name, table in section.tables.items()}
    written = {name: table for name, table in tables.items() if not table.empty}
    for path in [path for pattern in patterns for path in out.glob(pattern) if path.name not in written]:
        path.unlink(missing_ok=True)
    for name, table in written.items():
        write_csv(table, out / name)
