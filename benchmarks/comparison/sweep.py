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
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.paths import nnUNet_preprocessed
from tqdm import tqdm

from machine import machine
from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.imaging.drawing import panels, save, styled
from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.inference.maps import maps_on_image_grid
from nnunetv2_diffusion.inference.prediction import validation_items
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, numbered_folds_with
from nnunetv2_diffusion.scoring.calibration import case_calibration, expected_calibration_error
from nnunetv2_diffusion.scoring.labels import read_labels
from nnunetv2_diffusion.scoring.map_quality import case_quality
from nnunetv2_diffusion.settings import Process, Sampling

DEFAULT = "default"
SWEEPS = {
    "sampling_steps": "steps",
    "samples": "samples",
    "ensemble_steps": "fused steps",
    "start_timestep": "start",
    "early_stop": "early stop",
}
COLUMNS = {
    "sweep": "varied",
    "samples": "S",
    "sampling_steps": "steps",
    "ensemble_steps": "T_s",
    "start_timestep": "start",
    "early_stop": "early stop",
    "dice": "Dice",
    "difference": "difference ± standard error",
    "ece": "calibration error",
    "auroc": "error-detection AUROC",
    "aurc": "area under risk-coverage curve",
    "seconds": "s a slice",
    "evaluations": "evaluations a slice",
}
NOTES = (
    "Each validation case is predicted by the fold that did not train on it. Dice: mean over cases of the mean over "
    "structures. Difference: from the default row, case by case. Calibration error (expected, 15 bins, of the fused "
    "probabilities), AUROC and risk-coverage area of the uncertainty map are those of the foreground crop. Rows vary "
    "one setting and keep the others of the default, except that no more steps are fused than are sampled."
)


def settings_of(sampling: Sampling) -> dict[str, Any]:
    """Those that the sweep varies; None for an early stop that is off."""
    values = {name: getattr(sampling, name) for name in SWEEPS}
    return {**values, "early_stop": sampling.early_stop or None}


def sweep_rows(
    default: Sampling,
    process: Process,
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
                device=device,
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
        """A row for each setting, in the order given; the first one is what differences are taken from."""
        measured = []
        for predictor, items in self.jobs:  # caches and pools, before anything is timed
            self._predict(predictor, items[0])
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

    def _predict(self, predictor: DiffusionPredictor, item: dict[str, Any]) -> torch.Tensor:
        with contextlib.redirect_stdout(io.StringIO()):
            return predictor.predict_logits_from_preprocessed_data(item["data"]).cpu()

    def _score(self, predictor: DiffusionPredictor, item: dict[str, Any], sampling: Sampling) -> dict[str, Any]:
        network = predictor.diffusion_network
        network.sampling, network.network_evaluations = sampling, 0
        predictor.seconds, predictor.slices = 0.0, 0
        logits = self._predict(predictor, item)
        plans, configuration, properties = (
            predictor.plans_manager,
            predictor.configuration_manager,
            item["data_properties"],
        )
        prediction, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, plans, configuration, predictor.label_manager, properties, return_probabilities=True
        )
        uncertainty = maps_on_image_grid(predictor.maps, properties, plans, configuration)[0]
        case = Path(item["ofile"]).name
        reference = self.references[case]
        quality, _ = case_quality(reference, prediction, uncertainty, self.labels)
        bins = case_calibration(reference, prediction, probabilities, self.labels)
        return {
            "case": case,
            "dice": quality["dice"],
            "auroc": quality["foreground_auroc"],
            "aurc": quality["foreground_aurc"],
            "bins": bins[bins["region"] == "foreground"],
            "seconds": predictor.seconds,
            "slices": predictor.slices,
            "evaluations": network.network_evaluations,
        }


def write_sweep(
    table: pd.DataFrame, folder: Path, stem: str, device: str, command: str, default: dict[str, Any]
) -> str:
    """Write `<stem>.csv` and `<stem>.md`; returns the markdown."""
    about = machine(device)
    write_csv(table.assign(**about, command=command), folder / f"{stem}.csv")
    described = ", ".join(f"{name} {value}" for name, value in default.items() if value is not None)
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    lines += [[_cell(row, name) for name in COLUMNS] for row in table.to_dict("records")]
    parts = [
        f"# {stem}",
        f"    {command}",
        f"Measured on {about['machine']}; {about['date']}. {table['cases'].iloc[0]} cases. Default: {described}.",
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
        NOTES,
    ]
    text = "\n\n".join(parts) + "\n"
    write_text(text, folder / f"{stem}.md")
    return text


def _cell(row: dict[str, Any], name: str) -> str:
    if name == "difference":
        return f"{row['dice_difference']:+.4f} ± {row['standard_error']:.4f}"
    if name == "sweep":
        return SWEEPS.get(row["sweep"], row["sweep"])
    value = row[name]
    if value is None or pd.isna(value):
        return ""
    digits = {"dice": 4, "ece": 4, "aurc": 4, "auroc": 3, "seconds": 3, "early_stop": 3}.get(name, 0)
    return f"{value:.{digits}f}"


@styled
def _figure(table: pd.DataFrame):
    measures = {
        "dice": "Dice",
        "ece": "Calibration error",
        "auroc": "Error-detection AUROC",
        "seconds": "Seconds a slice",
    }
    figure, axes = panels(1, len(measures), (3.1 * len(measures), 3.0))
    default = table.iloc[0]
    for axis, (column, title) in zip(axes[0], measures.items(), strict=True):
        for sweep, label in SWEEPS.items():
            rows = table[table["sweep"] == sweep].sort_values("evaluations")
            if len(rows) and sweep != "ensemble_steps":  # fusing costs nothing: these lie on one vertical line
                axis.plot(rows["evaluations"], rows[column], marker="o", markersize=3, label=f"{label} varied")
        axis.plot(default["evaluations"], default[column], "*", markersize=11, label="default", color="black")
        axis.set_xscale("log")
        axis.set_xlabel("Network evaluations a slice")
        axis.set_title(title)
    axes[0, 0].legend()
    return figure


def draw_sweep(table: pd.DataFrame, stem: Path) -> None:
    """Dice, calibration, error detection and seconds against network evaluations, as PNG and PDF."""
    save(_figure(table), stem)
