"""The configurations that `spinesegdiff plan` adds, read and built by nnU-Net itself from plans that nnU-Net made."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_diffusion.planning.architectures import small_configuration, spinesegdiff_configuration
from nnunetv2_diffusion.planning.planner import add_configurations
from nnunetv2_diffusion.planning.stages import mask_heads
from nnunetv2_diffusion.settings import Settings

ARCHITECTURES = {"nnUNetPlans": "PlainConvUNet", "nnUNetResEncUNetMPlans": "ResidualEncoderUNet"}
each_plans = pytest.mark.parametrize("plans_name", ARCHITECTURES)


def network_of(configuration: ConfigurationManager) -> torch.nn.Module:
    return get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        input_channels=1,
        output_channels=3,
        deep_supervision=False,
    )


@each_plans
@pytest.mark.parametrize("name", ["2d_spinesegdiff", "2d_small", "2d_paper", "2d_preseg_T30", "2d_small_preseg_T30"])
def test_nnunet_builds_and_runs_each_2d_configuration(flat: Path, plans_name: str, name: str) -> None:
    plans_file = flat / f"{plans_name}.json"
    add_configurations(plans_file, timesteps=[30], small=True, paper_baselines=True)
    add_configurations(plans_file, timesteps=[30], base="2d_small")
    configuration = PlansManager(str(plans_file)).get_configuration(name)
    network = network_of(configuration)
    with torch.inference_mode():
        output = network(torch.zeros(1, 1, *configuration.patch_size))
    assert type(network).__name__ == ARCHITECTURES[plans_name]
    assert tuple(output.shape) == (1, 3, *configuration.patch_size)
    assert configuration.data_identifier == "nnUNetPlans_2d"


@each_plans
def test_spinesegdiff_has_the_papers_widths_and_batch(flat: Path, plans_name: str) -> None:
    plans_file = flat / f"{plans_name}.json"
    add_configurations(plans_file)
    configuration = PlansManager(str(plans_file)).get_configuration("2d_spinesegdiff")
    kwargs = configuration.network_arch_init_kwargs
    blocks = "n_conv_per_stage" if plans_name == "nnUNetPlans" else "n_blocks_per_stage"
    assert kwargs["features_per_stage"] == [64, 64, 128, 256, 512]
    assert kwargs["strides"] == [[1, 1], [2, 2], [2, 2], [2, 2], [2, 2]]
    assert kwargs[blocks] == ([2] * 5 if plans_name == "nnUNetPlans" else [1, 3, 4, 6, 6])
    assert len(kwargs["n_conv_per_stage_decoder"]) == 4
    assert configuration.batch_size == 4
    widths = network_of(configuration).encoder.output_channels
    assert list(widths) == [64, 64, 128, 256, 512]


@pytest.mark.parametrize(
    ("median", "patch"),
    [
        ([400, 512.0], [320, 320]),
        ([320, 305.5], [320, 320]),
        ([304.0, 300], [304, 304]),
        ([60.0, 40.0], [64, 48]),
        ([20, 1], [32, 32]),
    ],
)
def test_spinesegdiff_patch_follows_the_median_image(flat: Path, median: list[float], patch: list[int]) -> None:
    plans = json.loads((flat / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"]["median_image_size_in_voxels"] = median
    assert spinesegdiff_configuration(plans)["patch_size"] == patch


@pytest.mark.parametrize(
    ("patch", "spacing", "expected", "widths"),
    [
        ([320, 320], [1, 1], [320, 320], [16, 32, 64, 128, 128]),
        ([250, 100], [1, 1], [256, 112], [16, 32, 64, 128, 128]),
        ([20, 20], [1, 1], [20, 20], [16, 32, 64]),
        ([128, 32], [0.5, 2.0], [128, 32], [16, 32, 64, 128, 128]),
    ],
)
def test_small_has_as_many_stages_as_the_patch_allows(
    flat: Path, patch: list[int], spacing: list[float], expected: list[int], widths: list[int]
) -> None:
    plans = json.loads((flat / "nnUNetPlans.json").read_text())
    plans["configurations"]["2d"].update(patch_size=patch, spacing=spacing)
    wanted = small_configuration(plans)
    assert wanted["patch_size"] == expected
    assert wanted["batch_size"] == 4
    assert wanted["architecture"]["arch_kwargs"]["features_per_stage"] == widths
    assert Settings().updated(wanted["diffusion"]).training.learning_rate == 3e-3
    plans["configurations"]["small"] = wanted
    with torch.inference_mode():
        output = network_of(PlansManager(plans).get_configuration("small"))(torch.zeros(1, 1, *expected))
    assert list(output.shape[2:]) == expected


def test_plans_of_older_nnunet_without_architecture_are_understood(flat: Path) -> None:
    plans_file = flat / "nnUNetPlans.json"
    plans = json.loads(plans_file.read_text())
    kwargs = plans["configurations"]["2d"].pop("architecture")["arch_kwargs"]
    plans["configurations"]["2d"].update(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=32,
        unet_max_num_features=512,
        n_conv_per_stage_encoder=kwargs["n_conv_per_stage"],
        n_conv_per_stage_decoder=kwargs["n_conv_per_stage_decoder"],
        num_pool_per_axis=[3, 3],
        pool_op_kernel_sizes=kwargs["strides"],
        conv_kernel_sizes=kwargs["kernel_sizes"],
    )
    plans_file.write_text(json.dumps(plans))
    add_configurations(plans_file, timesteps=[30], base="2d_spinesegdiff")
    manager = PlansManager(str(plans_file))
    assert "architecture" not in manager.plans["configurations"]["2d"]
    assert type(network_of(manager.get_configuration("2d_preseg_T30"))).__name__ == "PlainConvUNet"


@each_plans
def test_3d_paper_fits_its_patch(volumes: Path, plans_name: str) -> None:
    plans_file = volumes / f"{plans_name}.json"
    add_configurations(plans_file, paper_baselines=True)
    manager = PlansManager(str(plans_file))
    configuration = manager.get_configuration("3d_paper")
    assert configuration.patch_size == [56, 224, 192]
    assert configuration.batch_size == 2
    assert configuration.data_identifier == "nnUNetPlans_3d_fullres"
    assert network_of(configuration).compute_conv_feature_map_size(configuration.patch_size) > 0
    assert manager.get_configuration("2d_paper").patch_size == [256, 64]
    assert manager.get_configuration("2d_paper").batch_size == 197
    assert manager.get_configuration("2d_iisdm").batch_size == 10


def test_3d_paper_puts_56_on_the_axis_with_fewest_slices(volumes: Path) -> None:
    plans_file = volumes / "nnUNetPlans.json"
    plans = json.loads(plans_file.read_text())
    plans["configurations"]["3d_fullres"].update(median_image_size_in_voxels=[220, 60, 250], spacing=[1, 1, 1])
    plans_file.write_text(json.dumps(plans))
    add_configurations(plans_file, paper_baselines=True)
    assert PlansManager(str(plans_file)).get_configuration("3d_paper").patch_size == [224, 56, 192]


def test_3d_paper_needs_3d_fullres(flat: Path) -> None:
    add_configurations(flat / "nnUNetPlans.json", paper_baselines=True)
    configurations = json.loads((flat / "nnUNetPlans.json").read_text())["configurations"]
    assert "2d_paper" in configurations
    assert "3d_paper" not in configurations


@pytest.mark.parametrize("base", ["2d", "2d_spinesegdiff", "2d_small"])
def test_stages_are_a_cascade_in_nnunets_sense(flat: Path, base: str) -> None:
    plans_file = flat / "nnUNetPlans.json"
    add_configurations(plans_file, timesteps=["3", 30], base=base, previous_trainer="nnUNetTrainer_5epochs")
    manager = PlansManager(str(plans_file))
    baseline, prefix = ("2d_small", "2d_small_preseg_T") if base == "2d_small" else ("2d", "2d_preseg_T")
    stage = manager.get_configuration(f"{prefix}30")
    assert stage.previous_stage_name == baseline
    assert stage.next_stage_names is None
    assert manager.get_configuration(baseline).next_stage_names == [f"{prefix}3", f"{prefix}30"]
    assert stage.network_arch_init_kwargs == manager.get_configuration(base).network_arch_init_kwargs
    assert stage.configuration["pre_segmentation"] == {
        "previous_trainer": "nnUNetTrainer_5epochs",
        "foreground_labels": [1, 2],
        "heads": [[0], [1], [2]],
    }
    settings = Settings().updated(stage.configuration["diffusion"])
    assert (settings.process.timesteps, settings.process.schedule) == (30, "cosine")
    assert settings.sampling.sampling_steps == 5
    assert settings.training.learning_rate == (3e-3 if base == "2d_small" else 1e-4)
    short = Settings().updated(manager.get_configuration(f"{prefix}3").configuration["diffusion"])
    sampling = short.sampling
    assert (sampling.sampling_steps, sampling.ensemble_steps, sampling.samples) == (3, 3, 3)
    assert short.process.timesteps == 3


@pytest.mark.parametrize("name", ["2d_spinesegdiff", "2d_small", "2d_paper"])
def test_nothing_but_the_baseline_has_a_next_stage(flat: Path, name: str) -> None:
    plans_file = flat / "nnUNetPlans.json"
    add_configurations(plans_file, timesteps=[30], small=True, paper_baselines=True)
    assert PlansManager(str(plans_file)).get_configuration(name).next_stage_names is None


@pytest.mark.parametrize(
    ("labels", "order", "foreground", "heads"),
    [
        ({"background": 0, "a": 1, "b": 2, "ignore": 3}, None, [1, 2], [[0], [1], [2]]),
        ({"background": 0, "spine": [1, 2, 3], "discs": [2], "canal": 3}, [1, 2, 3], [1, 2, 3], [[1, 2, 3], [2], [3]]),
        ({"background": 0, "all": [1, 2], "b": 2, "ignore": 3}, [1, 2], [1, 2], [[1, 2], [2]]),
    ],
)
def test_mask_heads_of_labels_regions_and_ignore(
    flat: Path, labels: dict, order: list | None, foreground: list, heads: list
) -> None:
    plans = json.loads((flat / "nnUNetPlans.json").read_text())
    description = {"labels": labels, **({"regions_class_order": order} if order else {})}
    manager = PlansManager(plans).get_label_manager(description)
    assert mask_heads(plans, description) == {"foreground_labels": foreground, "heads": heads}
    assert len(heads) == manager.num_segmentation_heads


def test_labels_that_nnunet_refuses_are_an_error(flat: Path) -> None:
    plans = json.loads((flat / "nnUNetPlans.json").read_text())
    with pytest.raises(ValueError, match=r"labels in dataset\.json.*[Bb]ackground"):
        mask_heads(plans, {"labels": {"vertebra": 1}})
    with pytest.raises(ValueError, match=r"regions_class_order"):
        mask_heads(plans, {"labels": {"background": 0, "spine": [1, 2]}})


def test_other_architectures_and_incomplete_plans_are_refused(flat: Path) -> None:
    plans = json.loads((flat / "nnUNetPlans.json").read_text())
    other = deepcopy(plans)
    other["configurations"]["2d"]["architecture"] = {"network_class_name": "some.Transformer", "arch_kwargs": {}}
    with pytest.raises(ValueError, match=r"some\.Transformer is not planned in stages"):
        spinesegdiff_configuration(other)
    del plans["configurations"]["2d"]["spacing"]
    with pytest.raises(ValueError, match="2d of the plans lacks spacing"):
        spinesegdiff_configuration(plans)
