"""Tiny models in nnU-Net's folder layout, and phantoms whose labels are known in every geometry."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.nnunet_names import CONVERSION, ModelName, fold_folder, make_trainers_known
from nnunetv2_diffusion.sampling.ensembles import EnsembleMaps


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are fastest on one thread, also where `use_processors` would take all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nnunetv2_diffusion.processors.available_threads", lambda: 1)
        yield


CPU = Runtime(device="cpu")
LABELS = {"background": 0, "spinal_canal": 1, "vertebrae": 2, "discs": 3}
STEP = 85.0
_CONV = "torch.nn.modules.conv.Conv2d"
_NORM = "torch.nn.modules.instancenorm.InstanceNorm2d"


def plans(patch: tuple[int, int], spacing: float, normalization: str = "ZScoreNormalization", **diffusion) -> dict:
    """A plans file as nnU-Net 2.8 writes it for one-slice volumes, with a network of two stages."""
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4, 8],
            "conv_op": _CONV,
            "kernel_sizes": [[3, 3], [3, 3]],
            "strides": [[1, 1], [2, 2]],
            "n_conv_per_stage": [1, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
            "norm_op": _NORM,
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": list(patch),
        "spacing": [spacing, spacing],
        "normalization_schemes": [normalization],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": architecture,
        "batch_dice": True,
        "diffusion": diffusion or {"samples": 2, "sampling_steps": 2, "ensemble_steps": 2},
    }
    return {
        "dataset_name": "Dataset502_Phantom",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [4.0, spacing, spacing],
        "original_median_shape_after_transp": [1, *patch],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
    }


def preseg_plans() -> dict:
    """The plans of a baseline and its pre-segmentation stage."""
    plans_file = plans((64, 64), 1.0)
    base = plans_file["configurations"]["2d"]
    plans_file["configurations"]["2d_preseg_T30"] = {
        **base,
        "previous_stage": "2d",
        "diffusion": {"timesteps": 30, "schedule": "cosine", "sampling_steps": 2, "ensemble_steps": 2, "samples": 2},
        "pre_segmentation": {
            "previous_trainer": "nnUNetTrainer",
            "foreground_labels": [1, 2, 3],
            "heads": [[0], [1], [2], [3]],
        },
    }
    return plans_file


def volume_plans(patch: tuple[int, int, int]) -> dict:
    """A plans file of whole volumes of 1 mm voxels, read as they lie, with a 3-D network of two stages."""
    plans_file = plans(patch[1:], 1.0)
    configuration = plans_file["configurations"].pop("2d")
    arguments = configuration["architecture"]["arch_kwargs"]
    arguments["kernel_sizes"], arguments["strides"] = [[3] * 3] * 2, [[1] * 3, [2] * 3]
    arguments["conv_op"], arguments["norm_op"] = _CONV.replace("2d", "3d"), _NORM.replace("2d", "3d")
    configuration.update(patch_size=list(patch), median_image_size_in_voxels=list(patch), spacing=[1.0] * 3)
    plans_file["configurations"]["3d_fullres"] = configuration
    return {**plans_file, "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2]}


def dataset_json(size: int | None, spacing: float, dimension: str = "2d", **changes) -> dict:
    """dataset.json as the converter writes it."""
    conversion = {
        "modality": "T2w",
        "dimension": dimension,
        "orientation": "RAS",
        "size": None if size is None else [size, size],
        "spacing": [spacing, spacing],
        "upper_percentile": 98.0,
    }
    description = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": 1, "file_ending": ".nii.gz"}
    return {**description, CONVERSION: conversion, **changes}


def write_model(
    results: Path,
    trainer: str = "nnUNetTrainerSpineSegDiff",
    configuration: str = "2d",
    folds: Sequence[int | str] = (0,),
    patch: tuple[int, int] = (64, 64),
    size: int | None = 64,
    spacing: float = 1.0,
    plans_file: dict | None = None,
    description: dict | None = None,
) -> Path:
    """A model folder with random weights, one seed a fold, in nnU-Net's results folder; returns it."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    plans_file = plans_file or plans(patch, spacing)
    description = description or dataset_json(size, spacing)
    folder = results / plans_file["dataset_name"] / str(ModelName(trainer, plans_file["plans_name"], configuration))
    folder.mkdir(parents=True)
    for name, content in (("plans.json", plans_file), ("dataset.json", description), ("dataset_fingerprint.json", {})):
        (folder / name).write_text(json.dumps(content))
    make_trainers_known()
    manager = PlansManager(plans_file)
    planned = manager.get_configuration(configuration)
    for fold in folds:
        torch.manual_seed(int(fold) if str(fold).isdigit() else 99)
        network = recursive_find_trainer_class_by_name(trainer).build_network_architecture(
            manager,
            planned,
            determine_num_input_channels(manager, planned, description),
            manager.get_label_manager(description).num_segmentation_heads,
            enable_deep_supervision=False,
        )
        if isinstance(network, DiffusionNetwork):
            network.regions.fill_(manager.get_label_manager(description).has_regions)
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": {},
            "grad_scaler_state": None,
            "logging": {"train_losses": [np.float32(0.5), np.float64(0.25)], "lrs": [1e-4], "array": np.arange(3.0)},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1,
            "init_args": {
                "plans": plans_file,
                "configuration": configuration,
                "fold": fold,
                "dataset_json": description,
                "device": torch.device("cpu"),
            },
            "trainer_name": trainer,
            "inference_allowed_mirroring_axes": None if isinstance(network, DiffusionNetwork) else (0, 1),
        }
        home = fold_folder(folder, fold)
        (home / "validation").mkdir(parents=True)
        torch.save(checkpoint, home / "checkpoint_final.pth")
        (home / "progress.png").write_bytes(b"")
        (home / "validation" / "summary.json").write_text("{}")
    return folder


