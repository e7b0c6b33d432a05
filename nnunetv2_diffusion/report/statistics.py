"""Section 4.2's statistics: patients with and without a pathology (Welch), models against each other (Wilcoxon).

All tests come from scipy, the effect size of two groups from statsmodels, the Benjamini-Hochberg correction from scipy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, ttest_ind, wilcoxon
from statsmodels.stats.meta_analysis import effectsize_smd

from nnunetv2_diffusion.report.gradings import TESTED, check_patients
from nnunetv2_diffusion.scoring.raters import mean_over_raters
from nnunetv2_diffusion.scoring.tables import MEAN, TRAINING, with_mean

ALPHA = 0.05
MIN_GROUP = 5


def adjust(p_values: pd.Series) -> pd.Series:
    """Benjamini-Hochberg adjusted p-values over all that were tested; NaN stays NaN and does not count."""
    adjusted = pd.Series(np.nan, index=p_values.index)
    tested = p_values.notna()
    if tested.any():
        adjusted[tested] = false_discovery_control(p_values[tested], method="bh")
    return adjusted


def patient_means(structures: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice a patient, training and structure: T1w and T2w of one patient are no independent observations."""
    keys = [*TRAINING, "patient", "structure"]
    return structures.groupby(keys, sort=False)["dice"].mean().dropna().reset_index()


def welch(with_it: np.ndarray, without: np.ndarray, min_group: int = MIN_GROUP) -> dict[str, float | str]:
    """Welch's t-test of two groups of Dice, with the 95 % confidence interval of their difference.

    Returns:
        n_with, n_without, mean_with, mean_without, std_with, std_without, difference (with minus without), ci_low,
        ci_high, t, degrees_of_freedom, p, hedges_g (standardised difference, corrected for small groups), and remark:
        why there is no test, or empty. Untested values are NaN.
    """
    row: dict[str, float | str] = {}
    for name, values in (("with", with_it), ("without", without)):
        row[f"n_{name}"] = len(values)
        row[f"mean_{name}"] = float(np.mean(values)) if len(values) else float("nan")
        row[f"std_{name}"] = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    row["difference"] = row["mean_with"] - row["mean_without"]
    row |= dict.fromkeys(("ci_low", "ci_high", "t", "degrees_of_freedom", "p", "hedges_g"), float("nan"))
    if min(len(with_it), len(without)) < max(min_group, 2):
        return row | {"remark": f"a group has fewer than {max(min_group, 2)} patients: not tested"}
    if np.ptp(with_it) == 0 and np.ptp(without) == 0:
        return row | {"remark": "no variation in either group: not tested"}
    result = ttest_ind(with_it, without, equal_var=False)
    interval = result.confidence_interval(1 - ALPHA)
    effect, _ = effectsize_smd(
        row["mean_with"], row["std_with"], len(with_it), row["mean_without"], row["std_without"], len(without)
    )
    return row | {
        "ci_low": float(interval.low),
        "ci_high": float(interval.high),
        "t": float(result.statistic),
        "degrees_of_freedom": float(result.df),
        "p": float(result.pvalue),
        "hedges_g": float(effect),
        "remark": "",
    }


def pathology_tests(structures: pd.DataFrame, flags: pd.DataFrame, min_group: int = MIN_GROUP) -> pd.DataFrame:
    """Dice of patients with against those without each pathology, per training and structure.

    Args:
        structures: as in `Scores`, with the training columns and patient.
        flags: `gradings.patient_flags`.
        min_group: fewer patients in a group are not tested.

    Returns:
        a row a training, pathology and structure: `welch`'s columns, p_adjusted (Benjamini-Hochberg over all tests of
        the training, so that a training's result does not depend on which others exist) and significant.

    Raises:
        ValueError: a patient was not graded.
    """
    means = patient_means(structures)
    check_patients(means["patient"], flags)
    rows = []
    for training, frame in means.groupby(TRAINING, sort=False):
        for pathology, structure in itertools.product(TESTED, frame["structure"].unique()):
            values = frame[frame["structure"] == structure]
            affected = flags[pathology].loc[values["patient"]].to_numpy()
            tested = welch(values["dice"][affected].to_numpy(), values["dice"][~affected].to_numpy(), min_group)
            about = dict(zip(TRAINING, training, strict=True))
            rows.append({**about, "pathology": pathology, "structure": structure, **tested})
    return _with_correction(pd.DataFrame(rows), TRAINING)


