"""Checks of the baseline's predictions that a pre-segmentation stage trains on, before its first step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.nnunet_names import CHECKPOINT, DATASET_FILE, SPLITS_FILE, VALIDATION, fold_folder

# A mask that nnU-Net resampled to the preprocessed grid differs from the one on the image's grid along its outline.
SAME_MASK_AGREEMENT = 0.98
NAMED_CASES = 5


def check_pre_segmentations(
    folder: Path, preprocessed: Path, plans_manager: PlansManager, label_manager: LabelManager, cases: Sequence[str]
) -> None:
    """Every case's pre-segmentation is there, fits, and comes from the baseline fold that did not train on the case.

    nnU-Net leaves a fold's masks of its validation cases twice: in `fold_<k>/validation` and, for the next stage, in
    `predicted_next_stage/<stage>`. A mask of the latter that differs from the one of its own fold was written by
    another training (fold `all`, say, or a fold trained again) and would leak the truth.

    Args:
        folder: `predicted_next_stage/<stage>` in the baseline's results.
        preprocessed: the stage's preprocessed cases.
        plans_manager, label_manager: of the dataset.
        cases: all that will be read.

    Raises:
        FileNotFoundError: masks are missing, or a fold's validation masks to compare with.
        ValueError: masks of another shape, with other labels, older than their model, or not out of fold.
    """
    folds = _folds(preprocessed.parent / SPLITS_FILE)
    retrain = f"run `nnUNetv2_train ... FOLD --val` of {folder.parent.parent.name} for"
    missing = [case for case in cases if not any(folder.glob(f"{case}.*"))]
    if missing:
        where = sorted({str(folds.get(case, "?")) for case in missing})
        raise FileNotFoundError(
            f"{folder} lacks the pre-segmentations of {_named(missing)}; {retrain} fold {', '.join(where)}"
        )
    problems: dict[str, list[str]] = {}
    dataset = infer_dataset_class(str(preprocessed))(str(preprocessed), list(cases), str(folder))
    for case in tqdm(cases, desc="checking pre-segmentations", disable=len(cases) < 50):
        problem = _problem(dataset, case, folds.get(case), folder, plans_manager, label_manager)
        if problem:
            problems.setdefault(problem, []).append(case)
    if problems:
        what = "; ".join(f"{problem}: {_named(named)}" for problem, named in problems.items())
        raise ValueError(f"pre-segmentations in {folder} cannot be trained on: {what}; {retrain} every fold")


def _folds(splits_file: Path) -> dict[str, int]:
    """The fold that holds each case out."""
    splits = read_json(splits_file, list, remedy="train the baseline's folds first")
    return {case: fold for fold, split in enumerate(splits) for case in split["val"]}


def _problem(
    dataset, case: str, fold: int | None, folder: Path, plans_manager: PlansManager, label_manager: LabelManager
) -> str | None:
    """What is wrong with a case's pre-segmentation, or None."""
    if fold is None:
        return f"held out by no fold of {SPLITS_FILE}"
    _, segmentation, mask, properties = dataset.load_case(case)
    mask = np.asarray(mask[:])
    shape = tuple(segmentation.shape)[1:]
    if mask.shape[-len(shape) :] != shape:
        return f"of shape {mask.shape}, not {shape} as their images"
    strange = sorted(set(np.unique(mask).tolist()) - {0, *label_manager.foreground_labels})
    if strange:
        return f"with labels {strange}, which the dataset does not have"
    trained = fold_folder(folder.parent.parent, fold)
    reference = trained / VALIDATION / f"{case}{_file_ending(trained)}"
    if not reference.is_file():
        return f"without fold {fold}'s own validation mask ({reference.parent}) to compare with"
    checkpoint = trained / CHECKPOINT
    written = next(folder.glob(f"{case}.*")).stat().st_mtime
    if checkpoint.is_file() and written < checkpoint.stat().st_mtime:
        return f"older than fold {fold}'s model"
    if _agreement(mask.reshape(shape), _on_preprocessed_grid(reference, shape, properties, plans_manager)) < 1:
        return f"not fold {fold}'s, which alone did not train on the case"
    return None


def _file_ending(trained: Path) -> str:
    return read_json(trained.parent / DATASET_FILE)["file_ending"]


def _on_preprocessed_grid(
    file: Path, shape: Iterable[int], properties: dict, plans_manager: PlansManager
) -> np.ndarray:
    """A mask on its image's grid, transposed and cropped as nnU-Net's preprocessing does, nearest pixels taken."""
    mask = plans_manager.image_reader_writer_class().read_seg(str(file))[0][0]
    mask = mask.transpose(plans_manager.transpose_forward)
    mask = mask[tuple(slice(*limits) for limits in properties["bbox_used_for_cropping"])]
    indices = [
        ((np.arange(target) + 0.5) * source / target).astype(int).clip(0, source - 1)
        for target, source in zip(shape, mask.shape, strict=True)
    ]
    return mask[np.ix_(*indices)]


def _agreement(mask: np.ndarray, reference: np.ndarray) -> float:
    """1 where the masks agree as one prediction on two grids does, else their share of equal foreground pixels."""
    foreground = (mask > 0) | (reference > 0)
    if not foreground.any():
        return 1.0
    share = float((mask == reference)[foreground].mean())
    return 1.0 if share >= SAME_MASK_AGREEMENT else share


def _named(cases: Sequence[str]) -> str:
    listed = ", ".join(cases[:NAMED_CASES])
    return listed if len(cases) <= NAMED_CASES else f"{listed} and {len(cases) - NAMED_CASES} more"