def write_threshold_model(results: Path, patch: int = 64, size: int | None = 64, spacing: float = 1.0) -> Path:
    """A model for `predict_by_threshold`: nnU-Net leaves its intensities as the shared preprocessing made them."""
    return write_model(
        results,
        size=size,
        plans_file=plans((patch, patch), spacing, "NoNormalization"),
        description=dataset_json(size, spacing),
    )


def predict_by_threshold(
    network: DiffusionNetwork, image: torch.Tensor, disagreement: bool = False, samples: bool = False
) -> EnsembleMaps:
    """Stands in for `DiffusionNetwork.predict`: a label for every 85 grey values; uncertainty a tenth of the label."""
    levels = STEP * torch.arange(len(LABELS))[:, None, None]
    distance = ((image - levels) / 20) ** 2
    logits = -distance / 2
    drawn = logits.softmax(dim=1).expand(network.sampling.samples, *logits.shape) if samples else None
    return EnsembleMaps(logits=logits, uncertainty=distance.argmin(dim=1) / 10, samples=drawn)


def phantom_labels(points: np.ndarray) -> np.ndarray:
    """The phantom's label at points [..., 3] in mm (LPS) about its centre: three nested tubes, alike in no mirror."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    y, z = y - 3 - 0.25 * x, z + 4 - 0.35 * x
    radii = ((20.0, 24.0), (15.0, 17.0), (9.0, 11.0))
    offsets = ((0.0, 0.0), (2.0, -3.0), (2.5, -2.0))
    inside = [((y - b) / r) ** 2 + ((z - c) / s) ** 2 < 1 for (r, s), (b, c) in zip(radii, offsets, strict=True)]
    return np.sum(inside, axis=0).astype(np.uint8)


def grid_points(image: sitk.Image) -> np.ndarray:
    """The physical points [z, y, x, 3] of an image's voxels."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in image.GetSize()), indexing="ij"), axis=-1)
    direction = np.reshape(image.GetDirection(), (3, 3))
    points = np.asarray(image.GetOrigin()) + (index * np.asarray(image.GetSpacing())) @ direction.T
    return points.transpose(2, 1, 0, 3)


def phantom(
    direction: np.ndarray,
    size: Sequence[int],
    spacing: Sequence[float],
    centre: Sequence[float] = (12.5, -31.25, 58.75),
) -> tuple[sitk.Image, sitk.Image]:
    """The phantom's scan (16 bit) and its labels, sampled at the voxels of a grid about `centre`."""
    labels = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    labels.SetSpacing([float(s) for s in spacing])
    labels.SetDirection(np.asarray(direction, float).ravel().tolist())
    half = (np.asarray(size) - 1) * np.asarray(spacing) / 2
    labels.SetOrigin((np.asarray(centre) - np.asarray(direction) @ half).tolist())
    array = phantom_labels(grid_points(labels) - np.asarray(centre))
    filled = sitk.GetImageFromArray(array)
    filled.CopyInformation(labels)
    image = sitk.GetImageFromArray(array.astype(np.int16) * 200)
    image.CopyInformation(labels)
    return image, filled


def dice(a: np.ndarray, b: np.ndarray) -> list[float]:
    """Dice of each foreground label."""
    return [
        2 * np.count_nonzero((a == k) & (b == k)) / max(1, np.count_nonzero(a == k) + np.count_nonzero(b == k))
        for k in (1, 2, 3)
    ]


def same_geometry(a: sitk.Image, b: sitk.Image, tolerance: float = 1e-6) -> bool:
    """Size, spacing, origin and direction."""
    near = [
        np.allclose(getattr(a, name)(), getattr(b, name)(), rtol=0, atol=tolerance)
        for name in ("GetSpacing", "GetOrigin", "GetDirection")
    ]
    return a.GetSize() == b.GetSize() and all(near)


IDENTIFIERS = {
    "0010|0010": "Mustermann^Erika",
    "0010|0020": "PATID4711",
    "0010|0030": "19520813",
    "0008|0050": "ACC998877",
    "0008|0080": "Hospital of Nowhere",
    "0008|0090": "Doe^Referrer",
}


def write_dicom(
    folder: Path, volume: sitk.Image, number: int = 1, description: str = "T2 TSE SAG", study: str = "1", **tags: str
) -> Path:
    """A DICOM series of 16-bit slices as SimpleITK writes it, with identifiers; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    direction = np.reshape(volume.GetDirection(), (3, 3))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    root = f"1.2.826.0.1.3680043.2.1125.{study}"
    for k in range(volume.GetSize()[2]):
        plane = sitk.Cast(volume[:, :, k], sitk.sitkInt16)
        values = {
            **IDENTIFIERS,
            "0020|000d": root,
            "0020|000e": f"{root}.{number}",
            "0008|0018": f"{root}.{number}.{k}",
            "0020|0052": f"{root}.99",
            "0020|0011": str(number),
            "0008|103e": description,
            "0008|0060": "MR",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(map(str, volume.TransformIndexToPhysicalPoint((0, 0, k)))),
            "0020|0037": "\\".join(map(str, (*direction[:, 0], *direction[:, 1]))),
            "0018|0050": str(volume.GetSpacing()[2]),
            "0018|0088": str(volume.GetSpacing()[2]),
            **tags,
        }
        for tag, value in values.items():
            plane.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number:03d}_{k:03d}.dcm"))
        writer.Execute(plane)
    return folder
