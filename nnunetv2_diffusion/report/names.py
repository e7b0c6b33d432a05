"""What a trained model and a dataset are called in tables: from nnU-Net's folder names to the paper's words."""

from __future__ import annotations

from nnunetv2_diffusion import nnunet_names, spider
from nnunetv2_diffusion.nnunet_names import PLANS, ModelName, dataset_number, parse_stage

SPINESEGDIFF, PRESEGMENTATION, IISDM, NNUNET = "SpineSegDiff", "SpineSegDiff, pre-segmentation", "IISDM", "nnU-Net"
CONTROL = "U-Net trained as SpineSegDiff"

# Trainer class prefixes, the longest first; the order of the values is the order of the tables.
_PREFIXES = (
    (nnunet_names.PRESEG, PRESEGMENTATION),
    (nnunet_names.CONTROL, CONTROL),
    (nnunet_names.SPINESEGDIFF, SPINESEGDIFF),
    ("nnUNetTrainerIISDM", IISDM),
    (nnunet_names.TRAINER, NNUNET),
)
FAMILY_ORDER = (SPINESEGDIFF, PRESEGMENTATION, IISDM, CONTROL, NNUNET)
_BASELINE = "2d"
_MODALITIES = {name: modality for modality, (_, name) in spider.DATASETS.items()}


def family(trainer: str) -> str:
    """The method that a trainer class belongs to; an unknown trainer is its own family."""
    return next((name for prefix, name in _PREFIXES if trainer.startswith(prefix)), trainer)


def model_name(model: ModelName) -> str:
    """A readable name that differs whenever trainer, plans or configuration differ.

    nnU-Net's defaults (nnUNetPlans, 2d) are not spelled out; whatever departs from them follows in brackets.
    """
    trainer, plans, configuration = model
    prefix = next((prefix for prefix, _ in _PREFIXES if trainer.startswith(prefix)), trainer)
    name, details = family(trainer), [trainer.removeprefix(prefix).strip("_").replace("epochs", " epochs")]
    stage = parse_stage(configuration)
    if stage is not None:
        configuration, timesteps = stage
        name += f" T = {timesteps}"
    details += ["" if configuration == _BASELINE else configuration, "" if plans == PLANS else plans]
    details = [detail for detail in details if detail]
    return f"{name} ({', '.join(details)})" if details else name


def model_order(model: ModelName) -> tuple:
    """Sort key: the paper's order of methods, pre-segmentation by T, then by name."""
    name, stage = family(model.trainer), parse_stage(model.configuration)
    rank = FAMILY_ORDER.index(name) if name in FAMILY_ORDER else len(FAMILY_ORDER)
    return rank, 0 if stage is None else stage[1], model_name(model)


def modality_name(dataset: str) -> str:
    """T1w, T2w or T1w + T2w of our SPIDER datasets (whole volumes: ", 3D"); else the dataset's name without number."""
    name = dataset if dataset_number(dataset) is None else dataset.partition("_")[2]
    if name not in _MODALITIES:
        return name
    modality, dimension = _MODALITIES[name]
    return modality.replace("T1wT2w", "T1w + T2w") + (", 3D" if dimension == "3d" else "")
