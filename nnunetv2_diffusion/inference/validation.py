"""Predicting a fold's validation cases from the preprocessed data that the fold was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.previous_stage import baseline_folder
from nnunetv2_diffusion.nnunet_names import (
    PREPROCESSED,
    SPLITS_FILE,
    VALIDATION_MAPS,
    fold_folder,
    next_stage_folder,
    nnunet_folder,
)


def predict_validation(
    predictor: DiffusionPredictor,
    folder: Path,
    fold: int,
    *,
    save_probabilities: bool = False,
    export_processes: int = 1,
) -> Path:
    """Masks and maps of a fold's validation cases, by that fold, from the preprocessed data that it was trained on.

    They go to the fold's folder VALIDATION_MAPS, beside nnU-Net's own `validation`.

    Args:
        predictor: with this fold's model initialized.
        folder: the trained model's folder.
        fold: its number.
        save_probabilities: also the fused probabilities, as nnU-Net's --npz.
        export_processes: for nnU-Net's export.

    Returns:
        The folder written.

    Raises:
        FileNotFoundError: the preprocessed data or the splits are not there.
    """
    output = fold_folder(folder, fold) / VALIDATION_MAPS
    items = validation_items(predictor, fold, output)
    output.mkdir(exist_ok=True)
    predictor.predict_from_data_iterator(items, save_probabilities, export_processes)
    return output


def validation_items(predictor: DiffusionPredictor, fold: int, output: Path) -> Iterator[dict[str, Any]]:
    """A fold's validation cases as nnU-Net's prediction takes them: data, data_properties and ofile, in `output`.

    Raises:
        FileNotFoundError: the preprocessed data or the splits are not there.
        ValueError: nnUNet_preprocessed is not set, or the splits have no such fold.
    """
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    base = nnunet_folder(PREPROCESSED) / plans.dataset_name
    data_folder, splits_file = base / configuration.data_identifier, base / SPLITS_FILE
    for path in (data_folder, splits_file):
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; nnU-Net writes it when the dataset is preprocessed and trained"
            )
    splits = read_json(splits_file, list, remedy="let nnU-Net write it anew, or restore it")
    if fold >= len(splits):
        raise ValueError(f"{splits_file} has {len(splits)} folds; there is no fold {fold}")
    previous = _predicted_next_stage(predictor)
    cases = sorted(splits[fold]["val"])
    dataset = infer_dataset_class(str(data_folder))(str(data_folder), cases, previous)
    return _load_cases(dataset, cases, output, predictor.label_manager.foreground_labels, previous is not None)


def _predicted_next_stage(predictor: DiffusionPredictor) -> str | None:
    """Where nnU-Net's baseline left its predictions of the training cases for this stage; None without a stage."""
    if predictor.configuration_manager.previous_stage_name is None:
        return None
    baseline = baseline_folder(predictor.model_folder, predictor.configuration_name)
    return str(next_stage_folder(baseline, predictor.configuration_name))


def _load_cases(
    dataset, cases: Sequence[str], output: Path, foreground_labels: Sequence[int], cascaded: bool
) -> Iterator[dict[str, Any]]:
    for case in cases:
        data, _, previous, properties = dataset.load_case(case)
        data = np.asarray(data[:])
        if cascaded:
            data = np.vstack((data, convert_labelmap_to_one_hot(previous[:], foreground_labels, data.dtype)))
        yield {"data": torch.from_numpy(data).float(), "data_properties": properties, "ofile": str(output / case)}
