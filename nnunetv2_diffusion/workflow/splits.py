"""The folds of a study's datasets where they are not the converter's own: the published ones, or those of phantoms."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from nnunetv2_diffusion.files import naming, read_json
from nnunetv2_diffusion.spider import MODALITIES, case_name, published_splits_file

Splits = list[dict[str, list[str]]]
# SPIDER_001, or with the contrast, and with a running number behind it, as the published code names its cases.
_NAME = re.compile(r"SPIDER_(\d+)(?:_(t1|t2))?(?:_\d+)?")


def read_splits(folder: Path, modality: str, cases: Collection[str]) -> Splits:
    """The folds of a modality in `SPIDER_<modality>.json`, in nnU-Net's form and with the converter's names.

    The held-out part may be called `val`, as nnU-Net does, or `test`. Cases that the data do not hold are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it has another form, or names cases in another way.
    """
    path = folder / published_splits_file(modality)
    splits = read_json(path, list, remedy="name the folder that holds it with --splits")
    with naming(path, 'expected [{"train": [names], "test": [names]}, …]'):
        return [
            {
                part: _known([_converted(name, modality) for name in split.get(part) or split["test"]], cases)
                for part in ("train", "val")
            }
            for split in splits
        ]


def _known(names: list[str], cases: Collection[str]) -> list[str]:
    return sorted(set(names) & set(cases))


def _converted(name: str, modality: str) -> str:
    match = _NAME.fullmatch(name)
    contrasts = MODALITIES[modality]
    if match is None or (match[2] is None and len(contrasts) > 1):
        raise ValueError(f"{name!r} is no case of SPIDER's {modality}")
    return case_name(int(match[1]), match[2] or contrasts[0])


def phantom_splits(patients: int, modality: str, folds: int) -> Splits:
    """So many folds, two at least, each patient validated in one of them."""
    folds = max(folds, 2)  # of one alone nothing would be left to train on
    names = {patient: [case_name(patient, c) for c in MODALITIES[modality]] for patient in range(1, patients + 1)}
    return [
        {
            "train": [name for patient, own in names.items() if patient % folds != fold for name in own],
            "val": [name for patient, own in names.items() if patient % folds == fold for name in own],
        }
        for fold in range(folds)
    ]
