"""The csv and the markdown table of a comparison, and whether the targets were met."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from comparison.measuring import Measured
from comparison.models import IISDM, NNUNET, PRESEG, SPINESEGDIFF
from comparison.probe import THIRDS
from machine import machine
from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.scoring.labels import display_name

MEAN = "mean"
DICE_MARGIN, TIME_RATIO = 0.005, 0.2
DASH = "-"


def summarise(results: Sequence[Measured]) -> pd.DataFrame:
    """A row for each model and structure, and one, "mean", over structures: Dice over cases, then the model's facts.

    A case's mean is over the structures that it has a score for. Pre-segmentation models have nnU-Net's own seconds
    and evaluations a slice in columns of their own (`pre_segmentation_...`).
    """
    baseline = next((result.facts for result in results if result.model.kind == NNUNET), {})
    rows = []
    for result in results:
        model, facts = result.model, dict(result.facts)
        if model.kind == PRESEG:
            for name in ("seconds_per_slice", "network_evaluations_per_slice"):
                facts[f"pre_segmentation_{name}"] = baseline[name]
        scores = result.dice.dropna(subset="dice")
        of_structures = {name: group["dice"] for name, group in scores.groupby("structure", sort=False)}
        for structure, values in {**of_structures, MEAN: scores.groupby("case")["dice"].mean()}.items():
            about = {"model": model.name, "trainer": model.trainer, "configuration": model.configuration}
            about |= {"structure": structure, "cases": len(values), "dice_mean": values.mean()}
            rows.append({**about, "dice_std": values.std(ddof=1), **facts})
    return pd.DataFrame(rows)


def write_tables(
    results: Sequence[Measured], folder: Path, stem: str, device: str, command: str, notes: Sequence[str]
) -> str:
    """Write `<stem>.csv` and `<stem>.md` into `folder`; returns the markdown."""
    summary, about = summarise(results), machine(device)
    write_csv(summary.assign(**about, command=command), folder / f"{stem}.csv")
    parts = [
        f"# {stem}",
        f"    {command}",
        f"Measured on {about['machine']}; {about['date']}.",
        markdown_table(summary),
        _legend(results),
        *notes,
        "## Targets",
        "\n".join(f"- {line}" for line in verdicts(results, summary)),
    ]
    text = "\n\n".join(parts) + "\n"
    write_text(text, folder / f"{stem}.md")
    return text


def markdown_table(summary: pd.DataFrame) -> str:
    """A line a model: Dice of each structure, then cost, then what the probe says."""
    structures = list(dict.fromkeys(summary["structure"]))
    header = ["model", *(f"{display_name(name)}: Dice" for name in structures), "steps x batch", "s per training step"]
    header += ["s per slice", "evaluations per slice", "variance over samples (noise alone)"]
    header.append(f"% of pixels changed without x_t ({', '.join(THIRDS)})")
    lines = [header, ["---"] * len(header)]
    for name, rows in summary.groupby("model", sort=False):
        scores = rows.set_index("structure")
        facts = rows.iloc[0]
        lines.append([str(name), *(_dice(scores, structure) for structure in structures), *_facts(facts)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _dice(scores: pd.DataFrame, structure: str) -> str:
    if structure not in scores.index:
        return DASH
    return f"{scores.loc[structure, 'dice_mean']:.3f} ± {scores.loc[structure, 'dice_std']:.3f}"


def _facts(facts: pd.Series) -> list[str]:
    seconds, evaluations = (total(facts, name) for name in ("seconds_per_slice", "network_evaluations_per_slice"))
    cells = [f"{facts['optimiser_steps']:.0f} x {facts['batch_size']:.0f}"]
    cells += [f"{facts['training_seconds_per_step']:.2f}", f"{seconds:.3f}", f"{evaluations:.0f}"]
    if pd.isna(facts.get("sample_variance")):
        return [*cells, DASH, DASH]
    cells.append(f"{facts['sample_variance']:.1e} ({facts['sample_variance_unmirrored']:.1e})")
    return [*cells, ", ".join(f"{100 * facts[f'changed_pixels_{third}']:.2f}" for third in THIRDS)]


def total(facts: pd.Series, name: str) -> float:
    """A model's seconds or evaluations a slice with those of the pre-segmentation that it needs."""
    before = facts.get(f"pre_segmentation_{name}")
    return float(facts[name]) + (0.0 if before is None or pd.isna(before) else float(before))


