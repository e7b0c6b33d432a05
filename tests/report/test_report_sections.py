"""The contract of sections: anchors of their own, files that a later report can take away again, figures that show."""

from __future__ import annotations

import fnmatch

import pandas as pd
import pytest

from helpers.spine_tree import write_gradings
from nnunetv2_diffusion.report.gradings import read_gradings
from nnunetv2_diffusion.report.report import SECTIONS, write_report
from nnunetv2_diffusion.report.results import read_results
from nnunetv2_diffusion.report.section import Context
from nnunetv2_diffusion.report.studies import COLUMNS, Study
from nnunetv2_diffusion.scoring.cases import score_cases

STAGE = "nnUNetTrainerSpineSegDiffPreSeg__nnUNetPlans__2d_preseg_T30"


@pytest.fixture
def context(spine_folders) -> Context:
    """One dataset with a pre-segmentation stage and gradings: every section has something to say."""
    trained = spine_folders / "nnUNet_results" / "Dataset501_SPIDER_T1w"
    (trained / "nnUNetTrainerSpineSegDiff__nnUNetPlans__2d").rename(trained / STAGE)
    folders = [spine_folders / name for name in ("nnUNet_results", "nnUNet_preprocessed", "nnUNet_raw")]
    results = read_results([501], *folders)
    gradings = read_gradings(write_gradings(spine_folders / "radiological_gradings.csv", range(1, 11)))
    job = dict.fromkeys(COLUMNS, "") | {"job": "train-501-nnunet-0", "rule": "train", "state": "running"}
    study = Study(pd.DataFrame([job]), software={}, data={"files": 1, "sha256": "ab"})
    scores = score_cases(results.cases, results.labels, progress=False)
    return Context(results, scores, gradings, gallery_cases=2, study=study)


def test_each_section_keeps_to_its_own(context):
    sections = [(module, module.section(context)) for module in SECTIONS]
    assert len({section.id for _, section in sections}) == len(SECTIONS)
    names = [name for _, section in sections for name in section.figures]
    assert len(names) == len(set(names)) and "ablation_1" in names
    for module, section in sections:
        files = [f"{name}.csv" for name in section.tables]
        assert all(any(fnmatch.fnmatch(file, pattern) for pattern in module.CSV_FILES) for file in files)
        others = [pattern for other in SECTIONS if other is not module for pattern in other.CSV_FILES]
        assert not any(fnmatch.fnmatch(file, pattern) for file in files for pattern in others)
        assert module.__name__.endswith(section.template.removesuffix(".html.j2"))


def test_sections_without_anything_leave_nothing_of_an_earlier_report(context, tmp_path):
    out = tmp_path / "report"
    write_report(context, out)
    (out / "table2_2.csv").write_text("of an earlier report with a second series")
    (out / "own_notes.csv").write_text("a reader's own")
    before = {path.name for path in out.glob("*.csv")}
    assert {"table2.csv", "table2_values.csv", "table3.csv", "pathology_tests.csv", "uncertainty.csv"} <= before

    plain = context.results.trainings["model"].eq("nnU-Net")
    trainings = context.results.trainings[plain]
    cases = context.results.cases[context.results.cases["model"].eq("nnU-Net")]
    results = type(context.results)(trainings, context.results.folds, cases, context.results.labels)
    scores = score_cases(cases, context.results.labels, progress=False)
    write_report(Context(results, scores, gallery_cases=0), out)
    assert {path.name for path in out.glob("*.csv")} == {"table1.csv", "folds.csv", "cases.csv", "own_notes.csv"}
    page = (out / "index.html").read_text(encoding="utf-8")
    assert 'id="table2"' not in page and "#table2" not in page and "There is one model a dataset" in page
    assert pd.read_csv(out / "cases.csv")["model"].eq("nnU-Net").all()


def test_every_figure_stands_in_the_page_or_beside_it(context, tmp_path):
    """The whole image's two diagrams are named in the text alone."""
    write_report(context, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert {name for name in names if f"figures/{name}.png" not in page} == {"reliability_image", "risk_coverage_image"}
    assert all(f"figures/{name}" in page for name in names)
