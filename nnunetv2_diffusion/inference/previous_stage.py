"""The baseline of a pre-segmentation model: where it is, running it first, and checking masks that a user brings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_diffusion.files import checksum, read_json, write_json
from nnunetv2_diffusion.imaging.reading import read_image
from nnunetv2_diffusion.inference.input_images import case_files
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

# In a folder of pre-segmentations: what each was made of, a file a case, since several calls may share the folder.
RECORDS = "made_of"


def baseline_folder(model_folder: Path, configuration_name: str) -> Path:
    """The trained baseline whose masks the model in `model_folder` refines; it lies beside it.

    Raises:
        FileNotFoundError: the baseline is not there.
        ValueError: the model is no pre-segmentation model.
    """
    plans = PlansManager(read_json(model_folder / PLANS_FILE, remedy="copy the model's folder again"))
    configuration = plans.get_configuration(configuration_name).configuration
    if configuration.get("previous_stage") is None or "pre_segmentation" not in configuration:
        raise ValueError(
            f"{configuration_name} of {model_folder} is no pre-segmentation stage, whose previous stage would be run "
            "first: give its masks to `spinesegdiff predict` by -prev_stage_predictions"
        )
    trainer = configuration["pre_segmentation"]["previous_trainer"]
    folder = model_folder.parent / str(ModelName(trainer, plans.plans_name, configuration["previous_stage"]))
    if not folds_with(folder, CHECKPOINT):
        raise FileNotFoundError(
            f"{model_folder.name} refines the masks of {folder}, which holds no trained fold; train the baseline or "
            "name a folder with its masks (-prev_stage_predictions)"
        )
    return folder


class Part(NamedTuple):
    """Which cases a call predicts, as nnU-Net parts them: every `number`-th of them, from `index` on."""

    number: int = 1
    index: int = 0

    def of(self, cases: dict[str, list[Path]]) -> dict[str, list[Path]]:
        """Those of the sorted `cases` that are this part's."""
        return dict(list(cases.items())[self.index :: self.number])


def predict_pre_segmentations(baseline: Path, images: str, output: Path, runtime: Runtime, part: Part) -> Path:
    """nnU-Net's masks of a part's images by all trained folds of the baseline, in this process, into `output`.

    Masks that are there already are kept where the record of their making, beside them, names these very images and
    weights: whatever the times of files say, which copies lose. Other parts' masks are left alone.
    """
    numbered = numbered_folds_with(baseline, CHECKPOINT)
    predictor = DiffusionPredictor(runtime=runtime, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(baseline, None if numbered else ["all"])
    ending = predictor.dataset_json["file_ending"]
    cases = part.of(case_files(images, ending))
    if not cases:
        return output
    output.mkdir(parents=True, exist_ok=True)
    weights = {str(fold): checksum(fold_folder(baseline, fold) / CHECKPOINT) for fold in numbered or ["all"]}
    for case, files in cases.items():
        made_of = {"baseline": baseline.name, "weights": weights, "images": [checksum(file) for file in files]}
        _forget_another(output / f"{case}{ending}", output / RECORDS / f"{case}.json", made_of)
    predictor.predict_from_files_sequential(
        [[str(file) for file in files] for files in cases.values()],
        [str(output / case) for case in cases],
        overwrite=False,
    )
    return output


def _forget_another(mask: Path, record: Path, made_of: dict[str, Any]) -> None:
    """Remove a mask that was made of anything else, and record what the one to come is made of."""
    try:
        kept = read_json(record) == made_of
    except (FileNotFoundError, ValueError):
        kept = False
    if not kept:
        mask.unlink(missing_ok=True)
        write_json(made_of, record)


def check_previous_stage_masks(
    images: str, masks: Path, dataset_json: dict, foreground_labels: list[int], part: Part
) -> None:
    """Masks that a user brings for every image of a part: there, of its size, and with the dataset's labels only.

    Raises:
        FileNotFoundError: masks are missing, or links to nothing.
        ValueError: a mask of another size or with other labels.
    """
    ending = dataset_json["file_ending"]
    cases = {case: files[0] for case, files in part.of(case_files(images, ending)).items()}
    missing = [case for case in cases if not os.path.lexists(masks / f"{case}{ending}")]
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
