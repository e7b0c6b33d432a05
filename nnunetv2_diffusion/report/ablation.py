"""Table 2: Dice per structure and seconds a slice for each T of the pre-segmentation stage, T = 0 being nnU-Net."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.results import read_results
from nnunetv2_diffusion.scoring.cases import score_cases
from nnunetv2_diffusion.scoring.labels import display_name
from nnunetv2_diffusion.scoring.tables import MEAN, summarise_structures

MISSING = "no results"
SERIES = ["dataset", "modality", "series"]


@dataclass(frozen=True)
class AblationRequest:
    """Which stages to compare: one dataset, its plans, the trainers of the stages and of their baseline, the T."""

    dataset: int | str
    timesteps: Sequence[int]
    plans: str = "nnUNetPlans"
    previous_trainer: str = "nnUNetTrainer"
    trainer: str = "nnUNetTrainerSpineSegDiffPreSeg"
    base: str = "2d"

    def training(self, timesteps: int) -> tuple[str, str, str]:
        """Trainer, plans and configuration of one T; stages on any base but 2d_small refine (and are named for) 2d."""
        base = "2d_small" if self.base == "2d_small" else "2d"
        if timesteps == 0:
            return self.previous_trainer, self.plans, base
        return self.trainer, self.plans, f"{base}_preseg_T{timesteps}"


def ablation(
    request: AblationRequest, results: Path, preprocessed: Path, raw: Path | None = None, processes: int | None = None
) -> pd.DataFrame:
    """Score the stages of a request and put them into one table, see `ablation_table`.

    Raises:
        ValueError: a T that is negative, or neither in the plans nor in the results.
        FileNotFoundError: none of the stages has results.
    """
    steps = sorted(set(request.timesteps))
    if steps and steps[0] < 0:
        raise ValueError(f"T must be 0 (nnU-Net itself) or more, not {steps[0]}")
    wanted = {request.training(step) for step in steps}
    found = read_results([request.dataset], results, preprocessed, raw, only=wanted)
    _check_planned(request, steps, found.trainings, preprocessed)
    evaluated = found.cases[~found.cases["oblique"]]
    scores = score_cases(evaluated.assign(uncertainty=None, probabilities=None), found.labels, processes)
    stages = found.trainings.assign(
        series=request.trainer, timesteps=found.trainings["timesteps"].fillna(0).astype(int)
    )
    return ablation_table(scores.structures, stages, steps)


def stage_trainings(trainings: pd.DataFrame) -> pd.DataFrame:
    """The pre-segmentation stages among all trainings, each series with its baseline as T = 0.

    Returns:
        rows of `Results.trainings`, with timesteps as whole numbers and the series' name in the column series.
    """
    stages = trainings[trainings["timesteps"].notna()].astype({"timesteps": int})
    parts = []
    for (_, trainer, plans, baseline), group in stages.groupby(["dataset", "trainer", "plans", "baseline"], sort=False):
        about = trainer if plans == "nnUNetPlans" else f"{trainer}, {plans}"
        zero = trainings[(trainings["dataset"] == group["dataset"].iloc[0]) & (trainings["model"] == baseline)]
        parts.append(pd.concat([zero.assign(timesteps=0), group]).assign(series=f"{about}, refining {baseline}"))
    return pd.concat(parts, ignore_index=True) if parts else stages.assign(series="")


def ablation_table(
    structures: pd.DataFrame, stages: pd.DataFrame, timesteps: Sequence[int] | None = None
) -> pd.DataFrame:
    """Table 2 in long form.

    Args:
        structures: `Scores.structures` (the cases that count).
        stages: `stage_trainings`: one row a T of each series.
        timesteps: the T to list, those without results included; None lists those that a series has.

    Returns:
        a row a series, T and structure ("mean" last): cases, dice_mean, dice_std, seconds_per_slice (NaN where no
        prediction was timed), missing_folds, and remark ("no results" where the T has none).
    """
    summary = summarise_structures(structures, ["dataset", "model"])
    rows = []
    for series, group in stages.groupby(SERIES, sort=False):
        training_of = {row["timesteps"]: row for row in group.to_dict("records")}
        for step in sorted(training_of) if timesteps is None else timesteps:
            about = dict(zip(SERIES, series, strict=True)) | {"timesteps": step}
            training = training_of.get(step, {"dataset": None, "model": None})
            found = summary[summary["dataset"].eq(training["dataset"]) & summary["model"].eq(training["model"])]
            if found.empty:
                rows.append(about | {"structure": MEAN, "cases": 0, "remark": MISSING})
            for row in found.to_dict("records"):
                numbers = {name: row[name] for name in ("structure", "cases", "dice_mean", "dice_std")}
                timing = {name: training[name] for name in ("seconds_per_slice", "missing_folds")}
                rows.append(about | numbers | timing | {"remark": ""})
    columns = [*SERIES, "timesteps", "structure", "cases", "dice_mean", "dice_std", "seconds_per_slice"]
    return pd.DataFrame(rows, columns=[*columns, "missing_folds", "remark"])


def table_2_layout(table: pd.DataFrame) -> pd.DataFrame:
    """One series in the paper's layout: a row a structure, a column a T, as text; for T1w + T2w the paper's too."""
    steps = list(dict.fromkeys(table["timesteps"]))
    structures = [name for name in dict.fromkeys(table["structure"]) if name != MEAN]
    by_cell = table.set_index(["timesteps", "structure"])
    about = table.drop_duplicates("timesteps").set_index("timesteps")
    rows = {}
    for structure in (*structures, MEAN):
        name = "Mean Dice" if structure == MEAN else display_name(structure)
        rows[name] = [_dice_cell(by_cell, step, structure) for step in steps]
    seconds = about["seconds_per_slice"]
    rows["Seconds a slice"] = ["" if pd.isna(seconds[step]) else f"{seconds[step]:.3g}" for step in steps]
    rows["Cases"] = [str(about["cases"][step]) for step in steps]
    rows["Missing folds"] = [
        about["missing_folds"][step] or "none" if about["cases"][step] else "all" for step in steps
    ]
    theirs = paper.table_2().set_index(["timesteps", "structure"])
    of_the_paper = set(table["modality"]) == {paper.TABLE_2_MODALITY}
    for structure in paper.STRUCTURES if of_the_paper else ():
        rows[f"{display_name(structure)} (paper)"] = [_dice_cell(theirs, step, structure, digits=2) for step in steps]
    layout = pd.DataFrame(rows, index=[f"T = {step}" for step in steps]).T
    return layout.rename_axis("structure").reset_index()


def untimed(table: pd.DataFrame) -> list[int]:
    """The T that have results but no timed prediction."""
    return sorted(set(table.loc[table["remark"].eq("") & table["seconds_per_slice"].isna(), "timesteps"]))


def _dice_cell(by_cell: pd.DataFrame, step: int, structure: str, digits: int = 3) -> str:
    if (step, structure) not in by_cell.index:
        return MISSING if "remark" in by_cell else ""
    row = by_cell.loc[(step, structure)]
    if pd.isna(row["dice_mean"]):
        return MISSING
    return f"{row['dice_mean']:.{digits}f} ± {row['dice_std']:.{digits}f}"


def _check_planned(request: AblationRequest, steps: list[int], trainings: pd.DataFrame, preprocessed: Path) -> None:
    """A T without results must at least be planned."""
    path = preprocessed / trainings["dataset"].iloc[0] / f"{request.plans}.json"
    planned = set(json.loads(path.read_text(encoding="utf-8"))["configurations"]) if path.is_file() else set()
    for step in steps:
        configuration = request.training(step)[2]
        if configuration not in planned and configuration not in set(trainings["configuration"]):
            raise ValueError(
                f"T = {step}: there is no configuration {configuration} in {path} and no result of it; "
                f"add it with `spinesegdiff plan -d {request.dataset} --timesteps {step}`"
            )
