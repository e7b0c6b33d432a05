"""Held-out Dice, seconds and network evaluations a slice, and the probe of x_t, fold by fold."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from comparison.case_scores import map_scores, predict_case, reliability, structure_scores
from comparison.data_sets import RawData
from comparison.models import SPINESEGDIFF, ComparedModel
from comparison.probe import THIRDS, changed_by_noise, sample_variance
from comparison.workspace import Workspace
from nnunetv2_diffusion.diffusion import to_x_start
from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.imaging.volumes import read_volume
from nnunetv2_diffusion.inference.checkpoints import load_checkpoint
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime, choose_device
from nnunetv2_diffusion.inference.validation import validation_items
from nnunetv2_diffusion.networks import PreSegmentationNetwork
from nnunetv2_diffusion.nnunet_names import CHECKPOINT, DATASET_FILE, fold_folder
from nnunetv2_diffusion.planning.stages import mask_heads
from nnunetv2_diffusion.scoring.labels import read_labels


@dataclass
class Measured:
    """What was measured of a model of one seed under one sampling.

    Attributes:
        model: which; its name tells the sampling.
        dice: a row for each case and structure: case, fold, structure, dice and dice_expected (NaN: absent from both
            masks). A case is a patient's only one.
        facts: column -> value, mean over folds.
        quality: a row a case: case, fold, auroc, aurc.
        bins: of the reliability diagram, a row for each case and bin.
        masks: case -> file of its predicted mask.
        seed: of the training.
    """

    model: ComparedModel
    dice: pd.DataFrame
    facts: dict[str, Any]
    quality: pd.DataFrame
    bins: pd.DataFrame
    masks: dict[str, Path] = field(default_factory=dict)
    seed: int = 0


def measure(
    workspace: Workspace,
    data: RawData,
    model: ComparedModel,
    folds: Sequence[int],
    sampled: Mapping[str, Mapping[str, Any]],
    probe_slices: int,
) -> list[Measured]:
    """Predict the folds' validation cases and score them, once a sampling; probe up to `probe_slices` a fold.

    What nnU-Net prints goes to a log.

    Args:
        workspace, data, model: what was trained.
        folds: to measure.
        sampled: more samplings by name, for models of kind SPINESEGDIFF.
        probe_slices: of diffusion models, under their first sampling.
    """
    rows = [model]
    if model.kind == SPINESEGDIFF:
        rows += [replace(model, name=f"{model.name}; {name}", sampling=dict(one)) for name, one in sampled.items()]
    log = workspace.log(data.name, model.trainer, model.configuration, f"seed{workspace.seed}", "predict")
    with log.open("w") as output, contextlib.redirect_stdout(output):
        return [_measure(workspace, data, row, folds, probe_slices if row is model else 0) for row in rows]


def _measure(
    workspace: Workspace, data: RawData, model: ComparedModel, folds: Sequence[int], probe_slices: int
) -> Measured:
    folder, labels = workspace.model_folder(data, model), read_labels(workspace.preprocessed / data.name / DATASET_FILE)
    references = workspace.preprocessed / data.name / "gt_segmentations"
    masks: dict[str, Path] = {}
    facts, rows, quality, bins = [], [], [], []
    for fold in folds:
        predictor = _predictor(workspace, folder, model, fold)
        probed = _validation_slices(workspace, predictor, fold, max(probe_slices, 1))
        _warm_up(predictor, probed[0].image)
        output = _mask_folder(workspace, data, model)
        for item in validation_items(predictor, fold, output):
            case = predict_case(predictor, item)
            masks[case.name] = output / f"{case.name}.nii.gz"
            writer = predictor.plans_manager.image_reader_writer_class()
            writer.write_seg(case.mask, str(masks[case.name]), item["data_properties"])
            reference = read_volume(references / masks[case.name].name).array
            rows += [{"fold": fold, **row} for row in structure_scores(case, reference, labels)]
            quality.append({"fold": fold, **map_scores(case, reference, labels)})
            bins.append(reliability(case, reference, labels))
        facts.append({**predictor.timing(), **_training_facts(fold_folder(folder, fold)), **_settings(predictor)})
        if model.diffuses and probe_slices:
            facts[-1] |= _probe(predictor, probed)
    return Measured(
        model,
        annotated_structures(pd.DataFrame(rows)),
        _over_folds(facts, rows),
        pd.DataFrame(quality),
        pd.concat(bins, ignore_index=True),
        masks,
        workspace.seed,
    )


def _predictor(workspace: Workspace, folder: Path, model: ComparedModel, fold: int) -> DiffusionPredictor:
    device = choose_device(workspace.device)
    torch.set_num_threads(workspace.threads)
    predictor = DiffusionPredictor(
        model.sampling,
        runtime=Runtime(device.type),
        perform_everything_on_device=device.type == "cuda",
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(folder, [fold])
    return predictor


def _mask_folder(workspace: Workspace, data: RawData, model: ComparedModel) -> Path:
    """Where the masks of a row of the table go."""
    row = re.sub(r"[^A-Za-z0-9.]+", "_", model.name)
    folder = workspace.root / "masks" / data.name / f"seed_{workspace.seed}" / row
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def annotated_structures(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the structures that some reference holds: a data set without discs cannot tell of them."""
    held = scores.groupby("structure")["reference_voxels"].transform("sum") > 0
    return scores[held].drop(columns="reference_voxels").reset_index(drop=True)


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
    """Means over folds, each weighted by its cases; what is no number, or a whole one, is the first fold's."""
    cases = list(pd.DataFrame(rows).groupby("fold")["case"].nunique())
    return {
        name: float(np.average([fold[name] for fold in facts], weights=cases)) if isinstance(value, float) else value
        for name, value in facts[0].items()
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
