"""What the json beside a mask says: the model, the slices that it covers, figures of what was found, and a review."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunetv2_diffusion.scans.model import SegmentationModel
from nnunetv2_diffusion.scans.review import ReviewThresholds, measure, review_reasons
from nnunetv2_diffusion.scans.sagittal import SagittalVolume

_PACKAGES = ("nnunetv2-diffusion", "nnunetv2", "torch", "SimpleITK", "numpy")


def software() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def findings(
    volume: SagittalVolume,
    mask: np.ndarray,
    uncertainty: np.ndarray,
    model: SegmentationModel,
    thresholds: ReviewThresholds,
) -> dict[str, Any]:
    """The report's figures of the segmented slices [z, y, x] and whether they need a review."""
    spacing = volume.image.GetSpacing()[::-1]
    structures, means = measure(mask, uncertainty, spacing, model.labels)
    reasons = review_reasons(mask, means["mask"], spacing, model.labels, thresholds)
    return {
        "structures": structures,
        "mean_uncertainty": means,
        "review": bool(reasons),
        "review_reasons": reasons,
        "review_thresholds": thresholds.as_dict(),
    }


def what_was_covered(volume: SagittalVolume, indices: Sequence[int], model: SegmentationModel) -> dict[str, Any]:
    """Which slices were segmented, and on which pixels."""
    tile = model.predictor.configuration_manager.patch_size
    return {
        "sagittal_slices": list(indices),
        "slices_in_scan": volume.slices,
        "counted": "from the patient's left, the first is 0",
        "within_slices": "the whole field of view",
        "model_pixels": list(volume.size),
        "model_pixel_spacing_mm": list(volume.spacing),
        "tile_pixels": [int(n) for n in tile],
    }


def describe_model(model: SegmentationModel) -> dict[str, Any]:
    """What a reader of the results must know of the model: names, folds, settings and seed."""
    predictor = model.predictor
    network = predictor.diffusion_network
    settings = None if network is None else network.settings.as_dict()
    return {
        "dataset": predictor.plans_manager.dataset_name,
        "trainer": predictor.trainer_name,
        "plans": predictor.plans_manager.plans_name,
        "configuration": predictor.configuration_name,
        "folds": list(model.folds),
        "checkpoint": model.checkpoint,
        "hash": model.hash,
        "settings": settings,
        "seed": None if settings is None else settings["seed"],
        "precision": predictor.runtime.precision,
        "baseline": None if model.baseline is None else describe_model(model.baseline),
    }
