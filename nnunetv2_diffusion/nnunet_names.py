"""nnU-Net's names on disk and ours beside them: model folders, folds, stages, datasets; each is spelt out here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

TRAINER, PLANS = "nnUNetTrainer", "nnUNetPlans"
SPINESEGDIFF, PRESEG = "nnUNetTrainerSpineSegDiff", "nnUNetTrainerSpineSegDiffPreSeg"
CONTROL, PAPER = "nnUNetTrainerSpineSegDiffControl", "nnUNetTrainerSpineSegDiffPaper"

RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
EXTERNAL_TRAINERS = "nnUNet_extTrainer"
# The one folder that EXTERNAL_TRAINERS must name: nnU-Net imports every file below it.
EXTENSION = Path(__file__).resolve().parent / "extension"

# Ours, read by our trainers: epochs between checkpoints, and the seed of everything that a training draws.
SAVE_EVERY_VARIABLE, SEED_VARIABLE = "SPINESEGDIFF_SAVE_EVERY", "SPINESEGDIFF_TRAINING_SEED"

CHECKPOINT = "checkpoint_final.pth"
LATEST_CHECKPOINT, BEST_CHECKPOINT = "checkpoint_latest.pth", "checkpoint_best.pth"
# Ours, beside them while a fold trains: what LATEST_CHECKPOINT was before.
PREVIOUS_CHECKPOINT = "checkpoint_previous.pth"
DATASET_FILE, PLANS_FILE, SPLITS_FILE = "dataset.json", "plans.json", "splits_final.json"
VALIDATION = "validation"
# In a fold's folder: masks and maps of `spinesegdiff validate`, apart from nnU-Net's own `validation`.
VALIDATION_MAPS = "validation_uncertainty"
# In a folder of masks: their maps, apart since nnU-Net's tools take every image in a folder of masks for a mask.
MAPS = "uncertainty"
# Beside the maps: whose answers they compare, samples, folds or mirrorings.
MEMBERS_FILE = "members.json"
# Maps of what members of an ensemble do not agree on: as files, `<case>_<map>`.
DISAGREEMENT = ("variance", "mutual_information")
# In a folder of masks: label maps with one dimension more, the samples, see `samples_file`.
SAMPLES = "samples"
TIMING_FILE = "timing.json"
# In a model's folder, beside its folds: what `spinesegdiff calibrate` found.
CALIBRATION_FILE = "measurement_intervals.json"
# In dataset.json: how `spinesegdiff convert` prepared the images.
CONVERSION = "spinesegdiff_conversion"

_SEPARATOR = "__"
_NEXT_STAGE = "predicted_next_stage"
_FOLD = "fold_"
_STAGE = "_preseg_T"


class ModelName(NamedTuple):
    """What names a trained model; as text, nnU-Net's name of its folder."""

    trainer: str
    plans: str
    configuration: str

    def __str__(self) -> str:
        return _SEPARATOR.join(self)

    @classmethod
    def of_folder(cls, folder: str | Path) -> ModelName:
        """The name in a model folder's own.

        Raises:
            ValueError: the folder is not named as nnU-Net names the folders of models.
        """
        parts = Path(folder).name.split(_SEPARATOR)
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"{folder} is not named <trainer>__<plans>__<configuration>, as nnU-Net names a model")
        return cls(*parts)


def model_folders(dataset_results: Path) -> list[Path]:
    """The folders of models in a dataset's results, by name; none where the folder does not exist."""
    found = dataset_results.iterdir() if dataset_results.is_dir() else ()
    return sorted(path for path in found if path.is_dir() and path.name.count(_SEPARATOR) == 2)


def fold_folder(model_folder: Path, fold: int | str) -> Path:
    """Where a fold of a model lies; `fold` is its number or "all"."""
    return model_folder / f"{_FOLD}{fold}"


def folds_with(model_folder: Path, file: str = "") -> list[str]:
    """The folds of a model, "0", "1", … or "all", whose folders hold `file`; the numbered ones first, by number."""
    folders = model_folder.glob(f"{_FOLD}*") if model_folder.is_dir() else ()
    names = [path.name.removeprefix(_FOLD) for path in folders if path.is_dir() and (path / file).exists()]
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def numbered_folds_with(model_folder: Path, file: str = "") -> list[int]:
    """As `folds_with`, the numbered ones alone, as numbers."""
    return [int(name) for name in folds_with(model_folder, file) if name.isdecimal()]


def next_stage_folder(model_folder: Path, configuration: str) -> Path:
    """Where a model's validation leaves its masks for the stage `configuration` that refines them."""
    return model_folder / _NEXT_STAGE / configuration


def stage_name(baseline: str, timesteps: int | str) -> str:
    """The pre-segmentation stage on a baseline: `2d_preseg_T30`; `timesteps` may stand for a number, as in `<T>`."""
    return f"{baseline}{_STAGE}{timesteps}"


def parse_stage(configuration: str) -> tuple[str, int] | None:
    """(baseline, T) of a pre-segmentation stage's name; None for any other configuration."""
    match = re.fullmatch(rf"(.+){_STAGE}(\d+)", configuration)
    return (match[1], int(match[2])) if match else None


