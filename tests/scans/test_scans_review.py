"""The review flag: plausible anatomy passes, each implausible kind is named."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_diffusion.scans.review import ReviewThresholds, measure, review_reasons

LABELS = {"spinal_canal": 1, "vertebrae": 2, "discs": 3}
SPACING = (1.0, 0.5, 4.0)


def spine() -> np.ndarray:
    """A slice [z, y, x] of 200 x 100 mm: a canal behind vertebrae and discs, running out above and below."""
    mask = np.zeros((200, 200, 1), np.uint8)
    mask[:, 60:80] = 1
    for first in range(10, 180, 45):
        mask[first : first + 30, 90:150] = 2
        mask[first + 32 : first + 40, 92:148] = 3
    return mask


def reasons(mask: np.ndarray, mean: float = 0.1, **changes: float) -> list[str]:
    return review_reasons(mask, mean, SPACING, LABELS, ReviewThresholds().updated(changes))


def test_plausible_anatomy_needs_no_review():
    assert reasons(spine()) == []


def test_nothing_found():
    assert reasons(np.zeros((200, 200, 1), np.uint8)) == ["nothing was found"]
    specks = np.zeros((200, 200, 1), np.uint8)
    specks[::40, ::40] = 2
    assert reasons(specks) == ["nothing was found"]


def test_missing_structure():
    mask = spine()
    mask[mask == 3] = 0
    assert reasons(mask) == ["discs: not found"]


def test_several_canals():
    mask = spine()
    mask[90:95, 60:80] = 0
    assert reasons(mask) == ["spinal_canal: 2 separate pieces"]
    assert reasons(mask, canals=2) == []
    mask = spine()
    mask[20:24, 20:40] = 1  # 4 x 10 mm = 40 mm²
    assert len(reasons(mask)) == 1 and reasons(mask, smallest_piece_mm2=41) == []


@pytest.mark.parametrize(
    ("window", "edge", "length"),
    [
        ((slice(50, 80), slice(150, 200)), "anterior", 30),
        ((slice(50, 80), slice(0, 40)), "posterior", 30),
        ((slice(195, 200), slice(0, 190)), "superior", 95),
        ((slice(0, 5), slice(5, 195)), "inferior", 95),
    ],
)
def test_mask_along_an_edge(window, edge, length):
    mask = spine()
    mask[window] = 2
    found = [reason for reason in reasons(mask) if "edge" in reason]
    assert found == [f"the mask touches the {edge} edge of the image along {length} mm"]


def test_uncertain_mask():
    assert reasons(spine(), 0.5) == ["mean uncertainty in the mask is 0.50, above 0.3"]
    assert reasons(spine(), 0.5, uncertainty=0.6) == []


@pytest.mark.parametrize("changes", [{"uncertanty": 0.2}, {"canals": -1}, {"uncertainty": float("nan")}])
def test_thresholds_that_are_none(changes):
    with pytest.raises(ValueError, match="a review threshold is one of uncertainty, smallest_piece_mm2"):
        ReviewThresholds().updated(changes)


def test_figures_by_hand():
    mask = np.zeros((10, 20, 3), np.uint8)
    mask[:4, :5, 1] = 2
    mask[:2, :5, 2] = 2
    uncertainty = np.where(mask == 2, 0.25, 0.05).astype(np.float32)
    structures, means = measure(mask, uncertainty, SPACING, {"vertebrae": 2, "discs": 3, "bone": [2, 3]})
    assert structures["vertebrae"] == {"label": 2, "area_mm2": 10.0, "volume_mm3": 60.0, "mean_uncertainty": 0.25}
    assert structures["discs"] == {"label": 3, "area_mm2": 0.0, "volume_mm3": 0.0, "mean_uncertainty": None}
    assert structures["bone"]["volume_mm3"] == 60.0
    assert means["mask"] == 0.25
    assert means["segmented_slices"] == pytest.approx((30 * 0.25 + 570 * 0.05) / 600)
    single, _ = measure(mask[..., 1:2], uncertainty[..., 1:2], SPACING, {"vertebrae": 2})
    assert "volume_mm3" not in single["vertebrae"]
