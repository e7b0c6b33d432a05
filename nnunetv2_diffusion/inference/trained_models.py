"""Trained models in their folders: where they lie, which folds there are, what nnU-Net's predictor needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch.overrides import TorchFunctionMode

from nnunetv2_diffusion.files import naming, read_json
from nnunetv2_diffusion.inference.checkpoints import load_checkpoint
from nnunetv2_diffusion.inference.trainer_search import find_trainer
from nnunetv2_diffusion.inference.whole_masks import WholeMaskPlans
from nnunetv2_diffusion.nnunet_names import (
    DATASET_FILE,
    PLANS_FILE,
    fold_folder,
    folds_with,
)

_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)
_COPY_AGAIN = "copy the model's folder again"


@dataclass(frozen=True)
class TrainedModel:
    """What a model folder holds, in the terms of nnU-Net's predictor; `parameters` has one entry a fold."""

    plans_manager: PlansManager
    configuration_name: str
    configuration_manager: ConfigurationManager
    network: nn.Module
    parameters: list[dict[str, torch.Tensor]]
    dataset_json: dict[str, Any]
    trainer_name: str
    mirroring_axes: tuple[int, ...] | None

    def for_nnunet(self) -> tuple:
        """The arguments of nnU-Net's `manual_initialization`."""
        managers = (self.plans_manager, self.configuration_manager)
        return self.network, *managers, self.parameters, self.dataset_json, self.trainer_name, self.mirroring_axes


class _Uninitialised(TorchFunctionMode):
    """Within, weights are not drawn at random, which takes longer than reading those that replace every one of them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return args[0] if func in _DRAWS else func(*args, **(kwargs or {}))


def find_folds(folder: Path, checkpoint_name: str, wanted: Sequence[int | str] | None = None) -> list[int | str]:
    """The folds to predict with.

    Args:
        folder: of the model.
        checkpoint_name: what a trained fold must hold.
        wanted: numbers; or "all", which is nnU-Net's fold of that name or, where it was not trained, every numbered
            fold; None is every numbered fold or, where there is none, nnU-Net's "all".

    Raises:
        FileNotFoundError: no such fold, with what to train.
    """
    found = folds_with(folder, checkpoint_name)
    numbered: list[int | str] = [int(fold) for fold in found if fold.isdecimal()]
    together: list[int | str] = ["all"] if "all" in found else []
    if wanted is None:
        folds = numbered or together
    elif [str(fold) for fold in wanted] == ["all"]:
        folds = together or numbered
    else:
        folds = list(dict.fromkeys(int(fold) if str(fold).isdecimal() else fold for fold in wanted))
    missing = [fold for fold in folds if str(fold) not in found]
    if missing or not folds:
        where = fold_folder(folder, missing[0] if missing else "*") / checkpoint_name
        raise FileNotFoundError(f"{where} does not exist; found: {', '.join(found) or 'none'}")
    return folds


def check_model_folder(folder: Path, folds: Sequence[int | str] | None, checkpoint_name: str) -> None:
    """FileNotFoundError where plans, description or a checkpoint are missing, with what to train; None is any fold."""
    for name in (PLANS_FILE, DATASET_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no {name}: it is not the folder of a trained model; train first")
    found = folds_with(folder, checkpoint_name)
    missing = [fold for fold in folds if str(fold) not in found] if folds is not None else ["*"] * (not found)
    if missing:
        where = fold_folder(folder, missing[0]) / checkpoint_name
        raise FileNotFoundError(f"{where} does not exist; train that fold first")


def read_model(folder: Path, folds: Sequence[int | str], checkpoint_name: str, trust: bool = False) -> TrainedModel:
    """The model of `folder` with the weights of `folds`, each file opened once; see `load_checkpoint` for `trust`.

    Our trainers are found without nnUNet_extTrainer.

    Raises:
        ValueError: a checkpoint that is damaged, refused, or of another configuration than the plans have.
    """
    checkpoints = [load_checkpoint(fold_folder(folder, fold) / checkpoint_name, trust) for fold in folds]
    first = checkpoints[0]
    plans_manager = WholeMaskPlans(read_json(folder / PLANS_FILE, remedy=_COPY_AGAIN))
    dataset_json = read_json(folder / DATASET_FILE, remedy=_COPY_AGAIN)
    trainer = find_trainer(first["trainer_name"])
    parameters = [checkpoint["network_weights"] for checkpoint in checkpoints]
    with naming(folder, "its files do not belong together or are damaged: copy the model's folder again"):
        name = first["init_args"]["configuration"]
        if name not in plans_manager.available_configurations:
            raise ValueError(f"{folder} was trained with configuration {name!r}, which its {PLANS_FILE} does not have")
        configuration = plans_manager.get_configuration(name)
        with _Uninitialised():
            network = trainer.build_network_architecture(
                plans_manager,
                configuration,
                determine_num_input_channels(plans_manager, configuration, dataset_json),
                plans_manager.get_label_manager(dataset_json).num_segmentation_heads,
                enable_deep_supervision=False,
            )
        network.load_state_dict(parameters[0])
    axes = first.get("inference_allowed_mirroring_axes")
    return TrainedModel(
        plans_manager, name, configuration, network, parameters, dataset_json, first["trainer_name"], axes
    )
