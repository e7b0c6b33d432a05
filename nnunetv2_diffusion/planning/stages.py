"""Pre-segmentation stages: cascade configurations in nnU-Net's own sense, which refine the baseline's prediction."""

from __future__ import annotations

from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_diffusion.nnunet_names import parse_stage
from nnunetv2_diffusion.settings import Settings

BASES = ("2d", "2d_spinesegdiff", "2d_small")
BASELINES = ("2d", "2d_small")
MARK = {"written_by": "spinesegdiff plan"}
SAMPLING_STEPS = 5
# A stage walks the first T steps of this cosine schedule, so its x_{T-1} is the pre-segmentation "partly noised"
# (section 3.1); a schedule of T steps alone would end in pure noise, whatever T.
SCHEDULE_TIMESTEPS = 1000
SAMPLES = 3
# Narrow networks that are trained for minutes: at the paper's 1e-4 they stop far from where they could be.
SMALL_LEARNING_RATE = 3e-3


def baseline_of(base: str) -> str:
    """The configuration whose predictions a stage on `base` refines: `2d`, or `2d_small` for the small stages."""
    return "2d_small" if base == "2d_small" else "2d"


def as_timesteps(value: Any) -> int:
    """T as a whole number of at least 1.

    Raises:
        ValueError: `value` is anything else.
    """
    text = str(value).strip()
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"the number of timesteps must be a whole number of at least 1, not {value!r}")
    return int(text)


def mask_heads(plans: dict[str, Any], dataset_json: dict[str, Any]) -> dict[str, list[Any]]:
    """How a label map becomes the network's masks, by nnU-Net's label manager, in the order of its heads.

    Returns:
        foreground_labels: the labels that nnU-Net turns into one-hot input channels, in that order (no ignore label).
        heads: for each segmentation head the labels that it covers; [0] is the background's head of plain labels,
            region-based datasets have one head a region and none for the background.

    Raises:
        ValueError: the labels in dataset.json are not what nnU-Net accepts.
    """
    try:
        manager = PlansManager(plans).get_label_manager(dataset_json)
    except (AssertionError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"nnU-Net does not accept the labels in dataset.json: {error}") from error
    heads = manager.foreground_regions if manager.has_regions else manager.all_labels
    return {
        "foreground_labels": [int(label) for label in manager.foreground_labels],
        "heads": [[int(label) for label in (head if isinstance(head, tuple | list) else (head,))] for head in heads],
    }


def stage_configuration(
    base: str, timesteps: int, previous_trainer: str, heads: dict[str, list[Any]]
) -> dict[str, Any]:
    """The stage on `base` with the first `timesteps` steps of a cosine schedule (section 3.1, table 2).

    `next_stage` is null because inheriting from the baseline would copy its list of stages.
    """
    steps = min(SAMPLING_STEPS, timesteps)
    return {
        "inherits_from": base,
        "previous_stage": baseline_of(base),
        "next_stage": None,
        "diffusion": {
            "timesteps": timesteps,
            "schedule": "cosine",
            "schedule_timesteps": max(SCHEDULE_TIMESTEPS, timesteps),
            "sampling_steps": steps,
            "ensemble_steps": steps,
            "samples": SAMPLES,
            **({"learning_rate": SMALL_LEARNING_RATE} if base == "2d_small" else {}),
        },
        "pre_segmentation": {"previous_trainer": previous_trainer, **heads},
    }


def tuned_diffusion(name: str, present: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """The `diffusion` block of a stage that exists: its tuned settings, completed by `wanted`, whose T, if any, binds.

    Raises:
        ValueError: the block of configuration `name` is no dictionary, or `Settings` refuses it.
    """
    if not isinstance(present, dict):
        raise ValueError(f"the diffusion block of configuration {name} must be a dictionary, not {present!r}")
    block = {**wanted, **present}
    if "timesteps" in wanted:
        block["timesteps"] = wanted["timesteps"]
    try:
        Settings().updated(block)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the diffusion block of configuration {name} is not valid: {error}") from error
    return block


def written_stages(configurations: dict[str, Any], baseline: str) -> list[str]:
    """The stages on `baseline` that this command wrote, now or earlier, by rising T."""
    names = [
        name
        for name, configuration in configurations.items()
        if configuration.get("written_by") == MARK["written_by"] and configuration.get("previous_stage") == baseline
    ]
    return sorted(names, key=lambda name: ((parse_stage(name) or (name, 0))[1], name))


def linked_next_stage(configurations: dict[str, Any], baseline: str) -> list[str] | None:
    """What `next_stage` of `baseline` must be: the entries of others as they are, then every stage written here.

    A stage of ours that was since removed from the plans is dropped: nnU-Net's validation would stop at its name.
    """
    current = configurations[baseline].get("next_stage") or []
    current = [current] if isinstance(current, str) else list(current)
    ours = written_stages(configurations, baseline)
    others = [name for name in current if name not in ours and (name in configurations or not _is_on(name, baseline))]
    return others + ours or None


def _is_on(name: str, baseline: str) -> bool:
    """Whether a configuration has the name of a stage on this baseline."""
    stage = parse_stage(name)
    return stage is not None and stage[0] == baseline
