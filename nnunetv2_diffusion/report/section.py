"""What a report is made from and of: the context that every section reads, and the section that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nnunetv2_diffusion.report.gradings import PFIRRMANN_THRESHOLD
from nnunetv2_diffusion.report.measured import Measured
from nnunetv2_diffusion.report.results import Results
from nnunetv2_diffusion.report.studies import Study
from nnunetv2_diffusion.scoring.cases import Scores

GALLERY_CASES = 60


@dataclass(frozen=True)
class Context:
    """What is reported.

    Attributes:
        results: the trainings, their folds and cases.
        scores: of every validated case, the oblique scans included (column oblique).
        gradings: SPIDER's radiological gradings (`gradings.read_gradings`), or None.
        pfirrmann: the grade from which a disc counts as degenerated.
        gallery_cases: how many cases the gallery shows.
        study: the study that the trainings belong to, or None.
        measured: every mask measured beside its reference (`measured.measure_cases`), or None.
    """

    results: Results
    scores: Scores
    gradings: pd.DataFrame | None = None
    pfirrmann: int = PFIRRMANN_THRESHOLD
    gallery_cases: int = GALLERY_CASES
    study: Study | None = None
    measured: Measured | None = None

    @cached_property
    def evaluated(self) -> Scores:
        """The scores without the oblique scans; every summary and test is about these."""
        scores = self.scores
        tables = (scores.structures, scores.uncertainty, scores.curves, scores.bins)
        return Scores(*(table[~table["oblique"].astype(bool)] if not table.empty else table for table in tables))


@dataclass(frozen=True)
class Section:
    """One section of the report, computed and drawn.

    Attributes:
        id: its anchor in the page.
        title: its name in the page's navigation.
        template: its file in templates/, rendered with `variables` and the figures.
        tables: csv files by name, without their ending; an empty table is not written.
        figures: by name; files in figures/, and pictures that the template shows with `show.figure(name, …)`.
        variables: what the template reads.
        script: its file in templates/ that works in the reader's browser, or None.
        data: what the script reads, by name.
    """

    id: str
    title: str
    template: str
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    script: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
