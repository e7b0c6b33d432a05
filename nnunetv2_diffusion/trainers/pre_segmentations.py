"""Checks of the baseline's predictions that a pre-segmentation stage trains on, before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from tqdm import tqdm

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, SPLITS_FILE, VALIDATION, fold_folder

# Of the certain pixels; one prediction on two grids agrees on all of them but for rounding.
SAME_PREDICTION = 0.999
ROUNDING = 1e-5
NAMED_CASES = 5


def check_pre_segmentations(
    folder: Path,
    preprocessed: Path,
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    label_manager: LabelManager,
    cases: Sequence[str],
) -> None:
    """Every case's pre-segmentation is there, fits, and comes from the baseline fold that did not train on the case.

    nnU-Net leaves a fold's masks of its validation cases twice: in `fold_<k>/validation` and, for the next stage, in
    `predicted_next_stage/<stage>`. A mask of the latter that differs from the one of its own fold was written by
    another training (fold `all`, say, or a fold that validated anew and was stopped) and might leak the truth. Times of
    files, which copies lose, are not looked at: a pair that agrees is out of fold, whenever it was written.

    Args:
        folder: `predicted_next_stage/<stage>` in the baseline's results.
        preprocessed: the stage's preprocessed cases.
        plans_manager, configuration_manager, label_manager: of the stage and its dataset.
        cases: all that will be read.

    Raises:
        FileNotFoundError: masks are missing, or a fold's validation masks to compare with.
        ValueError: masks of another shape, with other labels, or not out of fold.
    """
    managers = (plans_manager, configuration_manager, label_manager)
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
        problem = _problem(dataset, case, folds.get(case), folder, managers)
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
    dataset,
    case: str,
    fold: int | None,
    folder: Path,
    managers: tuple[PlansManager, ConfigurationManager, LabelManager],
) -> str | None:
    """What is wrong with a case's pre-segmentation, or None."""
    if fold is None:
        return f"held out by no fold of {SPLITS_FILE}"
    _, segmentation, mask, properties = dataset.load_case(case)
    mask = np.asarray(mask[:])
    shape = tuple(segmentation.shape)[1:]
    if mask.shape[-len(shape) :] != shape:
        return f"of shape {mask.shape}, not {shape} as their images"
    strange = sorted(set(np.unique(mask).tolist()) - {0, *managers[2].foreground_labels})
    if strange:
        return f"with labels {strange}, which the dataset does not have"
    trained = fold_folder(folder.parent.parent, fold)
    reference = trained / VALIDATION / f"{case}{_file_ending(trained)}"
    if not reference.is_file():
        return f"without fold {fold}'s own validation mask ({reference.parent}) to compare with"
    if agreement_where_certain(mask.reshape(shape), reference, properties, *managers) < SAME_PREDICTION:
        return f"not fold {fold}'s, which alone did not train on the case"
    return None


def _file_ending(trained: Path) -> str:
    return read_json(trained.parent / DATASET_FILE)["file_ending"]


def agreement_where_certain(
    mask: np.ndarray,
    file: Path,
    properties: dict[str, Any],
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    label_manager: LabelManager,
) -> float:
    """How far a mask on the preprocessed grid and one on the image's own can be the same prediction, 0 to 1.

    nnU-Net makes both of the same logits: the one as they are, the other of their means over the neighbours of each
    pixel of the image (its `resampling_fn_probabilities`, which is linear). Where all of these neighbours have one
    label, their mean has it, too: that pixel is certain, whatever the spacings.

    Args:
        mask: [z, y, x] on the preprocessed grid.
        file: the mask on the image's grid.
        properties: of the preprocessed case.
        plans_manager, configuration_manager, label_manager: that the mask was predicted with.

    Returns:
        The share of the certain pixels that are foreground in either mask and equal in both; 1 where there are none.
    """
    validated = plans_manager.image_reader_writer_class().read_seg(str(file))[0][0]
    validated = validated.transpose(plans_manager.transpose_forward)
    validated = validated[tuple(slice(*limits) for limits in properties["bbox_used_for_cropping"])]
    spacing = [properties["spacing"][axis] for axis in plans_manager.transpose_forward]
    planned = list(configuration_manager.spacing)
    planned = planned if len(planned) == mask.ndim else [spacing[0], *planned]
    equal = total = 0
    for label in (0, *label_manager.foreground_labels):
        of_label = (mask == label)[None].astype(np.float32)
        share = configuration_manager.resampling_fn_probabilities(of_label, validated.shape, planned, spacing)
        found = validated[np.asarray(share)[0] >= 1 - ROUNDING]
        equal += int((found == label).sum()) if label else 0
        total += int((found > 0).sum()) if label == 0 else len(found)
    return equal / total if total else 1.0


def _named(cases: Sequence[str]) -> str:
    listed = ", ".join(cases[:NAMED_CASES])
    return listed if len(cases) <= NAMED_CASES else f"{listed} and {len(cases) - NAMED_CASES} more"
