"""A predicted case in numbers: Dice of both decisions, errors found by the map, whether probabilities are right."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

from nnunetv2_diffusion.decisions import competing_masks, region_masks
from nnunetv2_diffusion.inference.maps import maps_on_image_grid
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.scoring.calibration import case_calibration
from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.map_quality import case_quality
from nnunetv2_diffusion.scoring.metrics import dice


@dataclass(frozen=True)
class PredictedCase:
    """A case on its image's grid.

    Attributes:
        name: of the case.
        mask: label map, of the argmax.
        probabilities: [K, ...].
        uncertainty: in [0, 1], of the mask's shape.
    """

    name: str
    mask: np.ndarray
    probabilities: np.ndarray
    uncertainty: np.ndarray


def predict_case(predictor: DiffusionPredictor, item: dict[str, Any]) -> PredictedCase:
    """One of nnU-Net's preprocessed cases; what nnU-Net prints is dropped."""
    with contextlib.redirect_stdout(io.StringIO()):
        logits, maps = predictor.predict(item["data"])
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    properties = item["data_properties"]
    mask, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, plans, configuration, predictor.label_manager, properties, return_probabilities=True
    )
    uncertainty = maps_on_image_grid(maps, properties, plans, configuration)[0]
    return PredictedCase(Path(item["ofile"]).name, mask, probabilities, uncertainty)


def structure_scores(case: PredictedCase, reference: np.ndarray, labels: LabelScheme) -> list[dict[str, Any]]:
    """A row a structure: case, structure, dice of the argmax, dice_expected of the mask of greatest expected Dice, and
    the reference's voxels; Dice is NaN where both masks lack the structure."""
    decided = region_masks if labels.has_regions else competing_masks
    expected = decided(case.probabilities if labels.has_regions else case.probabilities[1:])
    rows = []
    for number, structure in enumerate(labels.structures):
        true = labels.mask(reference, structure)
        rows.append(
            {
                "case": case.name,
                "structure": structure,
                "dice": dice(true, labels.mask(case.mask, structure)),
                "dice_expected": dice(true, expected[number]),
                "reference_voxels": int(true.sum()),
            }
        )
    return rows


def map_scores(case: PredictedCase, reference: np.ndarray, labels: LabelScheme) -> dict[str, Any]:
    """case, auroc of error detection and aurc, the area under the risk-coverage curve, on the reference's crop."""
    quality, _ = case_quality(reference, case.mask, case.uncertainty, labels)
    return {"case": case.name, "auroc": quality["foreground_auroc"], "aurc": quality["foreground_aurc"]}


def reliability(case: PredictedCase, reference: np.ndarray, labels: LabelScheme) -> pd.DataFrame:
    """The bins of `calibration_bins` on the reference's crop."""
    bins = case_calibration(reference, case.mask, case.probabilities, labels)
    return bins[bins["region"] == "foreground"].assign(case=case.name)
