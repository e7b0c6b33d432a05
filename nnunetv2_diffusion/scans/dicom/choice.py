"""Which of the stacks that were found to segment, and what there is to say about the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from nnunetv2_diffusion.scans.dicom.frames import KINDS
from nnunetv2_diffusion.scans.dicom.series import Series, common_folder

_CONTRASTS = ("T1", "T2")
_AUXILIARY = re.compile(r"loc|scout|survey|smartbrain|stir|dixon|\bfs\b|fat|dwi|diff|adc|flair|myelo|\bmip\b", re.I)
# Values of an image type that are no magnitude image of all tissue: phase, real and imaginary part, fat, water and
# opposed phase of a Dixon series, projections.
_PARTIAL = re.compile(
    r"(^|\\)(p|phase|phase map|r|real|i|imaginary|w|water|f|fat|op|opp_phase|out_phase|opposed_phase|projection image"
    r"|mip|adc|localizer)(\\|$)",
    re.I,
)
_LISTED = 4


def choose_series(
    series: Sequence[Series], wanted: str | None, contrasts: tuple[str, ...] | None = None
) -> tuple[list[Series], list[str]]:
    """One stack of each study, or those that were asked for, and what there is to say about the choice.

    Args:
        series: all that were found.
        wanted: a series' number, part of its description or its UID (the best of its stacks), or the label of one
            stack, such as 5.2; "all" takes every stack.
        contrasts: of the images that the model was trained on, "T1" and "T2"; None for either. A series of another
            one is taken where there is no better, with a warning.

    Raises:
        ValueError: none of them is meant by `wanted`.
    """
    if wanted == "all":
        chosen, remarks = list(series), []
    elif wanted is not None:
        chosen, remarks = _asked_for(series, wanted, contrasts), []
    else:
        chosen, remarks = _best_of_each_study(series, contrasts)
    everything = wanted == "all"
    return [replace(s, warnings=_warnings(s, [] if everything else series, contrasts)) for s in chosen], remarks


def preference(series: Series, contrasts: tuple[str, ...] | None = None) -> tuple:
    """Larger is better: sagittal of the model's contrast, no localizers or fat-suppressed series, T2, many images."""
    fitting = series.contrast in (contrasts or _CONTRASTS)
    main = not _AUXILIARY.search(series.description) and not _is_partial(series)
    return (
        not series.fault,
        series.modality in ("MR", ""),
        series.plane == "sagittal",
        fitting and main,
        fitting,
        bool(series.contrast),
        main,
        series.contrast == "T2",
        len(series.slices),
        -series.stack,
    )


def _is_partial(series: Series) -> bool:
    kinds = dict(zip(KINDS, series.slices[0][0].kinds, strict=True))
    return any(_PARTIAL.search(kinds[name]) for name in ("image type", "complex component"))


def _asked_for(series: Sequence[Series], wanted: str, contrasts: tuple[str, ...] | None) -> list[Series]:
    chosen = [s for s in series if s.stack and wanted == s.label]
    if chosen:
        return chosen
    chosen = [s for s in series if wanted in (s.number, s.uid)]
    chosen = chosen or [s for s in series if wanted.lower() in s.description.lower()]
    if not chosen:
        listed = "; ".join(map(str, series))
        raise ValueError(f"--series {wanted} is none of the series {listed}; give a number, part of a name, or all")
    groups = dict.fromkeys((s.study, s.uid) for s in chosen)
    return [_best([s for s in chosen if (s.study, s.uid) == group], contrasts) for group in groups]


def _best(series: Sequence[Series], contrasts: tuple[str, ...] | None) -> Series:
    return max(series, key=lambda s: preference(s, contrasts))


def _best_of_each_study(series: Sequence[Series], contrasts: tuple[str, ...] | None) -> tuple[list[Series], list[str]]:
    chosen, remarks = [], []
    for study in dict.fromkeys(s.study for s in series):
        members = [s for s in series if s.study == study]
        best = _best(members, contrasts)
        chosen.append(best)
        if len(members) > 1:
            what = "stacks of images" if any(s.stack for s in members) else "series"
            where = common_folder(s.folder for s in members)
            remarks += [f"{len(members)} {what} in {where}:", *(f"  {s}" for s in members)]
            remarks.append(f"  segmenting {best.label}; choose with --series")
    return chosen, remarks


def _warnings(chosen: Series, series: Sequence[Series], contrasts: tuple[str, ...] | None) -> tuple[str, ...]:
    """For the results of the stack itself: what its series holds besides, and a contrast that the model never saw."""
    others = [s for s in series if (s.study, s.uid) == (chosen.study, chosen.uid) and s.stack != chosen.stack]
    found = []
    if others:
        listed = "; ".join(other.summary for other in others[:_LISTED])
        more = f"; and {len(others) - _LISTED} other stacks" if len(others) > _LISTED else ""
        found.append(f"of the DICOM series {chosen.summary} are segmented, and not {listed}{more}")
    if contrasts and chosen.contrast and chosen.contrast not in contrasts:
        trained = " and ".join(contrasts)
        found.append(f"the series is {chosen.contrast} weighted, but the model was trained on {trained} images")
    return tuple(found)
