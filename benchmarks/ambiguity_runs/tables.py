"""The tables of ambiguity.py: means over cases, then means and standard deviations over seeds, and the verdict."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ambiguity_runs.runs import SEED
from machine import machine
from nnunetv2_diffusion.demo.rater_scores import FREQUENCY, METHOD, SAMPLES, summarise
from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.phantoms.raters import SHARES

GED_TARGET, FREQUENCY_TARGET = 1 / 3, 0.1
COLUMNS = {
    "ged": "GED",
    "ged_unbiased": "GED, unbiased",
    "matched_iou": "matched IoU",
    "diversity": "diversity",
    **{f"{FREQUENCY}{option}": f"{option.replace('_', ' ')} ({share:g})" for option, share in SHARES.items()},
    "largest_error": "largest error of a frequency",
}
NOTES = (
    "GED: generalised energy distance to the known distribution of the eight masks, 0 is perfect, of distances 1 - IoU "
    "(mean over structures); all pairs of masks counted. Unbiased: of methods that draw, over pairs of two different "
    "masks; a mask, the four mirrorings and the folds are all that their method gives, so theirs is the plain one. "
    "Diversity: mean distance of two different masks; two raters' is {true_diversity:.3f}. Frequencies: the share over "
    "samples and cases that count the endplates, the bulge, the epidural fat in, that is, that label more than half of "
    "the area between the two outlines; in brackets the known one. An image counts for an option where the area has at "
    "least 5 pixels. The samples of all cases of a seed start from the same noises, so they are fewer than they seem."
)


def by_seed(cases: pd.DataFrame) -> pd.DataFrame:
    """A row a seed and method, see `rater_scores.summarise`."""
    tables = [summarise(rows.drop(columns=SEED)).assign(**{SEED: seed}) for seed, rows in cases.groupby(SEED)]
    return pd.concat(tables, ignore_index=True)


def verdict(table: pd.DataFrame) -> str:
    """Whether the means over seeds reach the targets.

    Args:
        table: as `by_seed` gives it.
    """
    means = table.groupby(METHOD, sort=False)[list(COLUMNS)].mean()
    rivals = means["ged"].drop(SAMPLES)
    ratio = means.loc[SAMPLES, "ged"] / rivals.min()
    errors = [abs(means.loc[SAMPLES, f"{FREQUENCY}{option}"] - share) for option, share in SHARES.items()]
    reached = {True: "reached", False: "missed"}
    return (
        f"GED of the samples: {ratio:.2f} of that of the best rival ({rivals.idxmin()}); target at most "
        f"{GED_TARGET:.2f}, {reached[bool(ratio <= GED_TARGET)]}. Largest error of a frequency, means over seeds: "
        f"{max(errors):.2f}; target at most {FREQUENCY_TARGET:g}, {reached[max(errors) <= FREQUENCY_TARGET]}."
    )


def write_ambiguity(
    cases: pd.DataFrame, trained: pd.DataFrame, folder: Path, *, device: str, about: str, command: str
) -> str:
    """Write ambiguity.csv, a row a seed and method, and ambiguity.md; returns the markdown.

    Args:
        cases, trained: as `runs.measure_seeds` gives them.
        folder: where to write.
        device: what it ran on.
        about: the runs in words.
        command: that gave them.
    """
    table, ran = by_seed(cases), machine(device)
    write_csv(table.assign(**ran, command=command), folder / "ambiguity.csv")
    lines = [["method", *COLUMNS.values()], ["---"] * (1 + len(COLUMNS))]
    for method, rows in table.groupby(METHOD, sort=False):
        lines.append([str(method), *(_cell(rows[name]) for name in COLUMNS)])
    shares = ", ".join(f"{option.replace('_', ' ')} {trained[option].mean():.2f}" for option in SHARES)
    parts = [
        "# Do the samples have the raters' distribution?",
        f"    {command}",
        f"{about}; {ran['machine']}; {ran['date']}. Means over seeds ± standard deviation.",
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
        verdict(table),
        f"The raters of the training patients counted in: {shares}.",
        NOTES.format(true_diversity=table["true_diversity"].mean()),
    ]
    text = "\n\n".join(parts) + "\n"
    write_text(text, folder / "ambiguity.md")
    return text


def _cell(values: pd.Series) -> str:
    return f"{values.mean():.3f}" if len(values) == 1 else f"{values.mean():.3f} ± {values.std():.3f}"
