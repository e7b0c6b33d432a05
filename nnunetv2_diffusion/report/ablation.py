"""Table 2 by itself, for chosen T: the work behind `spinesegdiff ablate`, on the report's pre-segmentation section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.files import read_json, write_csv
from nnunetv2_diffusion.imaging.drawing import save
from nnunetv2_diffusion.nnunet_names import PLANS, PRESEG, TRAINER, ModelName, stage_name
from nnunetv2_diffusion.report.results import read_results
from nnunetv2_diffusion.report.sections.presegmentation import (
    MISSING,
    ablation_curves,
    ablation_table,
    table_2_layout,
)
from nnunetv2_diffusion.scoring.cases import score_cases


@dataclass(frozen=True)
class AblationRequest:
    """Which stages to compare: one dataset, its plans, the trainers of the stages and of their baseline, the T."""

    dataset: int | str
    timesteps: Sequence[int]
    plans: str = PLANS
    previous_trainer: str = TRAINER
    trainer: str = PRESEG
    base: str = "2d"

    def training(self, timesteps: int) -> ModelName:
        """The training of one T; stages on any base but 2d_small refine (and are named for) 2d."""
        baseline = "2d_small" if self.base == "2d_small" else "2d"
        if timesteps == 0:
            return ModelName(self.previous_trainer, self.plans, baseline)
        return ModelName(self.trainer, self.plans, stage_name(baseline, timesteps))


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


def write_ablation(table: pd.DataFrame, folder: str | Path) -> None:
    """Write ablation.csv in the paper's layout, ablation_values.csv, ablation.png and ablation.pdf of `ablation`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(table_2_layout(table), folder / "ablation.csv")
    write_csv(table, folder / "ablation_values.csv")
    save(ablation_curves(table), folder / "ablation")


def describe_ablation(table: pd.DataFrame) -> str:
    """The table in the paper's layout, for a terminal, and what is missing in it."""
    lines = [table_2_layout(table).to_string(index=False)]
    missing = table.loc[table["remark"] == MISSING, "timesteps"].tolist()
    if missing:
        lines.append(f"No results yet for T = {', '.join(map(str, missing))}.")
    untimed = sorted(set(table.loc[table["remark"].eq("") & table["seconds_per_slice"].isna(), "timesteps"]))
    if untimed:
        steps = ", ".join(map(str, untimed))
        lines.append(f"Seconds a slice are not known for T = {steps}; `spinesegdiff validate` measures them.")
    return "\n".join(lines)


def _check_planned(request: AblationRequest, steps: list[int], trainings: pd.DataFrame, preprocessed: Path) -> None:
    """A T without results must at least be planned."""
    path = preprocessed / trainings["dataset"].iloc[0] / f"{request.plans}.json"
    remedy = f"plan the dataset again with `nnUNetv2_plan_experiment -d {request.dataset}`"
    planned = set(read_json(path, remedy=remedy).get("configurations", ())) if path.is_file() else set()
    for step in steps:
        configuration = request.training(step).configuration
        if configuration not in planned and configuration not in set(trainings["configuration"]):
            raise ValueError(
                f"T = {step}: there is no configuration {configuration} in {path} and no result of it; "
                f"add it with `spinesegdiff plan -d {request.dataset} --timesteps {step}`"
            )