def paired_tests(structures: pd.DataFrame, min_cases: int = MIN_GROUP) -> pd.DataFrame:
    """Wilcoxon's signed-rank test between any two trainings, over the cases that both have scored.

    An image that several raters segmented counts once, by the mean over its cases `<image>__<rater>`.

    Trainings on different datasets are compared where they share cases, that is, cases of one name with references of
    one size: T1w against T1w + T2w on the T1w scans, for example.

    Returns:
        a row a pair and structure (and "mean"): dataset, modality and model of both, the second with "other_" in front;
        cases, mean_difference and median_difference (first minus other), rank_biserial (1: the first is better in every
        case, -1: in none), p, p_adjusted (Benjamini-Hochberg over all pairs and structures of the two datasets),
        significant and remark.
    """
    structures = mean_over_raters(structures)
    dice = with_mean(structures).set_index(["dataset", "model", "case", "structure"])["dice"]
    names = [*dict.fromkeys(structures["structure"]), MEAN]
    wide = {key: part.droplevel([0, 1]).unstack() for key, part in dice.groupby(level=["dataset", "model"], sort=False)}
    sizes = structures.pivot_table(index="case", columns=["dataset", "structure"], values="reference_voxels")
    about = structures.drop_duplicates(["dataset", "model"])[TRAINING].to_dict("records")
    rows = []
    for first, other in itertools.combinations(about, 2):
        if first["dataset"] > other["dataset"]:
            first, other = other, first
        shared = _shared_cases(sizes, first["dataset"], other["dataset"])
        tables = [wide[one["dataset"], one["model"]].reindex(index=shared, columns=names) for one in (first, other)]
        differences = (tables[0] - tables[1]).dropna(how="all", axis=0).dropna(how="all", axis=1)
        if first["dataset"] != other["dataset"] and len(differences) < min_cases:
            continue
        pair = {**first, **{f"other_{name}": value for name, value in other.items()}}
        for structure in differences.columns:
            compared = compare_pairs(differences[structure].dropna().to_numpy(), min_cases)
            rows.append({**pair, "structure": structure, **compared})
    return _with_correction(pd.DataFrame(rows), ["dataset", "other_dataset"]) if rows else pd.DataFrame()


def _shared_cases(sizes: pd.DataFrame, first: str, other: str) -> pd.Index:
    """The cases that two datasets have in common: of one name, with references of one size in every structure."""
    tables = [sizes[name].dropna(how="all") for name in (first, other)]
    common = tables[0].index.intersection(tables[1].index)
    left, right = (table.loc[common].fillna(0).sort_index(axis=1) for table in tables)
    return common[(left == right).all(axis=1)] if list(left.columns) == list(right.columns) else common[:0]


def compare_pairs(differences: np.ndarray, min_cases: int = MIN_GROUP) -> dict[str, float | str]:
    """Wilcoxon's signed-rank test of paired differences, as `paired_tests` reports it."""
    differences = np.asarray(differences, dtype=np.float64)
    row: dict[str, float | str] = {
        "cases": len(differences),
        "mean_difference": float(differences.mean()) if len(differences) else float("nan"),
        "median_difference": float(np.median(differences)) if len(differences) else float("nan"),
        "rank_biserial": float("nan"),
        "p": float("nan"),
    }
    changed = np.count_nonzero(differences)
    if len(differences) < min_cases:
        return row | {"remark": f"fewer than {min_cases} common cases: not tested"}
    if not changed:
        return row | {"remark": "equal in every case: not tested"}
    ranks_won = wilcoxon(differences, alternative="greater").statistic
    return row | {
        "rank_biserial": float(2 * ranks_won / (changed * (changed + 1) / 2) - 1),
        "p": float(wilcoxon(differences).pvalue),
        "remark": "",
    }


def _with_correction(table: pd.DataFrame, family: Sequence[str]) -> pd.DataFrame:
    """`table` with p_adjusted over each family of tests, and significant; remark stays last."""
    table["p_adjusted"] = table.groupby(list(family), sort=False)["p"].transform(adjust)
    table["significant"] = table["p_adjusted"] < ALPHA
    return table[[column for column in table.columns if column != "remark"] + ["remark"]]
