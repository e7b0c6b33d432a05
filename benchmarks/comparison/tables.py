"""The csv and the markdown table of a comparison, and whether the targets were met."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from comparison.differences import DECISIONS, MEAN, difference, spread
from comparison.measuring import Measured
from comparison.models import CONTROL, NNUNET, PRESEG
from comparison.probe import THIRDS
from comparison.targets import total, verdicts
from machine import machine
from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.scoring.calibration import expected_calibration_error
from nnunetv2_diffusion.scoring.labels import display_name

DASH = "-"


def summarise(results: Sequence[Measured]) -> pd.DataFrame:
    """A row for each model and structure, and one, "mean", over structures.

    Dice, with the argmax and with the mask of greatest expected Dice: mean and standard deviation over cases, each the
    mean of its seeds; `dice_seeds` the standard deviation over seeds of the mean over cases. A case's mean is over the
    structures that it has a score for. Then the difference from the control, the quality of map and probabilities, and
    the model's facts. Pre-segmentation models have nnU-Net's own seconds and evaluations a slice in columns of their
    own (`pre_segmentation_...`).
    """
    baseline = next((result.facts for result in results if result.model.kind == NNUNET), {})
    control = next((result.model.name for result in results if result.model.kind == CONTROL), None)
    scores = case_scores(results)
    rows = []
    for name in dict.fromkeys(result.model.name for result in results):
        of_model = [result for result in results if result.model.name == name]
        model, facts = of_model[0].model, mean_facts(of_model)
        if model.kind == PRESEG:
            for fact in ("seconds_per_slice", "network_evaluations_per_slice"):
                facts[f"pre_segmentation_{fact}"] = baseline[fact]
        for structure, values in scores[scores["model"] == name].groupby("structure", sort=False):
            about = {"model": name, "trainer": model.trainer, "configuration": model.configuration}
            row = {**about, "structure": structure, "seeds": len(of_model), **spread(values)}
            if control not in (None, name):
                row |= difference(scores, name, control, str(structure))
            rows.append({**row, **facts})
    return pd.DataFrame(rows)


def case_scores(results: Sequence[Measured]) -> pd.DataFrame:
    """model, seed, case, structure ("mean" among them), dice, dice_expected; cases without a score left out."""
    frames = []
    for result in results:
        kept = result.dice.dropna(subset="dice")
        mean = kept.groupby("case", sort=False)[list(DECISIONS)].mean().reset_index().assign(structure=MEAN)
        frames.append(pd.concat([kept, mean]).assign(model=result.model.name, seed=result.seed))
    return pd.concat(frames, ignore_index=True)


def mean_facts(results: Sequence[Measured]) -> dict[str, Any]:
    """Facts, quality of the map and calibration error of one model, mean over seeds."""
    facts = pd.DataFrame([{**result.facts, **map_quality(result)} for result in results])
    return {name: values.mean() if values.dtype == float else values.iloc[0] for name, values in facts.items()}


def map_quality(result: Measured) -> dict[str, float]:
    """auroc and aurc, means over cases, and ece over all cases' pixels together."""
    bins = result.bins.groupby("bin").sum(numeric_only=True)
    means = result.quality[["auroc", "aurc"]].mean()
    return {"auroc": means["auroc"], "aurc": means["aurc"], "ece": expected_calibration_error(bins)}


def write_tables(
    results: Sequence[Measured], folder: Path, stem: str, device: str, command: str, notes: Sequence[str]
) -> str:
    """Write `<stem>.csv` and `<stem>.md` into `folder`; returns the markdown."""
    summary, about = summarise(results), machine(device)
    write_csv(summary.assign(**about, command=command), folder / f"{stem}.csv")
    write_csv(case_scores(results), folder / f"{stem}_cases.csv")
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
    header = ["model", *(f"{display_name(name)}: Dice" for name in structures), "mean Dice, decided by expected Dice"]
    header += ["mean Dice - the control's (95 % interval)", "standard deviation over seeds"]
    header += ["error-detection AUROC", "area under risk-coverage", "calibration error"]
    header += ["steps x batch", "s per training step", "s per slice", "evaluations per slice"]
    header.append("variance over samples (noise alone)")
    header.append(f"% of pixels changed without x_t ({', '.join(THIRDS)})")
    lines = [header, ["---"] * len(header)]
    for name, rows in summary.groupby("model", sort=False):
        scores = rows.set_index("structure")
        cells = [str(name), *(_dice(scores, structure) for structure in structures), *_decided(scores.loc[MEAN])]
        lines.append([*cells, *_facts(rows.iloc[0])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _decided(mean: pd.Series) -> list[str]:
    cells = [f"{mean['dice_expected_mean']:.3f}", DASH, DASH]
    if not pd.isna(mean.get("difference")):
        cells[1] = f"{mean['difference']:+.4f} ({mean['difference_low']:+.4f} to {mean['difference_high']:+.4f})"
    if mean["seeds"] > 1:
        cells[2] = f"{mean['dice_seeds']:.4f}"
    return cells


def _dice(scores: pd.DataFrame, structure: str) -> str:
    if structure not in scores.index:
        return DASH
    return f"{scores.loc[structure, 'dice_mean']:.3f} ± {scores.loc[structure, 'dice_std']:.3f}"


def _facts(facts: pd.Series) -> list[str]:
    seconds, evaluations = (total(facts, name) for name in ("seconds_per_slice", "network_evaluations_per_slice"))
    cells = [f"{facts['auroc']:.3f}", f"{facts['aurc']:.4f}", f"{facts['ece']:.3f}"]
    cells += [f"{facts['optimiser_steps']:.0f} x {facts['batch_size']:.0f}"]
    cells += [f"{facts['training_seconds_per_step']:.2f}", f"{seconds:.3f}", f"{evaluations:.0f}"]
    if pd.isna(facts.get("sample_variance")):
        return [*cells, DASH, DASH]
    cells.append(f"{facts['sample_variance']:.1e} ({facts['sample_variance_unmirrored']:.1e})")
    return [*cells, ", ".join(f"{100 * facts[f'changed_pixels_{third}']:.2f}" for third in THIRDS)]


def _legend(results: Sequence[Measured]) -> str:
    sampled = [
        f"{result.model.name} {facts['samples']} samples of {facts['sampling_steps']} steps (T = {facts['timesteps']})"
        for result in {result.model.name: result for result in results}.values()
        if "samples" in (facts := result.facts)
    ]
    lines = [
        "Dice is that of held-out cases, mean ± standard deviation over cases, each one patient and the mean of its "
        "seeds. Decided by expected Dice: masks from the same probabilities. The difference from the control is paired "
        "case by case; its interval is a bootstrap over patients (BCa, 10,000 draws). AUROC, risk-coverage and the "
        "calibration error (15 bins, of the winning label) are those of the argmax, in the reference's box and 10 "
        "pixels around it. A slice's seconds and evaluations after pre-segmentation include nnU-Net's own. Training "
        "steps are timed with nnU-Net's loading and augmentation.",
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
