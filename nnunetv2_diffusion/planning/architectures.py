"""Single-stage configurations beside nnU-Net's own: the paper's widths, a small one, the paper's nnU-Net baselines.

nnU-Net merges a configuration with its parent at the top level only, so each gives its `architecture` whole.
"""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props, pad_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_diffusion.planning.stages import SMALL_LEARNING_RATE

SPINESEGDIFF_FEATURES = (64, 64, 128, 256, 512)  # section 3.1
SPINESEGDIFF_BATCH, SPINESEGDIFF_PATCH = 4, 320  # table 4
SMALL_FEATURES = (16, 32, 64, 128, 128)
SMALL_BATCH = 4
IISDM_BATCH = 10  # table 7
SMALL_IISDM_STEPS = 50
PAPER_2D_PATCH, PAPER_2D_BATCH = (256, 64), 197  # table 5
PAPER_3D_PATCH, PAPER_3D_BATCH = (56, 224, 192), 2  # table 6

NEEDED = ("architecture", "median_image_size_in_voxels", "patch_size", "spacing")
MIN_FEATURE_MAP_EDGE = 4  # nnU-Net's UNet_featuremap_min_edge_length
MAX_FEATURES = {2: 512, 3: 320}  # nnU-Net's UNet_max_features_2d and UNet_max_features_3d


def spinesegdiff_configuration(plans: dict[str, Any]) -> dict[str, Any]:
    """`2d_spinesegdiff`: five stages of the paper's widths, batch 4, patch 320 x 320 where the data allow.

    An axis whose median image size is below 320 pixels gets the next multiple of the network's stride (16) at or above
    that size, at least 32: in a deepest feature map of one pixel, instance normalisation has nothing to normalise.
    """
    parent = _resolved(plans, "2d")
    stages = len(SPINESEGDIFF_FEATURES)
    stride = 2 ** (stages - 1)
    patch = [
        min(SPINESEGDIFF_PATCH, max(2 * stride, math.ceil(size / stride) * stride))
        for size in parent["median_image_size_in_voxels"]
    ]
    return {
        "inherits_from": "2d",
        "next_stage": None,
        "batch_size": SPINESEGDIFF_BATCH,
        "patch_size": patch,
        "architecture": _architecture(
            parent["architecture"], SPINESEGDIFF_FEATURES, [(1, 1)] + [(2, 2)] * (stages - 1), [(3, 3)] * stages
        ),
    }


def iisdm_configuration(plans: dict[str, Any]) -> dict[str, Any]:
    """`2d_iisdm`: as `2d_spinesegdiff` with the batch of 10 that the paper trains IISDM with (table 7)."""
    return {**spinesegdiff_configuration(plans), "batch_size": IISDM_BATCH}


def small_configuration(plans: dict[str, Any]) -> dict[str, Any]:
    """`2d_small`, for laptops and CPUs: at most five narrow stages, as many as the patch of `2d` allows, batch 4."""
    parent = _resolved(plans, "2d")
    limit = len(SMALL_FEATURES)
    _, strides, kernels, _, _ = get_pool_and_conv_props(
        parent["spacing"], parent["patch_size"], MIN_FEATURE_MAP_EDGE, limit - 1
    )
    strides, kernels = strides[:limit], kernels[:limit]
    patch = pad_shape(parent["patch_size"], np.prod(strides, axis=0))
    return {
        "inherits_from": "2d",
        "next_stage": None,
        "batch_size": SMALL_BATCH,
        "patch_size": [int(size) for size in patch],
        "architecture": _architecture(parent["architecture"], SMALL_FEATURES[: len(strides)], strides, kernels),
        "diffusion": {"learning_rate": SMALL_LEARNING_RATE},
    }


def small_iisdm_configuration(plans: dict[str, Any]) -> dict[str, Any]:
    """`2d_small_iisdm`: as `2d_small`, sampled in fewer steps than the paper's 1000, which a CPU takes minutes for."""
    small = small_configuration(plans)
    return {**small, "diffusion": {**small["diffusion"], "sampling_steps": SMALL_IISDM_STEPS}}


