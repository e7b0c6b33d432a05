"""nnU-Net's stock commands for the comparison, as steps that an interrupted run goes on from: planning and training."""

from __future__ import annotations

from collections.abc import Sequence

from comparison.data_sets import RawData, case_splits
from comparison.models import NNUNET, PRESEG, ComparedModel, trainer_name
from comparison.workspace import Workspace
from nnunetv2_diffusion.files import read_json, write_json, write_text
from nnunetv2_diffusion.nnunet_names import CHECKPOINT, PLANS, VALIDATION, fold_folder, next_stage_folder
from nnunetv2_diffusion.pipeline.steps import Step
from nnunetv2_diffusion.planning.planner import plan_dataset


def plan(workspace: Workspace, data: RawData, base: str, models: Sequence[ComparedModel]) -> None:
    """nnU-Net's plans and preprocessed cases, and the configurations of `spinesegdiff plan`."""
    workspace.runner().run([_preprocessing(workspace, data)])
    sentences = plan_dataset(
        data.number,
        PLANS,
        timesteps=[model.timesteps for model in models if model.kind == PRESEG],
        base=base,
        previous_trainer=trainer_name(NNUNET, workspace.steps),
        small=base == "2d_small",
    )
    write_text("\n".join(sentences) + "\n", workspace.log(data.name, "spinesegdiff_plan"))
    _add_variants(workspace, data, base, models)


def _add_variants(workspace: Workspace, data: RawData, base: str, models: Sequence[ComparedModel]) -> None:
    """A configuration for each model with settings of its own.

    Raises:
        ValueError: an earlier run trained under this name with other settings.
    """
    file = workspace.preprocessed / data.name / f"{PLANS}.json"
    plans = read_json(file, remedy="remove the folder and run again")
    configurations = plans["configurations"]
    for model in models:
        if not model.diffusion:
            continue
        block = {**configurations[base].get("diffusion", {}), **model.diffusion}
        wanted = {"inherits_from": base, "next_stage": None, "diffusion": block}
        if configurations.setdefault(model.configuration, wanted) != wanted:
            raise ValueError(f"{file} has a {model.configuration} with other settings: give the variant another name")
    write_json(plans, file, indent=4)


def train_all(workspace: Workspace, data: RawData, models: Sequence[ComparedModel], folds: Sequence[int]) -> None:
    """Train every model on each of the folds; what an earlier run finished is kept.

    Models come in the order given: nnU-Net's folds before the pre-segmentation models that read its predictions.
    """
    workspace.runner().run([_training(workspace, data, model, fold) for model in models for fold in folds])


def folds_of(workspace: Workspace, data: RawData, wanted: Sequence[int] | None) -> list[int]:
    """The folds to train and measure: those wanted, or all.

    Raises:
        ValueError: there is no such fold.
    """
    count = len(case_splits(workspace.preprocessed, data.name))
    unknown = sorted(set(wanted or ()) - set(range(count)))
    if unknown:
        raise ValueError(f"--only-folds {unknown[0]}: there are the folds 0 to {count - 1}")
    return sorted(set(wanted)) if wanted else list(range(count))


def _preprocessing(workspace: Workspace, data: RawData) -> Step:
    cases = [case for split in case_splits(workspace.raw, data.name) for case in split["val"]]
    folder = workspace.preprocessed / data.name / f"{PLANS}_2d"
    return Step(
        f"{data.name}_plan",
        f"{data.name}: plan and preprocess",
        f"nnUNetv2_plan_and_preprocess -d {data.number} -c 2d -npfp 1 -np 1",
        # nnU-Net's planner takes the number of augmentation processes as its number of threads: 0 stops it.
        variables=(("nnUNet_n_proc_DA", "1"),) if workspace.device == "cpu" else (),
        finished=lambda: all((folder / f"{case}.pkl").is_file() for case in cases),
    )


def _training(workspace: Workspace, data: RawData, model: ComparedModel, fold: int) -> Step:
    """Trains a fold, or validates a trained one of nnU-Net again where masks that stages read are missing."""
    checkpoint = fold_folder(workspace.model_folder(data, model), fold) / CHECKPOINT

    def finished() -> bool:
        return checkpoint.is_file() and (model.kind != NNUNET or _validated(workspace, data, model, fold))

    name = f"{data.name}_{model.trainer}_{model.configuration}_seed{workspace.seed}_fold{fold}"
    title = f"{data.name}, seed {workspace.seed}: {model.name}"
    command = (
        f"nnUNetv2_train {data.number} {model.configuration} {fold} -tr {model.trainer} -device {workspace.device}"
    )
    if checkpoint.is_file() and not finished():
        return Step(f"{name}_val", f"{title}, fold {fold}, validated again", f"{command} --val", finished=finished)
    return Step(name, f"{title}, fold {fold}", command, finished=finished)


def _validated(workspace: Workspace, data: RawData, model: ComparedModel, fold: int) -> bool:
    """Whether a fold's validation masks are there, and those for the planned stages."""
    folder = workspace.model_folder(data, model)
    plans = read_json(workspace.preprocessed / data.name / f"{PLANS}.json", remedy="remove the folder and run again")
    stages = plans["configurations"][model.configuration].get("next_stage") or []
    cases = case_splits(workspace.preprocessed, data.name)[fold]["val"]
    masks = [fold_folder(folder, fold) / VALIDATION / f"{case}.nii.gz" for case in cases]
    return all(mask.is_file() for mask in masks) and all(
        any(next_stage_folder(folder, stage).glob(f"{case}.*")) for stage in stages for case in cases
    )
