"""Every table of a report, from scored cases: the paper's tables, the tests, the worth of the uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.ablation import ablation_table, stage_trainings
from nnunetv2_diffusion.report.pathology import PFIRRMANN_THRESHOLD, patient_flags, prevalence
from nnunetv2_diffusion.report.results import Results
from nnunetv2_diffusion.report.statistics import paired_tests, pathology_tests
from nnunetv2_diffusion.scoring.cases import Scores
from nnunetv2_diffusion.scoring.tables import TRAINING, summarise_structures, summarise_uncertainty


@dataclass
class Report:
    """All tables of a report.

    Attributes:
        results: the trainings, their folds and cases.
        scores: of every validated case, the oblique scans included (column oblique).
        evaluated: `Scores` without the oblique scans; every summary and test is about these.
        pfirrmann: the grade from which a disc counts as degenerated.
        table_1, uncertainty, paired, ablation, prevalence, pathology: see `summarise_structures`,
            `summarise_uncertainty`, `paired_tests`, `ablation_table`, `prevalence` and `pathology_tests`; the last two
            are empty without gradings.
        flags: `patient_flags`, or None without gradings.
    """

    results: Results
    scores: Scores
    evaluated: Scores
    pfirrmann: int
    table_1: pd.DataFrame
    uncertainty: pd.DataFrame
    paired: pd.DataFrame
    ablation: pd.DataFrame
    prevalence: pd.DataFrame
    pathology: pd.DataFrame
    flags: pd.DataFrame | None


def analyse(
    results: Results, scores: Scores, gradings: pd.DataFrame | None = None, pfirrmann: int = PFIRRMANN_THRESHOLD
) -> Report:
    """All tables of a report from scored cases.

    Raises:
        ValueError: every case is oblique, or a patient was not graded.
    """
    evaluated = without_oblique(scores)
    if evaluated.structures.empty:
        raise ValueError("every validated case is one of the oblique scans, which are left out; nothing to report")
    flags = None if gradings is None else patient_flags(gradings, pfirrmann)
    return Report(
        results=results,
        scores=scores,
        evaluated=evaluated,
        pfirrmann=pfirrmann,
        table_1=table_1(evaluated.structures, results.trainings),
        uncertainty=summarise_uncertainty(evaluated, TRAINING),
        paired=paired_tests(evaluated.structures),
        ablation=ablation_table(evaluated.structures, stage_trainings(results.trainings)),
        prevalence=pd.DataFrame() if gradings is None else prevalence(gradings, pfirrmann),
        pathology=pd.DataFrame() if flags is None else pathology_tests(evaluated.structures, flags),
        flags=flags,
    )


def without_oblique(scores: Scores) -> Scores:
    """The same tables without the oblique scans."""
    tables = (scores.structures, scores.uncertainty, scores.curves, scores.bins)
    return Scores(*(table[~table["oblique"].astype(bool)] if not table.empty else table for table in tables))


def table_1(structures: pd.DataFrame, trainings: pd.DataFrame) -> pd.DataFrame:
    """Table 1 in long form, with the paper's own figures.

    Returns:
        `summarise_structures`'s columns for each training, family, missing_folds and partial_folds, paper_dice_mean and
        paper_dice_std. A training without a validated case has one row, without scores.
    """
    about = trainings[[*TRAINING, "family", "missing_folds", "partial_folds"]]
    summary = summarise_structures(structures, TRAINING)
    table = about.merge(summary, on=TRAINING, how="left", sort=False)
    theirs = paper.table_1().rename(columns={"dice_mean": "paper_dice_mean", "dice_std": "paper_dice_std"})
    return table.merge(theirs, on=["family", "modality", "structure"], how="left", sort=False)


def lead_trainings(report: Report) -> pd.DataFrame:
    """One training a dataset whose pathologies are drawn: the first of Table 1 that has cases."""
    scored = report.table_1[report.table_1["cases"].fillna(0) > 0]
    return scored.drop_duplicates("dataset")[TRAINING].reset_index(drop=True)
