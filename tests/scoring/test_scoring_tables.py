"""Summaries of scored cases, worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from nnunetv2_diffusion.scoring.cases import Scores
from nnunetv2_diffusion.scoring.crops import CROPS
from nnunetv2_diffusion.scoring.tables import QUALITIES, missed, reliability, summarise_uncertainty


def test_one_voxel_is_enough_not_to_be_missed():
    structures = pd.DataFrame({"reference_voxels": [1, 1, 0, 0, 1], "predicted_voxels": [1, 0, 1, 0, 9]})
    assert missed(structures).tolist() == [False, True, True, False, False]


def bins() -> pd.DataFrame:
    """Two cases of one model: bin 9 holds 3 and 5 voxels, bin 7 holds 2."""
    return pd.DataFrame(
        {
            "model": "m",
            "case": ["a", "b", "a"],
            "region": "image",
            "bin": [9, 9, 7],
            "count": [3, 5, 2],
            "confidence_sum": [2.7, 4.5, 1.4],
            "correct_sum": [3.0, 3.0, 1.0],
        }
    )


def test_reliability():
    found = reliability(bins(), ["model"]).set_index("bin")
    assert found.loc[9, "count"] == 8
    assert found.loc[9, "confidence"] == pytest.approx(7.2 / 8)
    assert found.loc[9, "accuracy"] == pytest.approx(6 / 8)
    assert found.loc[7, "accuracy"] == pytest.approx(1 / 2)


def test_a_model_without_probabilities_or_without_maps_has_none():
    maps = pd.DataFrame({"model": ["n", "n"], "case": ["a", "b"], "mean_uncertainty": [0.1, 0.2], "dice": [0.9, 0.8]})
    maps = maps.assign(**{f"{crop}_{quality}": 0.5 for crop in CROPS for quality in QUALITIES})
    summary = summarise_uncertainty(Scores(pd.DataFrame(), maps, pd.DataFrame(), bins()), ["model"]).set_index("model")
    assert summary["maps"].to_dict() == {"n": 2, "m": 0}
    assert summary["probabilities"].to_dict() == {"n": 0, "m": 2}
    alone = summarise_uncertainty(Scores(pd.DataFrame(), maps, pd.DataFrame(), pd.DataFrame()), ["model"])
    assert alone["probabilities"].tolist() == [0]
