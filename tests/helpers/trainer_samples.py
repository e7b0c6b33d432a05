"""Trainers that nnU-Net has initialized, and batches for them."""

from __future__ import annotations

import json

import numpy as np
import torch

from helpers.nnunet_samples import TinyProject
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff


def trainer_of(
    tiny: TinyProject,
    kind: str = "labels",
    trainer_class: type = nnUNetTrainerSpineSegDiff,
    block: dict | None = None,
    device: str = "cpu",
):
    """A trainer that nnU-Net has initialized, its configuration with this `diffusion` block."""
    folder = tiny.preprocessed(tiny.dataset(kind=kind))
    plans = {**json.loads((folder / "nnUNetPlans.json").read_text()), "continue_training": False}
    dataset_json = json.loads((folder / "dataset.json").read_text())
    if block is not None:
        plans["configurations"]["2d"]["diffusion"] = block
    trainer = trainer_class(plans, "2d", 0, dataset_json, torch.device(device))
    trainer.initialize()
    return trainer


def batch(kind: str = "labels") -> dict:
    """Image and target as nnU-Net's loader gives them."""
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (2, 1, 32, 32))).short()
    target = torch.cat([labels > 0, labels == 2], dim=1) if kind == "regions" else labels
    return {"data": torch.randn(2, 1, 32, 32), "target": target, "keys": ["a", "b"]}
