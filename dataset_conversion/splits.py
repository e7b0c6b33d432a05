"""Cross-validation folds by patient, in nnU-Net's form (a list of {"train": [...], "val": [...]} of case names)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from nnunetv2_diffusion.nnunet_names import split_rater
from nnunetv2_diffusion.spider import Series

NUM_FOLDS = 5
SEED = 12345
Splits = list[dict[str, list[str]]]


def assign_folds(
    contrasts: Mapping[int, frozenset[str]], num_folds: int = NUM_FOLDS, seed: int = SEED
) -> dict[int, int]:
    """The fold in which each patient is validated; `contrasts` says which of t1 and t2 each patient has.

    Folds are level to within one patient among the patients with t1, among those with t2, and among all: those with
    both contrasts are dealt first, then those with t2 alone, then those with t1 alone, each to the fold with the fewest
    patients who share a contrast, and of these to the one with the fewest in all. Dealing in this order keeps all three
    counts level for any numbers of patients. Depends on the patients, their contrasts and the seed alone.
    """
    rng = np.random.RandomState(seed)  # its permutations are frozen, so the folds never change with numpy's version
    folds: dict[int, int] = {}
    totals = [0] * num_folds
    by_contrast = {"t1": [0] * num_folds, "t2": [0] * num_folds}
    for group in (frozenset({"t1", "t2"}), frozenset({"t2"}), frozenset({"t1"})):
        members = sorted(patient for patient, has in contrasts.items() if has == group)
        for patient in rng.permutation(members):
            shared = [sum(by_contrast[contrast][fold] for contrast in group) for fold in range(num_folds)]
            fold = min(range(num_folds), key=lambda f: (shared[f], totals[f], f))
            folds[int(patient)] = fold
            totals[fold] += 1
            for contrast in group:
                by_contrast[contrast][fold] += 1
    return folds


def make_splits(all_cases: Iterable[Series], converted: Iterable[Series]) -> Splits:
    """The splits of the cases in `converted`, by folds that are the same for every modality.

    `all_cases` are the chosen patients' cases of all contrasts, whatever the data set takes: they settle the folds.
    Fewer than five patients give as many folds as patients; a single patient cannot be split and gives no fold.
    """
    all_cases, converted = list(all_cases), sorted(converted)
    num_folds = min(NUM_FOLDS, len({case.patient for case in converted}))
    if num_folds < 2:
        return []
    splits = _splits_from(assign_folds(contrasts_of(all_cases), num_folds), converted, num_folds)
    if all(split["val"] for split in splits):
        return splits
    # In a tiny data set a fold can be left without a case: then the folds are level among its own patients instead.
    return _splits_from(assign_folds(contrasts_of(converted), num_folds), converted, num_folds)


def split_by_image(cases: Iterable[str]) -> Splits:
    """Five folds of any cases that keep those `<image>__<rater>` of one image together; fewer where there are less."""
    cases = sorted(cases)
    images = sorted({split_rater(case)[0] for case in cases})
    num_folds = min(NUM_FOLDS, len(images))
    if num_folds < 2:
        return []
    dealt = np.random.RandomState(SEED).permutation(len(images))
    folds = {images[index]: number % num_folds for number, index in enumerate(dealt)}
    return [
        {
            "train": [case for case in cases if folds[split_rater(case)[0]] != fold],
            "val": [case for case in cases if folds[split_rater(case)[0]] == fold],
        }
        for fold in range(num_folds)
    ]


def contrasts_of(cases: Iterable[Series]) -> dict[int, frozenset[str]]:
    """Which contrasts each patient has."""
    contrasts: dict[int, frozenset[str]] = {}
    for case in cases:
        contrasts[case.patient] = contrasts.get(case.patient, frozenset()) | {case.contrast}
    return contrasts


def _splits_from(folds: Mapping[int, int], cases: list[Series], num_folds: int) -> Splits:
    return [
        {
            "train": [case.case for case in cases if folds[case.patient] != fold],
            "val": [case.case for case in cases if folds[case.patient] == fold],
        }
        for fold in range(num_folds)
    ]


def read_splits(path: str | Path, cases: Iterable[Series]) -> Splits:
    """Splits from a file in nnU-Net's form, checked against the data set's cases.

    ValueError where the file has another form, names a case that is not in the data set, or parts a patient, that is,
    has cases of one patient in both parts of a fold.
    """
    path = Path(path)
    patient_of = {case.case: case.patient for case in cases}
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not json: {error}") from error
    if not (isinstance(splits, list) and splits and all(_is_fold(split) for split in splits)):
        raise ValueError(
            f'{path} is not in the form of splits_final.json: expected [{{"train": [...], "val": [...]}}, ...]'
        )
    for fold, split in enumerate(splits):
        unknown = sorted({*split["train"], *split["val"]} - patient_of.keys())
        if unknown:
            raise ValueError(f"{path} names in fold {fold} what is no case of this data set: {', '.join(unknown[:5])}")
        parted = {patient_of[case] for case in split["train"]} & {patient_of[case] for case in split["val"]}
        if parted:
            listed = ", ".join(map(str, sorted(parted)[:5]))
            raise ValueError(f"{path} parts patient {listed} in fold {fold}: cases in both train and val")
    return splits


def _is_fold(split: object) -> bool:
    """Whether `split` is {"train": [names], "val": [names]} with neither list empty."""
    return (
        isinstance(split, dict)
        and {"train", "val"} <= split.keys()
        and all(isinstance(split[part], list) and split[part] for part in ("train", "val"))
        and all(isinstance(name, str) for part in ("train", "val") for name in split[part])
    )


def without(splits: Splits, cases: Iterable[str]) -> Splits:
    """The splits without the named cases (those that could not be converted)."""
    dropped = set(cases)
    return [
        {part: [case for case in split[part] if case not in dropped] for part in ("train", "val")} for split in splits
    ]
