"""Predicting a folder of cases, or a fold's validation cases, with nnU-Net's files and options."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

from nnunetv2_diffusion.inference.input_images import check_images
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.previous_stage import (
    baseline_folder,
    check_previous_stage_masks,
    predict_pre_segmentations,
)


def choose_device(name: str | None) -> torch.device:
    """`name` as a device; without a name the GPU where there is one, else the CPU with all its cores.

    Raises:
        ValueError: a device that this machine does not have.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("-device cuda was asked for, but this machine has no CUDA device; use -device cpu")
    if name == "cpu":
        torch.set_num_threads(multiprocessing.cpu_count())
    return torch.device(name)


def model_folder(dataset: str, trainer: str, plans: str, configuration: str) -> Path:
    """nnU-Net's results folder of a trained model.

    Raises:
        FileNotFoundError: nnUNet_results is not set, or nothing was trained under these names.
    """
    if not nnUNet_results.is_set():
        raise FileNotFoundError("nnUNet_results is not set; set it to the folder that holds the trained models")
    results = Path(nnUNet_results)
    name = _dataset_name(dataset)
    folder = results / name / f"{trainer}__{plans}__{configuration}"
    if not folder.is_dir():
        trained = sorted(path.name for path in (results / name).glob("*__*__*"))
        raise FileNotFoundError(f"{folder} does not exist; trained so far: {', '.join(trained) or 'nothing'}")
    return folder


def _dataset_name(dataset: str) -> str:
    """`dataset` (a number or a name) as nnU-Net's dataset name, looked for among the trained models first."""
    if dataset.startswith("Dataset"):
        return dataset
    if not dataset.isdigit():
        raise ValueError(f"-d must be a dataset's number or its name DatasetXXX_NAME, not {dataset!r}")
    found = sorted(path.name for path in Path(nnUNet_results).glob(f"Dataset{int(dataset):03d}_*"))
    return found[0] if len(found) == 1 else maybe_convert_to_dataset_name(int(dataset))


def predict_folder(
    predictor: DiffusionPredictor,
    images: str,
    output: str,
    save_probabilities: bool = False,
    overwrite: bool = True,
    preprocessing_processes: int = 3,
    export_processes: int = 3,
    previous_stage: str | None = None,
    num_parts: int = 1,
    part_id: int = 0,
) -> None:
    """Masks (and maps) of all cases in a folder, as nnUNetv2_predict does it; `timing.json` beside them.

    Args:
        predictor: with a model initialized.
        images: folder of images named <case>_0000 and so on, with the dataset's file ending.
        output: folder for the masks.
        save_probabilities, overwrite: as nnU-Net's --save_probabilities and not --continue_prediction.
        preprocessing_processes, export_processes: 0 for both stays in this process.
        previous_stage: folder with the previous stage's masks, for a cascade; None runs the baseline that lies beside
            the model first, into `<output>/pre_segmentation`.
        num_parts, part_id: predict every num_parts-th case, starting at part_id.

    Raises:
        FileNotFoundError: no images there, or channels of them.
        ValueError: part numbers that do not fit, damaged images, or masks of the previous stage that do not fit theirs.
    """
    in_this_process = preprocessing_processes == 0 and export_processes == 0
    _check_parts(num_parts, part_id, in_this_process)
    check_images(Path(images), predictor.dataset_json)
    if predictor.configuration_manager.previous_stage_name is None:
        previous_stage = None
    else:
        previous_stage = str(_previous_stage_masks(predictor, images, Path(output), previous_stage))
    Path(output).mkdir(parents=True, exist_ok=True)
    options = {"save_probabilities": save_probabilities, "overwrite": overwrite}
    if in_this_process:
        predictor.predict_from_files_sequential(
            images, output, folder_with_segs_from_prev_stage=previous_stage, **options
        )
    else:
        predictor.predict_from_files(
            images,
            output,
            num_processes_preprocessing=max(1, preprocessing_processes),
            num_processes_segmentation_export=max(1, export_processes),
            folder_with_segs_from_prev_stage=previous_stage,
            num_parts=num_parts,
            part_id=part_id,
            **options,
        )
    predictor.write_timing(Path(output))


def _previous_stage_masks(predictor: DiffusionPredictor, images: str, output: Path, previous_stage: str | None) -> Path:
    """The folder with the previous stage's masks: the one given, checked, or the baseline's, predicted now."""
    if previous_stage is None:
        baseline = baseline_folder(predictor.model_folder, predictor.configuration_name)
        print(f"predicting the pre-segmentations with {baseline.name}")
        return predict_pre_segmentations(baseline, images, output / "pre_segmentation", predictor.device)
    labels = predictor.label_manager.foreground_labels
    check_previous_stage_masks(images, Path(previous_stage), predictor.dataset_json, [int(label) for label in labels])
    return Path(previous_stage)


def _check_parts(num_parts: int, part_id: int, in_this_process: bool) -> None:
    if num_parts < 1:
        raise ValueError(f"-num_parts must be at least 1, not {num_parts}")
    if not 0 <= part_id < num_parts:
        raise ValueError(f"-part_id must lie in 0 ... {num_parts - 1} for -num_parts {num_parts}, not {part_id}")
    if num_parts > 1 and in_this_process:
        raise ValueError("-num_parts needs -npp or -nps above 0, as in nnUNetv2_predict")


def predict_validation(
    predictor: DiffusionPredictor, folder: Path, fold: int, save_probabilities: bool = False, export_processes: int = 1
) -> Path:
    """Masks and maps of a fold's validation cases, by that fold, from the preprocessed data that it was trained on.

    They go to `fold_<fold>/validation_uncertainty`, beside nnU-Net's own `validation`, whose evaluation expects masks
    and nothing else.

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
    output = folder / f"fold_{fold}" / "validation_uncertainty"
    items = validation_items(predictor, fold, output)
    output.mkdir(exist_ok=True)
    predictor.predict_from_data_iterator(items, save_probabilities, export_processes)
    predictor.write_timing(output)
    return output


def validation_items(predictor: DiffusionPredictor, fold: int, output: Path) -> Iterator[dict[str, Any]]:
    """A fold's validation cases as nnU-Net's prediction takes them: data, data_properties and ofile, in `output`.

    Raises:
        FileNotFoundError: the preprocessed data or the splits are not there.
        ValueError: the splits have no such fold.
    """
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    base = Path(nnUNet_preprocessed) / plans.dataset_name
    data_folder, splits_file = base / configuration.data_identifier, base / "splits_final.json"
    for path in (data_folder, splits_file):
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; nnU-Net writes it when the dataset is preprocessed and trained"
            )
    splits = load_json(str(splits_file))
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
    return str(baseline / "predicted_next_stage" / predictor.configuration_name)


def _load_cases(
    dataset, cases: Sequence[str], output: Path, foreground_labels: Sequence[int], cascaded: bool
) -> Iterator[dict[str, Any]]:
    for case in cases:
        data, _, previous, properties = dataset.load_case(case)
        data = np.asarray(data[:])
        if cascaded:
            data = np.vstack((data, convert_labelmap_to_one_hot(previous[:], foreground_labels, data.dtype)))
        yield {"data": torch.from_numpy(data).float(), "data_properties": properties, "ofile": str(output / case)}