def default_trainer(configuration: str) -> str:
    """The trainer of ours that trains this kind of configuration."""
    return SPINESEGDIFF if parse_stage(configuration) is None else PRESEG


def samples_file(predictions: Path, case: str) -> Path:
    """Where a case's samples lie, given the folder of its mask: apart as its maps are."""
    return predictions / SAMPLES / f"{case}_{SAMPLES}.nii.gz"


def rater_case(image: str, rater: str) -> str:
    """The case that is an image as one of its raters segmented it: `SPIDER_001_t2__rater2`.

    Raises:
        ValueError: the rater's name holds the separator or is empty, so that it could not be told from the image's.
    """
    if not rater or _SEPARATOR in rater:
        raise ValueError(f"a rater cannot be called {rater!r}: give a name without {_SEPARATOR}")
    return f"{image}{_SEPARATOR}{rater}"


def rated_file_name(file_name: str, rater: str) -> str:
    """The name of a rater's mask of a file: `1_t2__rater2.mha`; ValueError as `rater_case`."""
    stem, point, ending = file_name.partition(".")
    return f"{rater_case(stem, rater)}{point}{ending}"


def split_rater(case: str) -> tuple[str, str | None]:
    """(image, rater) of a case's name; the rater is None where it names none."""
    image, separator, rater = case.rpartition(_SEPARATOR)
    return (image, rater) if image and separator and rater else (case, None)


def dataset_name(number: int, name: str) -> str:
    """nnU-Net's name of a dataset: `Dataset502_SPIDER_T2w`."""
    return f"Dataset{number:03d}_{name}"


def dataset_number(name: str) -> int | None:
    """The number in a dataset's name; None for another name."""
    match = re.match(r"Dataset(\d{3,})_", name)
    return int(match[1]) if match else None


def dataset_folder(dataset: int | str, root: Path) -> Path | None:
    """The folder of a dataset in one of nnU-Net's three; None where it has none.

    Args:
        dataset: its number, or its name DatasetXXX_NAME.
        root: what nnUNet_raw, nnUNet_preprocessed or nnUNet_results names.

    Raises:
        ValueError: `dataset` is neither, or several datasets share the number.
    """
    text = str(dataset)
    if text.isdecimal():
        found = sorted(path for path in root.glob(dataset_name(int(text), "*")) if path.is_dir())
    elif dataset_number(text) is not None:
        found = [root / text] if (root / text).is_dir() else []
    else:
        raise ValueError(f"a dataset is named by its number, such as 502, or as DatasetXXX_NAME, not {text!r}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"the number {text} is taken by several datasets in {root}: {names}; give the full name")
    return found[0] if found else None


def nnunet_folder(variable: str) -> Path:
    """The folder that one of nnU-Net's environment variables names.

    Raises:
        ValueError: the variable is not set.
        FileNotFoundError: it names no folder.
    """
    value = os.environ.get(variable)
    if not value:
        raise ValueError(f"{variable} is not set; export it as nnU-Net's folder of that name")
    if not Path(value).is_dir():
        raise FileNotFoundError(f"{variable} names {value}, which is no folder")
    return Path(value)


def model_folder(dataset: str, name: ModelName) -> Path:
    """nnU-Net's results folder of a trained model.

    Args:
        dataset: its number or name.
        name: of the model.

    Raises:
        FileNotFoundError: nothing was trained under these names.
        ValueError: nnUNet_results is not set, `dataset` names none, or several datasets share the number.
    """
    results = nnunet_folder(RESULTS)
    of_dataset = dataset_folder(dataset, results)
    if of_dataset is None:
        raise FileNotFoundError(f"{results} holds no models of dataset {dataset}; train one first")
    folder = of_dataset / str(name)
    if not folder.is_dir():
        trained = ", ".join(path.name for path in model_folders(of_dataset))
        raise FileNotFoundError(f"{folder} does not exist; trained so far: {trained or 'nothing'}")
    return folder


def optional_nnunet_folder(variable: str) -> Path | None:
    """As `nnunet_folder`, but None where the variable is not set or names no folder."""
    value = os.environ.get(variable)
    return Path(value) if value and Path(value).is_dir() else None


def channel_names(dataset_json: Mapping[str, Any]) -> list[str]:
    """The names of a dataset's channels, in their order; older files call them `modality`, as nnU-Net still reads.

    Raises:
        ValueError: the description names no channels.
    """
    channels = dataset_json.get("channel_names", dataset_json.get("modality"))
    if not isinstance(channels, Mapping) or not channels:
        raise ValueError(f'{DATASET_FILE} names no channels; it needs "channel_names": {{"0": "MRI"}} or the like')
    return list(channels.values())


def make_trainers_known() -> None:
    """Let nnU-Net find our trainers by name in this process, beside those that its variable names already."""
    known = [folder for folder in os.environ.get(EXTERNAL_TRAINERS, "").split(os.pathsep) if folder]
    if str(EXTENSION) not in known:
        os.environ[EXTERNAL_TRAINERS] = os.pathsep.join([*known, str(EXTENSION)])
