"""Each target of a comparison, met or missed, with its figures."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from comparison.differences import MEAN
from comparison.measuring import Measured
from comparison.models import CONTROL, KINDS, NNUNET, PRESEG, SPINESEGDIFF
from nnunetv2_diffusion.scoring.labels import display_name

DICE_MARGIN, TIME_RATIO = 0.005, 0.2


def verdicts(results: Sequence[Measured], summary: pd.DataFrame) -> list[str]:
    """Each target, met or missed, with its figures: the stages against nnU-Net, SpineSegDiff against the control."""
    models = {result.model.name: result.model for result in results}
    of_kind = {kind: [name for name, model in models.items() if model.kind == kind] for kind in KINDS}
    means = summary[summary["structure"] == MEAN].set_index("model")
    stages = sorted(of_kind[PRESEG], key=lambda name: models[name].timesteps)
    lines = []
    if not stages:
        lines.append("Pre-segmentation was not run.")
    else:
        short, baseline = means.loc[stages[0]], means.loc[of_kind[NNUNET][0]]
        lines.append(_no_worse(short, baseline))
        if len(stages) == 1:
            lines.append("Not judged: a longer T was not run (--timesteps).")
        else:
            lines += [_no_worse(short, means.loc[stages[-1]]), _faster(short, means.loc[stages[-1]])]
    if not of_kind[CONTROL]:
        return [*lines, "SpineSegDiff is not judged: the control was not run."]
    for name in of_kind[SPINESEGDIFF]:
        lines += _against_control(summary, name, of_kind[CONTROL][0])
    return lines


def _against_control(summary: pd.DataFrame, name: str, control: str) -> list[str]:
    """Dice of every structure and its interval, then map and probabilities: at least as good as the control's."""
    rows = summary.set_index(["model", "structure"])
    lines = []
    structures = list(summary[summary["model"] == name]["structure"])
    for structure in structures if len(structures) > 2 else [MEAN]:
        row = rows.loc[(name, structure)]
        verdict = "met" if row["difference"] >= 0 else "MISSED"
        lines.append(
            f"{verdict}: {name}, {display_name(str(structure)).lower()}: Dice {row['difference']:+.4f} against the "
            f"control's (95 % interval {row['difference_low']:+.4f} to {row['difference_high']:+.4f}, {row['cases']} "
            f"patients, {row['seeds']} seeds)."
        )
    ours, theirs = rows.loc[(name, MEAN)], rows.loc[(control, MEAN)]
    measures = (("auroc", "AUROC", 1), ("aurc", "area under risk-coverage", -1), ("ece", "calibration error", -1))
    judged = [
        f"{words} {ours[column]:.4f} against {theirs[column]:.4f} "
        f"({'met' if sign * (ours[column] - theirs[column]) >= 0 else 'MISSED'})"
        for column, words, sign in measures
    ]
    return [*lines, f"{name}: {', '.join(judged)}."]


def _no_worse(row: pd.Series, than: pd.Series) -> str:
    difference = row["dice_mean"] - than["dice_mean"]
    verdict = "met" if difference >= -DICE_MARGIN else "MISSED"
    return (
        f"{verdict}: {row.name} has a mean Dice of {row['dice_mean']:.4f}, {than.name} of {than['dice_mean']:.4f} "
        f"(difference {difference:+.4f}, at least {-DICE_MARGIN} wanted)."
    )


def _faster(row: pd.Series, than: pd.Series) -> str:
    """Judged by the stage's own seconds; those with nnU-Net's before it are told as well."""
    ratio = row["seconds_per_slice"] / than["seconds_per_slice"]
    whole = total(row, "seconds_per_slice") / total(than, "seconds_per_slice")
    verdict = "met" if ratio < TIME_RATIO else "MISSED"
    return (
        f"{verdict}: a slice takes {row.name} with {row['sampling_steps']:.0f} steps {row['seconds_per_slice']:.3f} s, "
        f"{than.name} with {than['sampling_steps']:.0f} steps {than['seconds_per_slice']:.3f} s (ratio {ratio:.3f}, "
        f"less than {TIME_RATIO} wanted; {whole:.3f} with nnU-Net's own seconds before both)."
    )


def total(facts: pd.Series, name: str) -> float:
    """A model's seconds or evaluations a slice with those of the pre-segmentation that it needs."""
    before = facts.get(f"pre_segmentation_{name}")
    return float(facts[name]) + (0.0 if before is None or pd.isna(before) else float(before))
