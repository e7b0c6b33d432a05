"""Predicting a folder of images with nnU-Net's files and options."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_diffusion.inference.input_images import check_images
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.previous_stage import (
    Part,
    baseline_folder,
    check_previous_stage_masks,
    predict_pre_segmentations,
)


def predict_folder(
    predictor: DiffusionPredictor,
    images: str,
    output: str,
    *,
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
    check_images(Path(images), predictor.dataset_json, predictor.plans_manager.image_reader_writer_class())
    if predictor.configuration_manager.previous_stage_name is None:
        previous_stage = None
    else:
        part = Part(num_parts, part_id)
        previous_stage = str(_previous_stage_masks(predictor, images, Path(output), previous_stage, part))
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


def _previous_stage_masks(
    predictor: DiffusionPredictor, images: str, output: Path, previous_stage: str | None, part: Part
) -> Path:
    """The folder with the previous stage's masks of this part's cases: the one given, checked, or the baseline's,
    predicted now."""
    if previous_stage is None:
        baseline = baseline_folder(predictor.model_folder, predictor.configuration_name)
        print(f"predicting the pre-segmentations with {baseline.name}")
        return predict_pre_segmentations(baseline, images, output / "pre_segmentation", predictor.runtime, part)
    labels = [int(label) for label in predictor.label_manager.foreground_labels]
    check_previous_stage_masks(images, Path(previous_stage), predictor.dataset_json, labels, part)
    return Path(previous_stage)


def _check_parts(num_parts: int, part_id: int, in_this_process: bool) -> None:
    if num_parts < 1:
        raise ValueError(f"-num_parts must be at least 1, not {num_parts}")
    if not 0 <= part_id < num_parts:
        raise ValueError(f"-part_id must lie in 0 ... {num_parts - 1} for -num_parts {num_parts}, not {part_id}")
    if num_parts > 1 and in_this_process:
        raise ValueError("-num_parts needs -npp or -nps above 0, as in nnUNetv2_predict")
