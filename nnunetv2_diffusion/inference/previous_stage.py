"""The baseline of a pre-segmentation model: where it is, running it first, and checking masks that a user brings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import create_lists_from_splitted_dataset_folder

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.imaging.reading import read_image
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.nnunet_names import (
    CHECKPOINT,
    PLANS_FILE,
    ModelName,
    fold_folder,
    folds_with,
    numbered_folds_with,
)


def baseline_folder(model_folder: Path, configuration_name: str) -> Path:
    """The trained baseline whose masks the model in `model_folder` refines; it lies beside it.

    Raises:
        FileNotFoundError: the baseline is not there.
        ValueError: the model is no pre-segmentation model.
    """
    plans = PlansManager(read_json(model_folder / PLANS_FILE, remedy="copy the model's folder again"))
    configuration = plans.get_configuration(configuration_name).configuration
    if configuration.get("previous_stage") is None or "pre_segmentation" not in configuration:
        raise ValueError(f"{configuration_name} of {model_folder} is no pre-segmentation stage")
    trainer = configuration["pre_segmentation"]["previous_trainer"]
    folder = model_folder.parent / str(ModelName(trainer, plans.plans_name, configuration["previous_stage"]))
    if not folds_with(folder, CHECKPOINT):
        raise FileNotFoundError(
            f"{model_folder.name} refines the masks of {folder}, which holds no trained fold; train the baseline or "
            "name a folder with its masks (-prev_stage_predictions)"
        )
    return folder


def predict_pre_segmentations(baseline: Path, images: str, output: Path, runtime: Runtime) -> Path:
    """nnU-Net's masks of all images by all trained folds of the baseline, in this process, into `output`.

    Masks that are there already and newer than every fold of the baseline are kept.
    """
    output.mkdir(parents=True, exist_ok=True)
    trained = [fold_folder(baseline, fold) / CHECKPOINT for fold in folds_with(baseline, CHECKPOINT)]
    newest = max(checkpoint.stat().st_mtime for checkpoint in trained)
    for mask in output.glob("*"):
        if mask.stat().st_mtime < newest:
            mask.unlink()
    folds = None if numbered_folds_with(baseline, CHECKPOINT) else ["all"]
    predictor = DiffusionPredictor(runtime=runtime, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(baseline, folds)
    predictor.predict_from_files_sequential(images, str(output), overwrite=False)
    return output


def check_previous_stage_masks(images: str, masks: Path, dataset_json: dict, foreground_labels: list[int]) -> None:
    """Masks that a user brings for every image: there, of its size, and with the dataset's labels only.

    Raises:
        FileNotFoundError: masks are missing.
        ValueError: a mask of another size or with other labels.
    """
    ending = dataset_json["file_ending"]
    first_images = [Path(files[0]) for files in create_lists_from_splitted_dataset_folder(images, ending)]
    cases = {image.name[: -len(f"_0000{ending}")]: image for image in first_images}
    missing = [case for case in cases if not (masks / f"{case}{ending}").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{masks} lacks the previous stage's masks of {', '.join(missing)}; predict them with the baseline first"
        )
    for case, image in cases.items():
        file = masks / f"{case}{ending}"
        mask = read_image(file).image
        size = sitk.ImageFileReader()
        size.SetFileName(str(image))
        size.ReadImageInformation()
        if mask.GetSize() != size.GetSize():
            raise ValueError(f"{file} is of size {mask.GetSize()}, but its image of size {size.GetSize()}")
        strange = sorted(set(np.unique(sitk.GetArrayViewFromImage(mask)).tolist()) - {0, *foreground_labels})
        if strange:
            raise ValueError(f"{file} holds labels {strange}, but the dataset's are {foreground_labels}")
