"""The table and the figure of a sweep over sampling settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from comparison.sweep import SWEEPS
from machine import machine
from nnunetv2_diffusion.files import write_csv, write_text
from nnunetv2_diffusion.imaging.drawing import panels, save, styled

COLUMNS = {
    "sweep": "varied",
    "samples": "S",
    "sampling_steps": "steps",
    "ensemble_steps": "T_s",
    "start_timestep": "start",
    "early_stop": "early stop",
    "dice": "Dice",
    "difference": "difference ± standard error",
    "ece": "calibration error",
    "auroc": "error-detection AUROC",
    "aurc": "area under risk-coverage curve",
    "seconds": "s a slice",
    "evaluations": "evaluations a slice",
}
NOTES = (
    "Each validation case is predicted by the fold that did not train on it. Dice: mean over cases of the mean over "
    "structures. Difference: from the default row, case by case. Calibration error (expected, 15 bins, of the fused "
    "probabilities), AUROC and risk-coverage area of the uncertainty map are those of the foreground crop. Rows vary "
    "one setting and keep the others of the default, except that no more steps are fused than are sampled."
)


def write_sweep(
    table: pd.DataFrame, folder: Path, stem: str, device: str, command: str, default: dict[str, Any]
) -> str:
    """Write `<stem>.csv` and `<stem>.md`; returns the markdown."""
    about = machine(device)
    write_csv(table.assign(**about, command=command), folder / f"{stem}.csv")
    described = ", ".join(f"{name} {value}" for name, value in default.items() if value is not None)
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    lines += [[_cell(row, name) for name in COLUMNS] for row in table.to_dict("records")]
    parts = [
        f"# {stem}",
        f"    {command}",
        f"Measured on {about['machine']}; {about['date']}. {table['cases'].iloc[0]} cases. Default: {described}.",
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
        NOTES,
    ]
    text = "\n\n".join(parts) + "\n"
    write_text(text, folder / f"{stem}.md")
    return text


def _cell(row: dict[str, Any], name: str) -> str:
    if name == "difference":
        return f"{row['dice_difference']:+.4f} ± {row['standard_error']:.4f}"
    if name == "sweep":
        return SWEEPS.get(row["sweep"], row["sweep"])
    value = row[name]
    if value is None or pd.isna(value):
        return ""
    digits = {"dice": 4, "ece": 4, "aurc": 4, "auroc": 3, "seconds": 3, "early_stop": 3}.get(name, 0)
    return f"{value:.{digits}f}"


@styled
def _figure(table: pd.DataFrame) -> Figure:
    measures = {
        "dice": "Dice",
        "ece": "Calibration error",
        "auroc": "Error-detection AUROC",
        "seconds": "Seconds a slice",
    }
    figure, axes = panels(1, len(measures), (3.1 * len(measures), 3.0))
    default = table.iloc[0]
    for axis, (column, title) in zip(axes[0], measures.items(), strict=True):
        for sweep, label in SWEEPS.items():
            rows = table[table["sweep"] == sweep].sort_values("evaluations")
            if len(rows) and sweep != "ensemble_steps":  # fusing costs nothing: these lie on one vertical line
                axis.plot(rows["evaluations"], rows[column], marker="o", markersize=3, label=f"{label} varied")
        axis.plot(default["evaluations"], default[column], "*", markersize=11, label="default", color="black")
        axis.set_xscale("log")
        axis.set_xlabel("Network evaluations a slice")
        axis.set_title(title)
    axes[0, 0].legend()
    return figure


def draw_sweep(table: pd.DataFrame, stem: Path) -> None:
    """Dice, calibration, error detection and seconds against network evaluations, as PNG and PDF."""
    save(_figure(table), stem)
