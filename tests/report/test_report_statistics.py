"""Welch's test, Benjamini and Hochberg's correction and Wilcoxon's test against worked examples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nnunetv2_diffusion.report.gradings import TESTED
from nnunetv2_diffusion.report.statistics import adjust, compare_pairs, paired_tests, pathology_tests, welch
from nnunetv2_diffusion.scoring.tables import TRAINING, summarise_structures

# A textbook pair of samples of unequal variance: t = -2.46, 25.0 degrees of freedom, p = 0.021.
FIRST = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
SECOND = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4]


def test_welch_worked_example():
    row = welch(np.array(FIRST), np.array(SECOND))
    assert row["t"] == pytest.approx(-2.46, abs=0.005)
    assert row["degrees_of_freedom"] == pytest.approx(25.0, abs=0.05)
    assert row["p"] == pytest.approx(0.021, abs=0.0005)
    assert row["difference"] == pytest.approx(np.mean(FIRST) - np.mean(SECOND))
    assert row["ci_low"] < row["difference"] < row["ci_high"] < 0


def test_welch_by_its_formula():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.9, 0.02, 40), rng.normal(0.91, 0.05, 12)
    va, vb = a.var(ddof=1) / 40, b.var(ddof=1) / 12
    row = welch(a, b)
    assert row["t"] == pytest.approx((a.mean() - b.mean()) / np.sqrt(va + vb))
    assert row["degrees_of_freedom"] == pytest.approx((va + vb) ** 2 / (va**2 / 39 + vb**2 / 11))
    pooled = np.sqrt((39 * a.var(ddof=1) + 11 * b.var(ddof=1)) / 50)
    assert row["hedges_g"] == pytest.approx((a.mean() - b.mean()) / pooled * (1 - 3 / (4 * 50 - 1)), rel=1e-3)


def test_small_and_constant_groups_are_not_tested():
    row = welch(np.array([0.9, 0.8, 0.7]), np.array(FIRST))
    assert (
        np.isnan(row["p"]) and row["remark"] == "a group has fewer than 5 patients: not tested" and row["n_with"] == 3
    )
    assert "no variation" in welch(np.ones(6), np.ones(6))["remark"]
    assert np.isnan(welch(np.array([]), np.array(FIRST))["mean_with"])


def test_benjamini_hochberg_worked_example():
    """The fifteen p-values of Benjamini and Hochberg (1995), of which the first four are significant at 0.05."""
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528]
    p_values += [0.7590, 1.0]
    adjusted = adjust(pd.Series(p_values))
    assert (adjusted < 0.05).tolist() == [True] * 4 + [False] * 11
    assert adjusted.iloc[:4].tolist() == pytest.approx([0.0015, 0.003, 0.0095, 0.0095 * 15 / 4])
    with_gap = adjust(pd.Series([p_values[0], np.nan, *p_values[1:]]))
    assert np.isnan(with_gap[1]) and with_gap.dropna().tolist() == pytest.approx(adjusted.tolist())


def test_wilcoxon_worked_examples():
    """Six differences: all positive gives 2 of 64 sign patterns; only the smallest negative gives 4 of 64."""
    won = compare_pairs(np.array([1, 2, 3, 4, 5, 6]) / 100)
    assert won["p"] == pytest.approx(2 / 64) and won["rank_biserial"] == 1
    mixed = compare_pairs(np.array([-1, 2, 3, 4, 5, 6]) / 100)
    assert mixed["p"] == pytest.approx(4 / 64) and mixed["rank_biserial"] == pytest.approx((20 - 1) / 21)
    assert compare_pairs(np.zeros(8))["remark"] == "equal in every case: not tested"
    assert "fewer than 5" in compare_pairs(np.ones(4))["remark"]


def scored(
    model: str, dice: dict[str, float], patients: list[str] | None = None, dataset: str = "both"
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset": dataset,
            "modality": dataset,
            "model": model,
            "case": list(dice),
            "patient": patients or list(dice),
            "structure": "discs",
            "dice": list(dice.values()),
            "hd95": 1.0,
            "assd": 1.0,
            "reference_voxels": 1,
            "predicted_voxels": 1,
        }
    )


def test_patients_count_once_and_are_grouped_by_their_gradings():
    """Twelve patients with two scans each; the eight affected ones score 0.1 less."""
    rng = np.random.default_rng(5)
    means = {str(patient): 0.9 - 0.1 * (patient < 8) + rng.normal(0, 0.01) for patient in range(12)}
    dice = {f"{p}_{c}": mean + sign * 0.05 for p, mean in means.items() for c, sign in (("t1", 1), ("t2", -1))}
    table = scored("SpineSegDiff", dice, [case.split("_")[0] for case in dice])
    flags = pd.DataFrame(False, index=list(means), columns=list(TESTED))
    flags.loc[[str(p) for p in range(8)], "Disc narrowing"] = True
    tests = pathology_tests(table, flags, min_group=4).set_index("pathology")
    row = tests.loc["Disc narrowing"]
    assert (row["n_with"], row["n_without"]) == (8, 4)
    values = np.array(list(means.values()))
    assert row["mean_with"] == pytest.approx(values[:8].mean())
    assert row["significant"] and row["p_adjusted"] == row["p"]
    assert tests["p"].notna().sum() == 1, "a pathology that nobody has cannot be tested"
    with pytest.raises(ValueError, match="the gradings do not hold patient 0"):
        pathology_tests(table, flags.drop(index="0"))


def test_models_are_compared_over_their_common_cases():
    first = scored("SpineSegDiff", {f"c{i}": 0.9 + 0.001 * i for i in range(8)})
    second = scored("nnU-Net", {f"c{i}": 0.9 - 0.001 * i for i in range(1, 9)})
    tests = paired_tests(pd.concat([first, second], ignore_index=True)).set_index("structure")
    assert tests.loc["discs", "cases"] == 7
    assert tests.loc["discs", "mean_difference"] == pytest.approx(0.002 * np.arange(1, 8).mean())
    assert tests.loc["discs", "p"] == pytest.approx(2 / 128)
    assert tests.loc["mean", "p_adjusted"] == pytest.approx(2 / 128)


def test_trainings_on_different_datasets_are_compared_over_the_same_scans():
    """Ten scans here, eight of them there too, of which one has another reference: seven are compared."""
    one = scored("SpineSegDiff", {f"c{i}": 0.9 for i in range(10)}, dataset="T1w")
    both = scored("SpineSegDiff", {f"c{i}": 0.9 - 0.001 * i for i in range(2, 14)}, dataset="T1w + T2w")
    both.loc[both["case"] == "c5", "reference_voxels"] = 2
    elsewhere = scored("SpineSegDiff", {f"x{i}": 0.9 for i in range(9)}, dataset="T2w")
    tests = paired_tests(pd.concat([both, one, elsewhere], ignore_index=True)).set_index("structure")
    row = tests.loc["discs"]
    assert (row["dataset"], row["other_dataset"], row["cases"]) == ("T1w", "T1w + T2w", 7)
    assert row["mean_difference"] == pytest.approx(0.001 * np.mean([2, 3, 4, 6, 7, 8, 9]))
    assert len(tests) == 2, "T2w shares no scan with the others"


def test_raters_of_one_image_count_once():
    """Eight images of three raters each are eight pairs, each the mean over its raters."""
    first = scored("SpineSegDiff", {f"c{i}__r{r}": 0.9 + 0.001 * i + 0.01 * r for i in range(8) for r in range(3)})
    second = scored("nnU-Net", {f"c{i}__r{r}": 0.9 - 0.001 * i for i in range(8) for r in range(3)})
    row = paired_tests(pd.concat([first, second], ignore_index=True)).set_index("structure").loc["discs"]
    assert row["cases"] == 8
    assert row["mean_difference"] == pytest.approx(0.002 * np.arange(8).mean() + 0.01)
    summary = summarise_structures(first, TRAINING).set_index("structure").loc["discs"]
    values = 0.91 + 0.001 * np.arange(8)
    assert (summary["cases"], summary["scored"]) == (8, 8)
    assert summary["dice_mean"] == pytest.approx(values.mean())
    assert summary["dice_std"] == pytest.approx(values.std(ddof=1))
