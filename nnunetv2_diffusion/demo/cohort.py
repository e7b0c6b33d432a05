"""The demo's patients: who is trained on, in two folds, and who stays unseen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunetv2_diffusion.spider import MODALITIES, case_name, list_series, select_cases

MODALITY = "T2w"
(CONTRAST,) = MODALITIES[MODALITY]
PHANTOM_PATIENTS, FEWEST_PATIENTS = 30, 5


def choose_patients(data: Path | None, number: int | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The patients to train on and, the last fifth, the unseen ones.

    Args:
        data: SPIDER's folder, or None for phantoms.
        number: how many patients in all, those of the lowest numbers; None for all of SPIDER, or 30 phantoms.

    Raises:
        ValueError: fewer than 5 patients.
        FileNotFoundError: `data` is no SPIDER folder.
    """
    if data is None:
        patients = list(range(1, (PHANTOM_PATIENTS if number is None else number) + 1))
    else:
        patients = sorted({case.patient for case in select_cases(list_series(data)) if case.contrast == CONTRAST})
        patients = patients[:number]
    if (number is not None and number < FEWEST_PATIENTS) or len(patients) < FEWEST_PATIENTS:
        found = len(patients) if number is None else number
        raise ValueError(f"the demo needs at least {FEWEST_PATIENTS} patients with a {MODALITY} scan, not {found}")
    unseen = max(1, len(patients) // 5)
    return tuple(patients[:-unseen]), tuple(patients[-unseen:])


def two_folds(patients: Sequence[int]) -> list[dict[str, list[str]]]:
    """Every other patient trains, the others validate, and the other way round; as nnU-Net's splits_final.json."""
    cases = [case_name(patient, CONTRAST) for patient in patients]
    halves = cases[::2], cases[1::2]
    return [{"train": train, "val": val} for train, val in (halves, halves[::-1])]


def patient_range(patients: Sequence[int]) -> str:
    """`1-24` for the converter, which passes over numbers in a range that the data do not hold."""
    return str(patients[0]) if len(patients) == 1 else f"{patients[0]}-{patients[-1]}"
