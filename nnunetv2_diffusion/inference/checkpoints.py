"""Trained models from their folders: which folds there are, and checkpoints read as data, not as code.

A checkpoint is a pickle, and a pickle can run any program when it is opened; PyTorch's restricted reader only builds
tensors and the types named here, which is all that nnU-Net writes.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

ENTRIES = ("network_weights", "trainer_name", "init_args")


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


def load_checkpoint(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """nnU-Net's checkpoint in main memory.

    Args:
        path: the .pth file.
        trust: let the file run whatever code it holds; for files of known origin alone.

    Raises:
        ValueError: the file is damaged, no checkpoint of nnU-Net, or holds more than weights and settings.
    """
    try:
        with torch.serialization.safe_globals(_numpy_types()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoint = torch.load(path, map_location="cpu", weights_only=not trust)
    except FileNotFoundError:
        raise
    except Exception as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if code is None:
            raise ValueError(
                f"{path} cannot be read as a checkpoint: it is damaged, truncated or another file"
            ) from error
        raise ValueError(
            f"{path} holds more than weights and settings ({code[1]}) and could run code when it is opened; "
            "it was not opened. Where you know its origin, allow it with --trust"
        ) from error
    if not isinstance(checkpoint, dict) or any(name not in checkpoint for name in ENTRIES):
        raise ValueError(f"{path} is no checkpoint of nnU-Net: expected {', '.join(ENTRIES)} in it")
    return checkpoint


def _numpy_types() -> list[Any]:
    """What nnU-Net's record of losses and scores is made of, under its names in NumPy 1 and 2."""
    scalar, reconstruct = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    renamed = [
        (function, f"numpy.{core}.multiarray.{function.__name__}")
        for function in (scalar, reconstruct)
        for core in ("core", "_core")
    ]
    dtypes = {type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}
    return [*renamed, np.ndarray, np.dtype, *dtypes]


def read_model(folder: Path, folds: Sequence[int | str], checkpoint_name: str, trust: bool = False) -> TrainedModel:
    """The model of `folder` with the weights of `folds`, each file opened once; see `load_checkpoint` for `trust`.

    Raises:
        ValueError: a checkpoint that is damaged, refused, or of another configuration than the plans have.
    """
    checkpoints = [load_checkpoint(folder / f"fold_{fold}" / checkpoint_name, trust) for fold in folds]
    first = checkpoints[0]
    plans_manager = PlansManager(load_json(str(folder / "plans.json")))
    dataset_json = load_json(str(folder / "dataset.json"))
    name = first["init_args"]["configuration"]
    if name not in plans_manager.available_configurations:
        raise ValueError(f"{folder} was trained with configuration {name!r}, which its plans.json does not have")
    configuration = plans_manager.get_configuration(name)
    network = recursive_find_trainer_class_by_name(first["trainer_name"]).build_network_architecture(
        plans_manager,
        configuration,
        determine_num_input_channels(plans_manager, configuration, dataset_json),
        plans_manager.get_label_manager(dataset_json).num_segmentation_heads,
        enable_deep_supervision=False,
    )
    parameters = [checkpoint["network_weights"] for checkpoint in checkpoints]
    network.load_state_dict(parameters[0])
    axes = first.get("inference_allowed_mirroring_axes")
    return TrainedModel(
        plans_manager, name, configuration, network, parameters, dataset_json, first["trainer_name"], axes
    )


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
    found = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint_name}"))
    numbered: list[int | str] = [int(fold) for fold in found if fold.isdigit()]
    together: list[int | str] = ["all"] if "all" in found else []
    if wanted is None:
        folds = numbered or together
    elif [str(fold) for fold in wanted] == ["all"]:
        folds = together or numbered
    else:
        folds = list(dict.fromkeys(int(fold) if str(fold).isdigit() else fold for fold in wanted))
    missing = [fold for fold in folds if str(fold) not in found]
    if missing or not folds:
        name = f"fold_{missing[0]}" if missing else "fold_*"
        raise FileNotFoundError(
            f"{folder / name / checkpoint_name} does not exist; found: {', '.join(found) or 'none'}"
        )
    return folds
