"""Which folds of a baseline were trained before a pre-segmentation stage was added, so that its masks are missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nnunetv2_diffusion.nnunet_names import (
    CHECKPOINT,
    PLANS,
    RESULTS,
    SPLITS_FILE,
    TRAINER,
    ModelName,
    fold_folder,
    next_stage_folder,
    optional_nnunet_folder,
)
from nnunetv2_diffusion.planning.plans_file import dataset_id, read_planned, read_plans
from nnunetv2_diffusion.planning.stages import BASELINES, written_stages

MASK_ENDINGS = (".b2nd", ".npz", ".npy")


def validation_reminders(plans_file: Path) -> list[str]:
    """One sentence for each trained baseline that must validate again, with the commands that do it.

    A baseline's fold counts when it has checkpoint_final.pth in $nnUNet_results and a stage's `predicted_next_stage`
    lacks a validation case of that fold. Folds outside splits_final.json ("all", random splits) are passed over: their
    predictions are not out of fold, or their cases are not known.
    """
    results, splits_file = optional_nnunet_folder(RESULTS), plans_file.parent / SPLITS_FILE
    if results is None or not splits_file.is_file():
        return []
    splits = read_planned(splits_file, list)
    plans = read_plans(plans_file)
    dataset_results = results / plans.get("dataset_name", plans_file.parent.name)
    reminders = []
    for (baseline, trainer), stages in _stages_by_baseline(plans["configurations"]).items():
        folder = dataset_results / str(ModelName(trainer, plans.get("plans_name", plans_file.stem), baseline))
        lacking = {stage: _lacking_folds(folder, stage, splits) for stage in stages}
        lacking = {stage: folds for stage, folds in lacking.items() if folds}
        if lacking:
            folds = sorted(set().union(*lacking.values()))
            reminders.append(_sentence(plans_file, baseline, trainer, lacking, folds))
    return reminders


def _stages_by_baseline(configurations: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """The stages written here, by the configuration and the trainer of their baseline."""
    stages: dict[tuple[str, str], list[str]] = {}
    for baseline in BASELINES:
        for stage in written_stages(configurations, baseline):
            trainer = configurations[stage].get("pre_segmentation", {}).get("previous_trainer", TRAINER)
            stages.setdefault((baseline, trainer), []).append(stage)
    return stages


def _lacking_folds(baseline_folder: Path, stage: str, splits: list[dict[str, Any]]) -> list[int]:
    """The trained folds that have no mask of the stage for every one of their validation cases."""
    masks = next_stage_folder(baseline_folder, stage)
    return [
        fold
        for fold, split in enumerate(splits)
        if (fold_folder(baseline_folder, fold) / CHECKPOINT).is_file()
        and not all(any((masks / f"{case}{ending}").is_file() for ending in MASK_ENDINGS) for case in split["val"])
    ]


def _sentence(plans_file: Path, baseline: str, trainer: str, stages: Iterable[str], folds: list[int]) -> str:
    options = f" -tr {trainer}" if trainer != TRAINER else ""
    options += f" -p {plans_file.stem}" if plans_file.stem != PLANS else ""
    dataset = dataset_id(plans_file.parent.name)
    commands = "; ".join(f"nnUNetv2_train {dataset} {baseline} {fold}{options} --val" for fold in folds)
    return (
        f"{trainer}'s {baseline}, fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}, finished training "
        f"without writing all masks for {', '.join(stages)}; write them with: {commands}"
    )
