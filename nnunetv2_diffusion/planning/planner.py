"""Adds the project's configurations to a plans file and says what it changed: the work behind `spinesegdiff plan`."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunetv2_diffusion.files import naming, one_at_a_time
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, PLANS, TRAINER, stage_name
from nnunetv2_diffusion.planning.architectures import (
    iisdm_configuration,
    paper_2d_configuration,
    paper_3d_configuration,
    small_configuration,
    small_iisdm_configuration,
    spinesegdiff_configuration,
)
from nnunetv2_diffusion.planning.memory import memory_advice
from nnunetv2_diffusion.planning.plans_file import find_plans_file, read_planned, read_plans, write_plans
from nnunetv2_diffusion.planning.reminders import validation_reminders
from nnunetv2_diffusion.planning.stages import (
    BASELINES,
    BASES,
    MARK,
    as_timesteps,
    baseline_of,
    linked_next_stage,
    mask_heads,
    stage_configuration,
    tuned_diffusion,
)

LINKS = ("inherits_from", "previous_stage", "next_stage", "pre_segmentation", "written_by")


def plan_dataset(dataset: str | int, plans_name: str = PLANS, **choices: Any) -> list[str]:
    """Find the plans file of `dataset` below $nnUNet_preprocessed and add configurations to it.

    Args:
        dataset: number or name of the dataset.
        plans_name: the plans file's name without .json, as nnU-Net's -p.
        choices: the keyword arguments of `add_configurations`.

    Returns:
        What was changed ("nothing changed" where nothing was), whether the GPU that nnU-Net planned for is enough, and
        which trained folds must validate again.

    Raises:
        ValueError, OSError: as `find_plans_file` and `add_configurations`.
    """
    plans_file = find_plans_file(dataset, plans_name)
    changes = add_configurations(plans_file, **choices)
    advice = memory_advice(read_plans(plans_file))
    return [*(changes or [f"{plans_file}: nothing changed"]), *advice, *validation_reminders(plans_file)]


def add_configurations(
    plans_file: str | Path,
    timesteps: Sequence[int | str] = (),
    base: str = "2d",
    previous_trainer: str = TRAINER,
    small: bool = False,
    paper_baselines: bool = False,
) -> list[str]:
    """Add `2d_spinesegdiff` and what else is asked for to a plans file; a second call changes nothing.

    In configurations written by an earlier call, what can be tuned (batch size, patch, architecture, the settings in
    `diffusion`) stays as it is found; remove a configuration to have it written anew. Only the links between stages
    follow every call. The former plans are kept as <plans>.json.bak.

    Args:
        plans_file: nnU-Net's plans, with dataset.json beside them when stages are asked for.
        timesteps: a pre-segmentation stage for each T, `2d_preseg_T<T>` (`2d_small_preseg_T<T>` on `2d_small`).
        base: the configuration that the stages inherit from: "2d", "2d_spinesegdiff" or "2d_small".
        previous_trainer: the trainer class whose predictions the stages refine.
        small: add `2d_small`; implied by `base` "2d_small".
        paper_baselines: add `2d_iisdm` (with `small` also `2d_small_iisdm`), `2d_paper` and, where the plans have
            `3d_fullres`, `3d_paper`.

    Returns:
        One sentence a change; empty when the file already is as asked, which is then not touched.

    Raises:
        ValueError: a value out of range, unusable plans or labels, or a configuration of that name that others wrote.
        OSError: the files cannot be read or written.
    """
    plans_file = Path(plans_file)
    if base not in BASES:
        raise ValueError(f"base must be one of {', '.join(BASES)}, not {base!r}")
    if not previous_trainer.isidentifier():
        raise ValueError(f"previous_trainer must be the name of a trainer class, not {previous_trainer!r}")
    steps = [as_timesteps(value) for value in timesteps]
    small = small or (bool(steps) and base == "2d_small")
    with one_at_a_time(plans_file.parent):
        with naming(plans_file, "restore it or run nnUNetv2_plan_experiment"):
            plans = read_plans(plans_file)
            configurations = plans["configurations"]
            changes = []
            for name, wanted in _single_stages(plans, small, paper_baselines).items():
                changes += _put(configurations, name, wanted)
            if steps:
                heads = mask_heads(plans, read_planned(plans_file.parent / DATASET_FILE))
                for number in steps:
                    wanted = stage_configuration(base, number, previous_trainer, heads)
                    changes += _put(configurations, stage_name(baseline_of(base), number), wanted)
            changes += _link(configurations)
        if changes:
            backup = write_plans(plans_file, plans)
            changes.append(f"{plans_file} written, the former plans kept as {backup.name}")
    return changes


def _single_stages(plans: dict[str, Any], small: bool, paper_baselines: bool) -> dict[str, dict[str, Any]]:
    wanted = {"2d_spinesegdiff": spinesegdiff_configuration(plans)}
    if small:
        stages = plans["configurations"].get("2d_small", {}).get("next_stage")
        wanted["2d_small"] = {**small_configuration(plans), "next_stage": stages}
    if paper_baselines:
        wanted["2d_iisdm"] = iisdm_configuration(plans)
        if small:
            wanted["2d_small_iisdm"] = small_iisdm_configuration(plans)
        wanted["2d_paper"] = paper_2d_configuration(plans)
        if "3d_fullres" in plans["configurations"]:
            wanted["3d_paper"] = paper_3d_configuration(plans)
    return wanted


def _put(configurations: dict[str, Any], name: str, wanted: dict[str, Any]) -> list[str]:
    """Add a configuration, or renew the links of one written earlier; returns the sentences that say so."""
    wanted = {**wanted, **MARK}
    present = configurations.get(name)
    if present is None:
        configurations[name] = wanted
        return [f"added {name}: {_summary(wanted)}"]
    if present.get("written_by") != MARK["written_by"]:
        raise ValueError(
            f"the plans already have a configuration {name} that was not written by this command; "
            "rename or remove it, nothing was changed"
        )
    renewed = {key: value for key, value in wanted.items() if key in LINKS or key not in present}
    merged = {**present, **renewed}
    if "diffusion" in wanted:
        merged["diffusion"] = tuned_diffusion(name, present.get("diffusion", {}), wanted["diffusion"])
    configurations[name] = merged
    return [f"changed {key} of {name}" for key in merged if key not in present or merged[key] != present[key]]


def _link(configurations: dict[str, Any]) -> list[str]:
    """Let each baseline's `next_stage` list all its stages; nnU-Net's validation writes their masks from it."""
    changes = []
    for baseline in BASELINES:
        if baseline not in configurations:
            continue
        stages = linked_next_stage(configurations, baseline)
        if stages != _as_list(configurations[baseline].get("next_stage")):
            before = deepcopy(configurations[baseline].get("next_stage"))
            configurations[baseline]["next_stage"] = stages
            changes.append(f"next_stage of {baseline} is now {stages}, was {before}")
    return changes


def _as_list(value: str | list[str] | None) -> list[str] | None:
    return [value] if isinstance(value, str) else value or None


def _summary(configuration: dict[str, Any]) -> str:
    if "pre_segmentation" in configuration:
        settings = configuration["diffusion"]
        return (
            f"inherits from {configuration['inherits_from']}, refines {configuration['previous_stage']} of "
            f"{configuration['pre_segmentation']['previous_trainer']} with T = {settings['timesteps']} "
            f"({settings['schedule']} schedule), {settings['sampling_steps']} sampling steps"
        )
    patch = " x ".join(str(size) for size in configuration["patch_size"])
    widths = configuration["architecture"]["arch_kwargs"]["features_per_stage"]
    batch = configuration["batch_size"]
    return f"inherits from {configuration['inherits_from']}, patch {patch}, batch {batch}, widths {widths}"
