"""All cases: every case's numbers, as csv and for the page's table, which its script fills one training at a time."""

from __future__ import annotations

from typing import Any

from nnunetv2_diffusion.report.section import Context, Section
from nnunetv2_diffusion.report.wording import rounded
from nnunetv2_diffusion.scoring.cases import Scores
from nnunetv2_diffusion.scoring.labels import display_name
from nnunetv2_diffusion.scoring.tables import METRICS, TRAINING

CSV_FILES = ("cases.csv",)


def section(context: Context) -> Section:
    """Every validated case, the oblique scans included."""
    return Section(
        id="cases",
        title="All cases",
        template="all_cases.html.j2",
        tables={"cases": context.scores.structures},
        script="all_cases.js",
        data={"trainings": case_rows(context.scores)},
    )


def case_rows(scores: Scores) -> list[dict[str, Any]]:
    """The cases of every training, compact: case, fold, oblique, mean uncertainty, then each structure's metrics."""
    doubt = scores.uncertainty
    doubt = doubt.set_index([*TRAINING, "case"])["mean_uncertainty"].to_dict() if len(doubt) else {}
    trainings = []
    for training, frame in scores.structures.groupby(TRAINING, sort=False):
        names = list(dict.fromkeys(frame["structure"]))
        wide = frame.pivot(index=["case", "fold", "oblique"], columns="structure", values=list(METRICS))
        columns = [(metric, name) for name in names for metric in METRICS]
        values = wide[columns].round(4).astype(object).where(wide[columns].notna(), None)
        rows = [
            [case, int(fold), int(oblique), rounded(doubt.get((*training, case))), *numbers]
            for (case, fold, oblique), numbers in zip(values.index, values.to_numpy().tolist(), strict=True)
        ]
        about = dict(zip(TRAINING, training, strict=True))
        trainings.append({**about, "structures": [[name, display_name(name)] for name in names], "rows": rows})
    return trainings
