"""Held-out Dice, seconds and network evaluations a slice, and the probe of x_t, fold by fold."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from comparison.data_sets import RawData, case_splits
from comparison.models import ComparedModel
from comparison.probe import THIRDS, changed_by_noise, sample_variance
from comparison.workspace import Workspace
from nnunetv2_diffusion.diffusion import to_x_start
from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.inference.checkpoints import load_checkpoint
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime, choose_device
from nnunetv2_diffusion.inference.validation import predict_validation, validation_items
from nnunetv2_diffusion.networks import PreSegmentationNetwork
from nnunetv2_diffusion.nnunet_names import CHECKPOINT, DATASET_FILE, VALIDATION, fold_folder
from nnunetv2_diffusion.planning.stages import mask_heads
from nnunetv2_diffusion.scoring.labels import read_labels
from nnunetv2_diffusion.scoring.metrics import dice


@dataclass
class Measured:
    """What was measured of a model.

    Attributes:
        model: which.
        dice: a row for each case and structure: case, fold, structure, dice (NaN: absent from both masks).
        facts: column -> value, mean over folds.
        masks: case -> file of its predicted mask.
    """

    model: ComparedModel
    dice: pd.DataFrame
    facts: dict[str, Any]
    masks: dict[str, Path] = field(default_factory=dict)


def measure(workspace: Workspace, data: RawData, model: ComparedModel, probe_slices: int) -> Measured:
    """Predict every fold's validation cases and score them; of diffusion models probe up to `probe_slices` a fold.

    What nnU-Net prints goes to a log.
    """
    log = workspace.log(data.name, model.trainer, model.configuration, "predict")
    with log.open("w") as output, contextlib.redirect_stdout(output):
        return _measure(workspace, data, model, probe_slices)


def _measure(workspace: Workspace, data: RawData, model: ComparedModel, probe_slices: int) -> Measured:
    folder = workspace.model_folder(data, model)
    masks: dict[str, Path] = {}
    facts, rows = [], []
    for fold, split in enumerate(case_splits(workspace.preprocessed, data.name)):
        device = choose_device(workspace.device)
        torch.set_num_threads(workspace.threads)
        predictor = DiffusionPredictor(
            model.sampling,
            uncertainty=True,
            runtime=Runtime(device.type),
            perform_everything_on_device=device.type == "cuda",
            allow_tqdm=False,
        )
        predictor.initialize_from_trained_model_folder(folder, [fold])
        probed = _validation_slices(workspace, predictor, fold, probe_slices)
        _warm_up(predictor, probed[0].image)
        predicted = predict_validation(predictor, folder, fold)
        if not model.diffuses:
            predicted = fold_folder(folder, fold) / VALIDATION
        of_fold = {case: predicted / f"{case}.nii.gz" for case in split["val"]}
        rows += [{"fold": fold, **row} for row in _score(workspace.preprocessed / data.name, of_fold)]
        masks |= of_fold
        facts.append({**predictor.timing(), **_training_facts(fold_folder(folder, fold)), **_settings(predictor)})
        if model.diffuses:
            facts[-1] |= _probe(predictor, probed)
    return Measured(model, annotated_structures(pd.DataFrame(rows)), _over_folds(facts, rows), masks)


def annotated_structures(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the structures that some reference holds: a data set without discs cannot tell of them."""
    held = scores.groupby("structure")["reference_voxels"].transform("sum") > 0
    return scores[held].drop(columns="reference_voxels").reset_index(drop=True)


def _score(preprocessed: Path, masks: dict[str, Path]) -> list[dict[str, Any]]:
    """Dice of each case and structure against nnU-Net's copy of the reference."""
    labels = read_labels(preprocessed / DATASET_FILE)
    rows = []
    for case, path in masks.items():
        reference = read_volume(preprocessed / "gt_segmentations" / path.name).array
        prediction = read_volume(path).array
        for structure in labels.structures:
            true, predicted = (labels.mask(array, structure) for array in (reference, prediction))
            row = {"case": case, "structure": structure, "dice": dice(true, predicted)}
            rows.append({**row, "reference_voxels": int(true.sum())})
    return rows


def _training_facts(fold: Path) -> dict[str, float]:
    """Steps, batch size and seconds a step, from what nnU-Net noted while it trained."""
    checkpoint = load_checkpoint(fold / CHECKPOINT)
    log = checkpoint["logging"]
    debug = read_json(fold / "debug.json")
    steps = checkpoint["current_epoch"] * int(debug["num_iterations_per_epoch"])
    seconds = np.subtract(log["epoch_end_timestamps"], log["epoch_start_timestamps"]).sum()
    return {
        "optimiser_steps": steps,
        "batch_size": int(debug["batch_size"]),
        "training_seconds_per_step": float(seconds) / steps,
    }


