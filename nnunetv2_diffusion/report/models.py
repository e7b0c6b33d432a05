"""What a trained model and a dataset are called in tables: from nnU-Net's folder names to the paper's words."""

from __future__ import annotations

import re

SPINESEGDIFF, PRESEGMENTATION, IISDM, NNUNET = "SpineSegDiff", "SpineSegDiff, pre-segmentation", "IISDM", "nnU-Net"

# Trainer class prefixes, the longest first; the order of the values is the order of the tables.
_PREFIXES = (
    ("nnUNetTrainerSpineSegDiffPreSeg", PRESEGMENTATION),
    ("nnUNetTrainerSpineSegDiff", SPINESEGDIFF),
    ("nnUNetTrainerIISDM", IISDM),
    ("nnUNetTrainer", NNUNET),
)
FAMILY_ORDER = (SPINESEGDIFF, PRESEGMENTATION, IISDM, NNUNET)
_STAGE = re.compile(r"^(?P<base>.+)_preseg_T(?P<timesteps>\d+)$")
_SPIDER = re.compile(r"^Dataset\d{3}_SPIDER_(?P<modality>T1wT2w|T1w|T2w)(?P<dimension>_3D)?$")


def family(trainer: str) -> str:
    """The method that a trainer class belongs to; an unknown trainer is its own family."""
    return next((name for prefix, name in _PREFIXES if trainer.startswith(prefix)), trainer)


def stage_timesteps(configuration: str) -> int | None:
    """T of a pre-segmentation configuration (`2d_preseg_T30` gives 30), None for any other configuration."""
    match = _STAGE.match(configuration)
    return int(match["timesteps"]) if match else None


def model_name(trainer: str, plans: str, configuration: str) -> str:
    """A readable name that differs whenever trainer, plans or configuration differ.

    nnU-Net's defaults (nnUNetPlans, 2d) are not spelled out; whatever departs from them follows in brackets.
    """
    prefix = next((prefix for prefix, _ in _PREFIXES if trainer.startswith(prefix)), trainer)
    details = [trainer.removeprefix(prefix).strip("_").replace("epochs", " epochs")]
    name, stage = family(trainer), _STAGE.match(configuration)
    if stage:
        name += f" T = {stage['timesteps']}"
        details.append("" if stage["base"] == "2d" else stage["base"])
    else:
        details.append("" if configuration == "2d" else configuration)
    details.append("" if plans == "nnUNetPlans" else plans)
    details = [detail for detail in details if detail]
    return f"{name} ({', '.join(details)})" if details else name


def model_order(trainer: str, plans: str, configuration: str) -> tuple:
    """Sort key: the paper's order of methods, pre-segmentation by T, then by name."""
    name = family(trainer)
    rank = FAMILY_ORDER.index(name) if name in FAMILY_ORDER else len(FAMILY_ORDER)
    return rank, stage_timesteps(configuration) or 0, model_name(trainer, plans, configuration)


def modality_name(dataset: str) -> str:
    """T1w, T2w or T1w + T2w of our SPIDER datasets (whole volumes: ", 3D"); else the dataset's name without number."""
    match = _SPIDER.match(dataset)
    if not match:
        return re.sub(r"^Dataset\d{3}_", "", dataset)
    return match["modality"].replace("T1wT2w", "T1w + T2w") + (", 3D" if match["dimension"] else "")
