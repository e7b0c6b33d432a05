"""What the methods predict: one synthetic slice, or real cases with their masks."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.utils import create_lists_from_splitted_dataset_folder

from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.scoring.labels import read_labels
from nnunetv2_diffusion.scoring.metrics import dice
from speed.methods import LoadedMethod
from speed.planned import quietly


def synthetic_slice(size: int) -> torch.Tensor:
    """Noise, [1, 1, size, size]."""
    return torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0))


def case_files(loaded: LoadedMethod, images: Path) -> list[list[str]]:
    """The files of each case, one a channel.

    Raises:
        FileNotFoundError: no case there.
    """
    ending = loaded.predictor.dataset_json["file_ending"]
    files = create_lists_from_splitted_dataset_folder(str(images), ending)
    if not files:
        raise FileNotFoundError(f"{images} holds no image named <case>_0000{ending}")
    return files


def preprocessed(loaded: LoadedMethod, files: list[str]) -> tuple[torch.Tensor, dict]:
    """nnU-Net's preprocessed data [C, slices, H, W] of a case, and its properties."""
    predictor = loaded.predictor if loaded.baseline is None else loaded.baseline
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    with quietly():
        data, _, properties = preprocessor.run_case(files, None, plans, configuration, predictor.dataset_json)
    return torch.from_numpy(np.asarray(data)).float(), properties


def central_slice(data: torch.Tensor) -> torch.Tensor:
    """[C, slices, H, W] -> [C, 1, H, W]."""
    middle = data.shape[1] // 2
    return data[:, middle : middle + 1].clone()


def mean_dice(loaded: LoadedMethod, images: Path, labels: Path, dataset_json: Path) -> float:
    """Mean over cases of the mean Dice over structures, on the images' own grid."""
    scheme, predictor = read_labels(dataset_json), loaded.predictor
    ending = predictor.dataset_json["file_ending"]
    scores = []
    for files in case_files(loaded, images):
        data, properties = preprocessed(loaded, files)
        loaded.prepare(data)
        prediction = convert_predicted_logits_to_segmentation_with_correct_shape(
            loaded(data).cpu(),
            predictor.plans_manager,
            predictor.configuration_manager,
            predictor.label_manager,
            properties,
        )
        case = Path(files[0]).name.removesuffix(f"_0000{ending}")
        reference = read_volume(labels / f"{case}{ending}").array
        of_case = [dice(scheme.mask(reference, name), scheme.mask(prediction, name)) for name in scheme.structures]
        scores.append(float(np.nanmean(of_case)))
    return fmean(scores)
