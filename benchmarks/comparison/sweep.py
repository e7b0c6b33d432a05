"""One trained model predicting its validation cases under many sampling settings: Dice, calibration, time."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from nnunetv2.paths import nnUNet_preprocessed
from tqdm import tqdm

from comparison.case_scores import predict_case, reliability
from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.inference.validation import validation_items
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, numbered_folds_with
from nnunetv2_diffusion.scoring.calibration import expected_calibration_error
from nnunetv2_diffusion.scoring.labels import read_labels
from nnunetv2_diffusion.scoring.map_quality import case_quality
from nnunetv2_diffusion.settings import Process, Sampling, Settings

DEFAULT = "default"
SWEEPS = {
    "sampling_steps": "steps",
    "samples": "samples",
    "ensemble_steps": "fused steps",
    "start_timestep": "start",
    "early_stop": "early stop",
}


def settings_of(sampling: Sampling) -> dict[str, Any]:
    """Those that the sweep varies; None for an early stop that is off."""
    values = {name: getattr(sampling, name) for name in SWEEPS}
    return {**values, "early_stop": sampling.early_stop or None}


def sweep_rows(
    default: Sampling,
    process: Process,
    *,
    steps: Sequence[int],
    samples: Sequence[int],
    ensemble_steps: Sequence[int],
    start_timesteps: Sequence[int],
    early_stops: Sequence[float],
) -> list[tuple[str, dict[str, float]]]:
    """(what is varied, settings in place of the model's): the default first, then each value that can be had."""
    rows: list[tuple[str, dict[str, float]]] = [(DEFAULT, {})]
    values = (steps, samples, ensemble_steps, start_timesteps, early_stops)
    for name, wanted in zip(SWEEPS, values, strict=True):
        for value in wanted:
            with contextlib.suppress(ValueError):  # more steps than timesteps, or more fused than sampled
                default.updated({name: value}, process)
                rows.append((name, {name: value}))
    return rows


class ValidationCases:
    """The validation cases of a trained model with its folds' predictors.

    Args:
        folder: of the model.
        folds: None takes all numbered ones.
        device: where to predict.

    Raises:
        FileNotFoundError: no numbered fold, or the preprocessed data are not there.
    """

    def __init__(self, folder: Path, folds: Sequence[int] | None, device: torch.device):
        numbers = folds or numbered_folds_with(folder)
        if not numbers:
            raise FileNotFoundError(f"{folder} holds no numbered fold: name the folder of a trained model")
        self.labels = read_labels(folder / DATASET_FILE)
        self.jobs: list[tuple[DiffusionPredictor, list[dict[str, Any]]]] = []
        self.references: dict[str, np.ndarray] = {}
        for fold in numbers:
            predictor = DiffusionPredictor(
                uncertainty=True,
                runtime=Runtime(str(device)),
                allow_tqdm=False,
                perform_everything_on_device=device.type == "cuda",
            )
            with contextlib.redirect_stdout(io.StringIO()):
                predictor.initialize_from_trained_model_folder(folder, [fold])
            if predictor.diffusion_network is None:
                raise ValueError(f"{folder} does not sample: name the folder of a diffusion model")
            items = list(validation_items(predictor, fold, folder))
            self._read_references(predictor, items)
            self.jobs.append((predictor, items))
        network = self.jobs[0][0].diffusion_network
        self.default, self.process = network.sampling, network.process

    def _read_references(self, predictor: DiffusionPredictor, items: list[dict[str, Any]]) -> None:
        ending = predictor.dataset_json["file_ending"]
        folder = Path(nnUNet_preprocessed) / predictor.plans_manager.dataset_name / "gt_segmentations"
        for item in items:
            case = Path(item["ofile"]).name
            self.references[case] = read_volume(folder / f"{case}{ending}").array

    def measure(self, rows: Sequence[tuple[str, dict[str, float]]]) -> pd.DataFrame:
        """A row for each setting, in the order given; the first one is what differences are taken from.

        Raises:
            ValueError: a setting that the model cannot be sampled with, before anything is measured.
        """
        for _, overrides in rows:
            network = self.jobs[0][0].diffusion_network
            network.check_start(Settings(self.process, self.default.updated(overrides, self.process)))
        measured = []
        for predictor, items in self.jobs:  # caches and pools, before anything is timed
            predict_case(predictor, items[0])
        for sweep, overrides in tqdm(rows, desc="settings", unit="row", disable=None):
            sampling = self.default.updated(overrides, self.process)
            cases = pd.DataFrame(
                [self._score(predictor, item, sampling) for predictor, items in self.jobs for item in items]
            ).set_index("case")
            first = measured[0][1] if measured else cases
            difference = cases["dice"] - first["dice"]
            bins = pd.concat(cases["bins"].tolist()).groupby("bin").sum(numeric_only=True)
            row = {"sweep": sweep, **settings_of(sampling), "dice": cases["dice"].mean()}
            row |= {"dice_difference": difference.mean(), "standard_error": difference.sem(ddof=1)}
            row |= {"ece": expected_calibration_error(bins), "auroc": cases["auroc"].mean()}
            row |= {"aurc": cases["aurc"].mean(), "seconds": cases["seconds"].sum() / cases["slices"].sum()}
            row |= {"evaluations": cases["evaluations"].sum() / cases["slices"].sum(), "cases": len(cases)}
            measured.append((row, cases))
        return pd.DataFrame([row for row, _ in measured])

    def _score(self, predictor: DiffusionPredictor, item: dict[str, Any], sampling: Sampling) -> dict[str, Any]:
        network = predictor.diffusion_network
        network.sampling, network.network_evaluations = sampling, 0
        predictor.seconds, predictor.slices = 0.0, 0
        case = predict_case(predictor, item)
        reference = self.references[case.name]
        quality, _ = case_quality(reference, case.mask, case.uncertainty, self.labels)
        return {
            "case": case.name,
            "dice": quality["dice"],
            "auroc": quality["foreground_auroc"],
            "aurc": quality["foreground_aurc"],
            "bins": reliability(case, reference, self.labels),
            "seconds": predictor.seconds,
            "slices": predictor.slices,
            "evaluations": network.network_evaluations,
        }