def _legend(results: Sequence[Measured]) -> str:
    sampled = [
        f"{result.model.name} {facts['samples']} samples of {facts['sampling_steps']} steps (T = {facts['timesteps']})"
        for result in results
        if "samples" in (facts := result.facts)
    ]
    lines = [
        "Dice is that of held-out cases, mean ± standard deviation over cases. A slice's seconds and evaluations after "
        "pre-segmentation include nnU-Net's own. Training steps are timed with nnU-Net's loading and augmentation.",
    ]
    if len({result.facts["optimiser_steps"] for result in results}) > 1:
        lines.append("The trainings are not of equal length: see steps x batch.")
    if sampled:
        probed = max(result.facts.get("probed_slices", 0) for result in results)
        lines.append(
            "Variance over samples is that of the foreground's probability at the final step, mean over pixels; in "
            "brackets without the mirroring that SpineSegDiff gives each sample, when noise alone tells them apart. "
            "Pixels changed: the share whose label changes when the denoiser gets noise of x_t's mean and standard "
            "deviation in place of x_t, which is the true mask (after pre-segmentation: nnU-Net's) noised; early is "
            "the noisiest third of the timesteps, first in sampling. The csv also has the share among foreground "
            f"pixels. Measured on {probed:.0f} held-out slices a fold. "
            f"Sampling: {'; '.join(sampled)}."
        )
    return "\n\n".join(lines)


def verdicts(results: Sequence[Measured], summary: pd.DataFrame) -> list[str]:
    """Each target, met or missed, with its figures; and SpineSegDiff beside nnU-Net on every structure."""
    by_kind = {kind: [r for r in results if r.model.kind == kind] for kind in (NNUNET, IISDM, SPINESEGDIFF, PRESEG)}
    means = summary[summary["structure"] == MEAN].set_index("model")
    stages = sorted(by_kind[PRESEG], key=lambda result: result.model.timesteps)
    lines = []
    if not stages:
        lines.append("Pre-segmentation was not run.")
    else:
        short, baseline = means.loc[stages[0].model.name], means.loc[by_kind[NNUNET][0].model.name]
        lines.append(_no_worse(short, baseline))
        if len(stages) == 1:
            lines.append("Not judged: a longer T was not run (--timesteps).")
        else:
            longest = means.loc[stages[-1].model.name]
            lines += [_no_worse(short, longest), _faster(short, longest)]
    if by_kind[SPINESEGDIFF] and by_kind[NNUNET]:
        lines += _paired(by_kind[SPINESEGDIFF][0], by_kind[NNUNET][0])
    return lines


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


def _paired(ours: Measured, theirs: Measured) -> list[str]:
    """Case by case, on each structure."""
    pairs = ours.dice.merge(theirs.dice, on=["case", "structure"], suffixes=("_ours", "_theirs")).dropna()
    lines = []
    for structure, rows in pairs.groupby("structure", sort=False):
        difference = rows["dice_ours"] - rows["dice_theirs"]
        word = "better" if difference.mean() > 0 else "not better"
        lines.append(
            f"{ours.model.name} is {word} than {theirs.model.name} on {display_name(str(structure)).lower()}: mean "
            f"difference {difference.mean():+.4f} ± {difference.std(ddof=1):.4f}, better in {(difference > 0).sum()} "
            f"of {len(difference)} cases."
        )
    return lines
