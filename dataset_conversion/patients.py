"""The patients that --patients asks for."""

from __future__ import annotations

import re

from nnunetv2_diffusion.spider import Series


def parse_patients(text: str) -> tuple[set[int], set[int]]:
    """(named, covered) from text like `1,2,100-114`: the patients named one by one, and all including the ranges.

    ValueError where the text is anything else.
    """
    named, covered = set(), set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(
                f"--patients {text!r} is malformed at {part.strip()!r}: expected numbers and ranges like 1,2,100-114"
            )
        if match[2]:
            covered.update(range(int(match[1]), int(match[2]) + 1))
        else:
            named.add(int(match[1]))
    return named, named | covered


def pick_patients(cases: list[Series], text: str | None) -> list[Series]:
    """The cases of the patients that `text` names (all where it is None); ValueError where one named does not exist."""
    if text is None:
        return cases
    named, covered = parse_patients(text)
    present = {case.patient for case in cases}
    absent = sorted(named - present)
    if absent:
        raise ValueError(f"--patients {text!r} names patient {', '.join(map(str, absent))}, whom the data do not hold")
    picked = [case for case in cases if case.patient in covered]
    if not picked:
        raise ValueError(f"--patients {text!r} picks no one: the data hold patients {min(present)} to {max(present)}")
    return picked
