"""SpineSegDiff trained on real MRI through the stock commands, once a session."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from helpers.console import run

TRAINER = "nnUNetTrainerSpineSegDiff_5epochs"
GRID = ("--modality", "T2w", "--size", 96, "--spacing", 3)
MODEL = ("-d", 502, "-c", "2d_small", "-f", "all", "-tr", TRAINER)


@dataclass(frozen=True)
class RealModel:
    """nnU-Net's folders with a model of vertebrae, and three unseen patients with their masks."""

    root: Path
    environment: dict[str, str]

    @property
    def results(self) -> Path:
        """The trained model's folder."""
        return self.root / "results" / "Dataset502_SPIDER_T2w" / f"{TRAINER}__nnUNetPlans__2d_small"

    @property
    def unseen_images(self) -> Path:
        """`<case>_0000.nii.gz` of patients 116 to 119."""
        return self.root / "unseen" / "Dataset502_SPIDER_T2w" / "imagesTr"

    @property
    def unseen_masks(self) -> Path:
        """Their references."""
        return self.root / "unseen" / "Dataset502_SPIDER_T2w" / "labelsTr"

    def pseudo_dice(self) -> list[float]:
        """Of the vertebrae, label 2, an epoch each, from nnU-Net's training log."""
        log = next((self.results / "fold_all").glob("training_log*.txt")).read_text()
        epochs = [re.findall(r"float32\(([\w.+-]+)\)", line) for line in log.splitlines() if "Pseudo dice" in line]
        return [float(labels[1]) for labels in epochs]


def train(real_mri: Path, root: Path) -> RealModel:
    """Convert patients 1 to 114 for training and 116 to 119 as unseen ones, plan, preprocess, train for five epochs."""
    for name in ("raw", "preprocessed", "results", "unseen"):
        (root / name).mkdir()
    environment = {f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")}
    environment["nnUNet_def_n_proc"] = "2"
    spider = real_mri / "spider_layout"
    run("spinesegdiff", "convert", spider, *GRID, "--patients", "1-114", **environment)
    run("spinesegdiff", "convert", spider, *GRID, "--patients", "116-119", nnUNet_raw=str(root / "unseen"))
    plan = ("-d", 502, "-c", "2d", "-np", 2, "-npfp", 2, "--verify_dataset_integrity")
    run("nnUNetv2_plan_and_preprocess", *plan, **environment, nnUNet_n_proc_DA="1")
    run("spinesegdiff", "plan", "-d", 502, "--small", **environment)
    environment["nnUNet_extTrainer"] = run("spinesegdiff", "trainers").strip()
    environment["nnUNet_n_proc_DA"] = "0"
    run("nnUNetv2_train", 502, "2d_small", "all", "-tr", TRAINER, "-device", "cpu", **environment)
    return RealModel(root, environment)


def seconds_per_slice(folder: Path) -> float:
    """What `spinesegdiff predict` wrote into timing.json."""
    return json.loads((folder / "timing.json").read_text())["seconds_per_slice"]
