"""The model card: what a model was trained on and for, how it scored, and the SHA-256 of each of its files."""

from __future__ import annotations

import importlib.metadata
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_diffusion.files import naming, read_json
from nnunetv2_diffusion.inference.trained_models import TrainedModel
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.nnunet_names import CONVERSION, VALIDATION, channel_names, fold_folder

FORMAT = 1
_PACKAGES = ("nnunetv2-diffusion", "nnunetv2", "torch")
_DEBUG, _SUMMARY = "debug.json", "summary.json"


@dataclass(frozen=True)
class Statements:
    """What only people can say of a model: what it is for, what it is not fit for, and who may use it how."""

    intended_use: str = "Research on lumbar spine MRI. Not a medical device."
    limits: str = "Not tested on other contrasts, body regions, scanners or patients than it was trained on."
    licence: str = "not stated"


def describe(
    model: TrainedModel, folder: Path, folds: Sequence[int | str], epochs: Sequence[int | None], statements: Statements
) -> dict[str, Any]:
    """The card of a model, without its hashes.

    Args:
        model: as `read_model` gives it.
        folder: where it lies, for its validation scores.
        folds: those that are handed around.
        epochs: that each of them was trained for; None where its checkpoint does not say.
        statements: intended use, limits and licence.
    """
    dataset, network = model.dataset_json, model.network
    labels = {name: label for name, label in dataset["labels"].items() if name not in ("background", "ignore")}
    debug = _optional(fold_folder(folder, folds[0]) / _DEBUG)
    return {
        "format": FORMAT,
        "model": {
            "dataset": model.plans_manager.dataset_name,
            "trainer": model.trainer_name,
            "plans": model.plans_manager.plans_name,
            "configuration": model.configuration_name,
            "folds": list(folds),
        },
        "training": {
            "modality": (dataset.get(CONVERSION) or {}).get("modality"),
            "channels": channel_names(dataset),
            "structures": labels,
            "cases": dataset.get("numTraining"),
            "epochs": list(epochs),
            "torch": debug.get("torch_version"),
        },
        "settings": network.settings.as_dict() if isinstance(network, DiffusionNetwork) else None,
        "validation": validation_scores(folder, folds, labels),
        "intended_use": statements.intended_use,
        "limits": statements.limits,
        "licence": statements.licence,
        "exported_with": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def validation_scores(
    folder: Path, folds: Sequence[int | str], labels: Mapping[str, int | list[int]]
) -> dict[str, dict[str, float | int]]:
    """Dice of nnU-Net's own validation over the cases of the folds, a structure a row: mean, standard deviation, cases.

    A structure that neither mask nor reference of a case holds is no case of it. Nothing where no fold was validated.
    The summaries themselves stay behind: they name patients' files.

    Raises:
        ValueError: a summary that nnU-Net did not write.
    """
    dice = defaultdict(list)
    for fold in folds:
        file = fold_folder(folder, fold) / VALIDATION / _SUMMARY
        with naming(file, "validate the fold again"):
            for case in _optional(file).get("metric_per_case", []):
                for name, label in labels.items():
                    key = str(tuple(label)) if isinstance(label, list) else str(label)
                    dice[name].append(float(case["metrics"][key]["Dice"]))
    scores = {}
    for name, values in dice.items():
        seen = [value for value in values if not math.isnan(value)]
        if seen:
            spread = float(np.std(seen, ddof=1)) if len(seen) > 1 else 0.0
            scores[name] = {"dice_mean": float(np.mean(seen)), "dice_sd": spread, "cases": len(seen)}
    return scores


def _optional(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}
