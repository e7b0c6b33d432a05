"""Instance Dice as SPIDER's challenge counts it, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from nnunetv2_diffusion.anatomy.instances import instance_dice
from nnunetv2_diffusion.spider import CANAL, DISCS, VERTEBRAE


def test_by_hand():
    reference, found = np.zeros((2, 60), int)
    reference[0:10], found[0:8] = 1, 4  # another number: 2 * 8 / (10 + 8)
    reference[10:20], found[11:20], found[20] = 201, 201, 201  # 2 * 9 / (10 + 10)
    reference[30:50] = 2
    found[49] = 7  # 2 * 1 / (20 + 11), missed
    found[50:60] = 7
    reference[20:30] = 100  # all but one of its pixels are missed: 1 of the disc's lies in it
    rows = instance_dice(reference, found).set_index("label")
    assert rows.loc[1, "dice"] == pytest.approx(16 / 18) and rows.loc[1, "structure"] == VERTEBRAE
    assert rows.loc[201, "dice"] == pytest.approx(18 / 20) and rows.loc[201, "structure"] == DISCS
    assert rows.loc[2, "dice"] == pytest.approx(2 / 31) and not rows.loc[2, "detected"]
    assert rows.loc[100, "dice"] == pytest.approx(2 / 20) and rows.loc[100, "structure"] == CANAL
    assert rows["found"].to_dict() == {1: 4, 2: 7, 100: 201, 201: 201}


def test_partly_visible_vertebrae_and_empty_masks():
    reference = np.repeat([1, 103, 202], 5)
    rows = instance_dice(reference, np.zeros_like(reference))
    assert rows["label"].tolist() == [1, 202] and not rows[["dice", "found", "detected"]].any(axis=None)
    assert instance_dice(np.zeros(3, int), np.ones(3, int)).empty
