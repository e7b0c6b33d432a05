"""The words of a DICOM header that name a patient or an examination: found once, and never repeated."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

PATIENT_NAMES = ("PatientName", "OtherPatientNames", "PatientBirthName")
IDENTIFIERS = (
    *PATIENT_NAMES,
    "PatientID",
    "PatientBirthDate",
    "OtherPatientIDs",
    "AccessionNumber",
    "StudyID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "SOPInstanceUID",
)
# Shorter words are parts of too many others; of a patient's name they count where they stand alone.
_LONG = 3
_MASK = "…"


class Identified(Protocol):
    """What carries the words of its header that are never to be repeated."""

    identifiers: tuple[str, ...]


def identifying_words(values: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The words in pairs of a keyword of `IDENTIFIERS` and its value: each value whole and in its parts."""
    words = set()
    for keyword, value in values:
        parts = {part.strip() for part in (value, *re.split(r"[\^\s_=\\]+", value))}
        words |= {part for part in parts if len(part) >= _LONG or (keyword in PATIENT_NAMES and len(part) == _LONG - 1)}
    return tuple(sorted(words, key=lambda word: (-len(word), word)))


def names_a_patient(name: str, series: Identified) -> bool:
    """Whether a file or folder name contains one of the series' identifiers."""
    return any(pattern.search(name) for pattern in map(_pattern, series.identifiers))


def without_identifiers(text: str, identifiers: Iterable[str]) -> str:
    """`text` with each identifying word left out, and on one line of printable characters."""
    for word in identifiers:
        text = _pattern(word).sub(_MASK, text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _pattern(word: str) -> re.Pattern[str]:
    escaped = re.escape(word)
    alone = rf"(?<![^\W_]){escaped}(?![^\W_])"
    return re.compile(escaped if len(word) >= _LONG else alone, re.IGNORECASE)