def _settings(predictor: DiffusionPredictor) -> dict[str, float]:
    network = predictor.diffusion_network
    if network is None:
        return {}
    settings = network.settings.as_dict()
    return {name: settings[name] for name in ("timesteps", "sampling_steps", "samples", "ensemble_steps")}


def _over_folds(facts: Sequence[dict[str, float]], rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means over folds, each weighted by its cases; whole numbers stay whole."""
    cases = [len({row["case"] for row in rows if row["fold"] == fold}) for fold in range(len(facts))]
    return {
        name: facts[0][name]
        if isinstance(facts[0][name], int)
        else float(np.average([fold[name] for fold in facts], weights=cases))
        for name in facts[0]
    }


@dataclass(frozen=True)
class _Slice:
    """A preprocessed validation case on one patch: nnU-Net's input [1, C, H, W] and x_0 of its true mask."""

    image: torch.Tensor
    x_start: torch.Tensor


def _validation_slices(workspace: Workspace, predictor: DiffusionPredictor, fold: int, count: int) -> list[_Slice]:
    """The first `count` of a fold's validation cases."""
    configuration, plans = predictor.configuration_manager, predictor.plans_manager
    folder = workspace.preprocessed / plans.dataset_name / configuration.data_identifier
    dataset = infer_dataset_class(str(folder))(str(folder))
    heads = mask_heads(plans.plans, predictor.dataset_json)["heads"]
    slices = []
    for item in itertools.islice(validation_items(predictor, fold, folder), count):
        segmentation = np.asarray(dataset.load_case(Path(item["ofile"]).name)[1][:]).clip(min=0)
        x_start = to_x_start(np.concatenate([np.isin(segmentation, head) for head in heads]).astype(np.float32))
        patch = configuration.patch_size
        image, x_start = _on_patch(item["data"].numpy(), patch, 0.0), _on_patch(x_start, patch, -1.0)
        slices.append(_Slice(image.to(predictor.device), x_start.to(predictor.device)))
    return slices


def _on_patch(array: np.ndarray, patch: Sequence[int], value: float) -> torch.Tensor:
    """[C, 1, h, w] padded with `value` and cropped about its centre: [1, C, H, W] of the patch's size."""
    padded = pad_nd_image(array[:, 0].astype(np.float32), patch, "constant", {"constant_values": value})
    first = [(length - size) // 2 for length, size in zip(padded.shape[1:], patch, strict=True)]
    rows, columns = (slice(start, start + size) for start, size in zip(first, patch, strict=True))
    return torch.from_numpy(np.ascontiguousarray(padded[:, rows, columns]))[None]


def _warm_up(predictor: DiffusionPredictor, image: torch.Tensor) -> None:
    """One slice that is not timed, with as few steps as can be: the first one pays for compilation and caches."""
    network = predictor.diffusion_network
    sampling = None if network is None else network.sampling
    if network is not None:
        network.sampling = sampling.updated({"sampling_steps": 1}, network.process)
    predictor.predict_logits_from_preprocessed_data(image[0][:, None].cpu())
    predictor.seconds, predictor.slices = 0.0, 0
    if network is not None:
        network.sampling, network.network_evaluations = sampling, 0


def _probe(predictor: DiffusionPredictor, slices: Sequence[_Slice]) -> dict[str, float]:
    """Variance over samples and shares of changed pixels, mean over the slices."""
    network = predictor.diffusion_network.to(predictor.device).eval()
    generator = torch.Generator().manual_seed(network.sampling.seed)
    facts = []
    for item in slices:
        x_start = item.x_start
        if isinstance(network, PreSegmentationNetwork):
            x_start = network.pre_segmentation(item.image)
        shares = changed_by_noise(network, item.image, x_start, generator)
        as_sampled = sample_variance(network, item.image, network.sampling.mirror_samples)
        noise_alone = as_sampled
        if network.sampling.mirror_samples:
            noise_alone = sample_variance(network, item.image, mirrored=False)
        facts.append({"sample_variance": as_sampled, "sample_variance_unmirrored": noise_alone})
        for third in THIRDS:
            facts[-1] |= {f"changed_{where}_{third}": shares[third][where] for where in ("pixels", "foreground")}
    frame = pd.DataFrame(facts)
    return {**{name: float(frame[name].mean()) for name in frame}, "probed_slices": float(len(slices))}
