"""Figures of a segmentation, and whether somebody should look at it: the `review` flag and its thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from scipy import ndimage

# The edges of a slice [z, y] in RAS+ orientation: axis and index along it.
_SIDES = {"posterior": (1, 0), "anterior": (1, -1)}
_ENDS = {"inferior": (0, 0), "superior": (0, -1)}


@dataclass(frozen=True)
class ReviewThresholds:
    """Above which a segmentation is implausible.

    Attributes:
        uncertainty: mean uncertainty within all that was segmented, 0 to 1. It is meant for the entropy of the
            step-uncertainty ensemble and of nnU-Net; IISDM's variance never exceeds 0.25.
        smallest_piece_mm2: smaller pieces are neither a structure nor a second canal.
        canals: separate pieces of the spinal canal.
        side_border_mm: length along which a slice's mask touches the anterior or posterior edge of the image.
        end_border_mm: the same for the upper and lower edge, where canal and vertebrae usually run out of the image.
    """

    uncertainty: float = 0.3
    smallest_piece_mm2: float = 20.0
    canals: float = 1
    side_border_mm: float = 5.0
    end_border_mm: float = 80.0

    def updated(self, changes: Mapping[str, float]) -> ReviewThresholds:
        """These thresholds with `changes` in place; ValueError for names that are none and negative values."""
        known = [field.name for field in fields(self)]
        for name, value in changes.items():
            if name not in known or not value >= 0:
                raise ValueError(
                    f"a review threshold is one of {', '.join(known)} with a value from 0, not {name}={value}"
                )
        return replace(self, **changes)

    def as_dict(self) -> dict[str, float]:
        """As written beside a mask."""
        return asdict(self)


def of_structure(mask: np.ndarray, label: int | list[int]) -> np.ndarray:
    """Where a label map holds a label, or one of a region's labels; bool, of the same shape."""
    return np.isin(mask, label)


def measure(
    mask: np.ndarray, uncertainty: np.ndarray, spacing: tuple[float, float, float], labels: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, float | None]]:
    """Sizes and mean uncertainties.

    Args:
        mask: label map of the segmented slices [z, y, x], RAS+.
        uncertainty: [z, y, x].
        spacing: mm, (z, y, x).
        labels: structures by name.

    Returns:
        For each structure its area in mm² in the central one of the slices, where there are several its volume in mm³
        in all of them, and its mean uncertainty (None where it was not found); and the mean uncertainty of the
        segmented slices and within the mask.
    """
    structures = {}
    central = mask.shape[2] // 2
    for name, label in labels.items():
        found = of_structure(mask, label)
        figures: dict[str, Any] = {
            "label": label,
            "area_mm2": float(found[..., central].sum() * spacing[0] * spacing[1]),
        }
        if mask.shape[2] > 1:
            figures["volume_mm3"] = float(found.sum() * np.prod(spacing))
        figures["mean_uncertainty"] = _mean(uncertainty[found])
        structures[name] = figures
    return structures, {"segmented_slices": _mean(uncertainty), "mask": _mean(uncertainty[mask > 0])}


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean(dtype=np.float64)) if values.size else None


def review_reasons(
    mask: np.ndarray,
    mean_uncertainty: float | None,
    spacing: tuple[float, float, float],
    labels: Mapping[str, Any],
    thresholds: ReviewThresholds,
) -> list[str]:
    """Why somebody should look at a segmentation; nothing where it is plausible.

    Args:
        mask, spacing, labels: see `measure`.
        mean_uncertainty: within the mask.
        thresholds: what is implausible.
    """
    pixel = spacing[0] * spacing[1]
    pieces = {
        name: _pieces(of_structure(mask, label), thresholds.smallest_piece_mm2 / pixel)
        for name, label in labels.items()
    }
    if not any(pieces.values()):
        return ["nothing was found"]
    reasons = [f"{name}: not found" for name, count in pieces.items() if count == 0]
    for name, count in pieces.items():
        if "canal" in name and count > thresholds.canals:
            reasons.append(f"{name}: {count} separate pieces")
    if mean_uncertainty is not None and mean_uncertainty > thresholds.uncertainty:
        reasons.append(f"mean uncertainty in the mask is {mean_uncertainty:.2f}, above {thresholds.uncertainty:g}")
    for edges, limit in ((_SIDES, thresholds.side_border_mm), (_ENDS, thresholds.end_border_mm)):
        for edge, (axis, index) in edges.items():
            length = float(np.count_nonzero(mask.take(index, axis=axis), axis=0).max() * spacing[1 - axis])
            if length > limit:
                reasons.append(f"the mask touches the {edge} edge of the image along {length:.0f} mm")
    return reasons


def _pieces(found: np.ndarray, smallest: float) -> int:
    """How many connected pieces (corners connect) have at least `smallest` pixels."""
    numbered, count = ndimage.label(found, structure=np.ones((3, 3, 3)))
    if count == 0:
        return 0
    return int(np.count_nonzero(np.bincount(numbered.ravel())[1:] >= smallest))
