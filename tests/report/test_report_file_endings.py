"""Datasets of other file endings keep their maps, which are written as NIfTI whatever the masks are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK

from helpers.spine_tree import LABELS
from nnunetv2_diffusion.report.results import read_results
from nnunetv2_diffusion.report.section import Context
from nnunetv2_diffusion.report.sections import gallery
from nnunetv2_diffusion.scoring.cases import score_cases
from nnunetv2_diffusion.scoring.folders import evaluate_folders

NIFTI = ".nii.gz"


def as_picture(path: Path, map_beside: bool) -> SimpleITK.Image:
    """A slice of one pixel's width as nnU-Net's reader of pictures has it, its map with a first axis of one slice."""
    array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[:, :, 0]
    if map_beside:
        return SimpleITK.GetImageFromArray(array[None])
    if path.name.endswith(f"_0000{NIFTI}"):  # pictures come in colours, three of them in one file
        return SimpleITK.GetImageFromArray(np.stack([array] * 3, axis=-1).astype(np.uint8), isVector=True)
    return SimpleITK.GetImageFromArray(array)


def change_ending(root: Path, ending: str) -> None:
    """Rewrite images, references and masks of nnU-Net's folders with another ending; the maps stay NIfTI."""
    for path in sorted(root.rglob(f"*{NIFTI}")):
        is_map = "_uncertainty.nii" in path.name
        image = as_picture(path, is_map) if ending == ".png" else SimpleITK.ReadImage(str(path))
        if is_map:
            SimpleITK.WriteImage(image, str(path))
        else:
            path.unlink()
            SimpleITK.WriteImage(image, str(path).removesuffix(NIFTI) + ending)
    for path in root.rglob("*.npz") if ending == ".png" else ():
        stored = np.load(path)["probabilities"]
        np.savez_compressed(path, probabilities=np.moveaxis(stored, -1, 1))
    for path in root.rglob("dataset.json"):
        path.write_text(json.dumps({"labels": LABELS, "file_ending": ending}))


def read(root: Path) -> Context:
    folders = [root / name for name in ("nnUNet_results", "nnUNet_preprocessed", "nnUNet_raw")]
    results = read_results([501], *folders)
    return Context(results, score_cases(results.cases, results.labels, progress=False), gallery_cases=3)


@pytest.mark.parametrize("ending", [".mha", ".nii", ".png"])
def test_report_finds_the_maps(spine_folders, ending):
    expected = read(spine_folders)
    shown = [entry["case"] for entry in gallery.section(expected).data["gallery"]["cases"]]
    change_ending(spine_folders, ending)
    found = read(spine_folders)
    assert len(found.evaluated.uncertainty) == 9 and found.evaluated.bins["case"].nunique() == 9
    pd.testing.assert_frame_equal(found.scores.uncertainty, expected.scores.uncertainty)
    pd.testing.assert_frame_equal(found.scores.bins, expected.scores.bins)
    entries = gallery.section(found).data["gallery"]["cases"]
    assert [entry["case"] for entry in entries] == shown
    assert all(entry["image"] and entry["predictions"][0]["uncertainty"] for entry in entries)


@pytest.mark.parametrize("ending", [".mha", ".nii", ".png"])
def test_evaluate_finds_the_maps(spine_folders, ending):
    fold = spine_folders / "nnUNet_results/Dataset501_SPIDER_T1w/nnUNetTrainerSpineSegDiff__nnUNetPlans__2d/fold_1"
    references = spine_folders / "nnUNet_preprocessed" / "Dataset501_SPIDER_T1w" / "gt_segmentations"
    folders = references, fold / "validation", fold / "validation_uncertainty" / "uncertainty"
    expected = evaluate_folders(*folders, progress=False).scores
    change_ending(spine_folders, ending)
    found = evaluate_folders(*folders, progress=False).scores
    assert len(found.uncertainty) == 2
    pd.testing.assert_frame_equal(found.uncertainty, expected.uncertainty)
    pd.testing.assert_frame_equal(found.bins, expected.bins)