def paper_2d_configuration(plans: dict[str, Any]) -> dict[str, Any]:
    """`2d_paper`, table 5: patch 256 x 64, batch 197.

    The sizes are taken in nnU-Net's own order, as its plans print them: of an RAS+ sagittal slice the first axis is
    superior-inferior, the second posterior-anterior.
    """
    return _paper_configuration(plans, "2d", PAPER_2D_PATCH, PAPER_2D_BATCH)


def paper_3d_configuration(plans: dict[str, Any]) -> dict[str, Any]:
    """`3d_paper`, table 6: patch 56 x 224 x 192, batch 2.

    The 56 goes to the axis with the fewest voxels in the median image: of sagittal spine MRI the left-right axis, which
    nnU-Net's transposition normally puts first. 224 and 192 go to the others in their order (superior-inferior,
    posterior-anterior). nnU-Net pads images with fewer slices than that.
    """
    thin_axis = int(np.argmin(_resolved(plans, "3d_fullres")["median_image_size_in_voxels"]))
    across, *in_plane = PAPER_3D_PATCH
    in_plane.insert(thin_axis, across)
    return _paper_configuration(plans, "3d_fullres", tuple(in_plane), PAPER_3D_BATCH)


def _paper_configuration(plans: dict[str, Any], base: str, patch: tuple[int, ...], batch: int) -> dict[str, Any]:
    """`base` with the paper's patch and batch, its topology recomputed as nnU-Net's planner does."""
    parent = _resolved(plans, base)
    _, strides, kernels, patch, _ = get_pool_and_conv_props(parent["spacing"], patch, MIN_FEATURE_MAP_EDGE, 999999)
    first = _planned_features(parent["architecture"])[0]
    features = [min(first * 2**stage, MAX_FEATURES[len(patch)]) for stage in range(len(strides))]
    return {
        "inherits_from": base,
        "next_stage": None,
        "batch_size": batch,
        "patch_size": [int(size) for size in patch],
        "architecture": _architecture(parent["architecture"], features, strides, kernels),
    }


def _resolved(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """Configuration `name` as nnU-Net reads it: inheritance resolved, plans of older versions translated."""
    configuration = PlansManager(deepcopy(plans)).get_configuration(name).configuration
    missing = [key for key in NEEDED if key not in configuration]
    if missing:
        raise ValueError(f"configuration {name} of the plans lacks {', '.join(missing)}; run nnUNetv2_plan_experiment")
    return configuration


def _planned_features(architecture: dict[str, Any]) -> list[int]:
    features = architecture["arch_kwargs"].get("features_per_stage")
    if not isinstance(features, list | tuple):
        raise ValueError(
            f"{architecture['network_class_name']} is not planned in stages (no list features_per_stage); "
            "use plans of a PlainConvUNet or a ResidualEncoderUNet"
        )
    return list(features)


def _architecture(architecture: dict[str, Any], features: Any, strides: Any, kernels: Any) -> dict[str, Any]:
    """`architecture` with these widths, strides and kernels; lists of blocks are cut, or their last entry repeated."""
    _planned_features(architecture)
    stages = len(strides)
    adapted = deepcopy(architecture)
    kwargs = adapted["arch_kwargs"]
    kwargs.update(
        n_stages=stages,
        features_per_stage=[int(width) for width in features],
        strides=[[int(step) for step in axes] for axes in strides],
        kernel_sizes=[[int(size) for size in axes] for axes in kernels],
    )
    for key, length in (
        ("n_conv_per_stage", stages),
        ("n_blocks_per_stage", stages),
        ("n_conv_per_stage_decoder", stages - 1),
    ):
        if isinstance(kwargs.get(key), list | tuple):
            counts = list(kwargs[key])
            kwargs[key] = (counts + [counts[-1]] * length)[:length]
    return adapted
