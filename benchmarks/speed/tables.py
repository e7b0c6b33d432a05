"""The csv of each device and the markdown table of both; a device that nothing was measured on has empty cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from machine import machine
from nnunetv2_diffusion.files import write_csv, write_text

DEVICES = {"cpu": "CPU", "cuda": "GPU"}
INFERENCE_COLUMNS = {
    "method": "method",
    "samples": "S",
    "steps": "steps",
    "network_evaluations": "network evaluations",
    "encoder_evaluations": "image encoder evaluations",
    "seconds": "s a slice",
    "times_nnunet": "times nnU-Net",
    "speedup_over_published": "speed-up over the published way",
    "peak_memory_mib": "peak memory, MiB",
    "dice": "Dice",
}
INFERENCE_NOTES = (
    "Ratios are medians over turns that the rows compared took with one another. The published way: one sample after "
    "another in batches of one and float32, the image encoder's features computed once, all steps of all samples kept; "
    "the speed-up over it is at the row's own S and steps. Peak memory is that of a fresh process (CPU: resident, with "
    "Python and PyTorch; GPU: allocated)."
)
TRAINING_COLUMNS = {
    "trainer": "trainer",
    "seconds": "s an iteration",
    "times_nnunet": "times nnU-Net",
    "loader": "loader",
    "forward": "forward",
    "loss": "loss",
    "backward": "backward",
    "optimiser": "optimiser",
    "rest": "rest",
    "peak_memory_mib": "peak memory, MiB",
    "memory_times_nnunet": "memory, times nnU-Net",
}
SLICES_COLUMNS = {
    "what": "what",
    "samples": "S",
    "slices": "slices",
    "seconds": "s",
    "seconds_each": "s a slice",
    "ratio": "times single slices",
}
CONVERTER_COLUMNS = {
    "what": "what",
    "processes": "processes and cores",
    "seconds": "s",
    "seconds_each": "s a series",
    "ratio": "times the first row",
    "minutes_of_spider": "min for SPIDER's 447 series",
}
SCALING_NOTES = (
    "Medians over turns; an untrained model of the plan. Slices of a volume against the same slices one by one: handed "
    "to the network; as scans to `segment`, the model being loaded; as files to `spinesegdiff segment`, one command "
    "for each. Converter: the command `spinesegdiff convert --modality T1wT2w` with n processes on n cores."
)
TRAINING_NOTES = (
    "The trainers take turns, iteration by iteration, on the same plan, batch size and data; the ratio is the median "
    "over turns, the parts are median seconds. Peak memory is that of a fresh process (CPU: resident, with Python and "
    "PyTorch; GPU: allocated)."
)

ACTIVATIONS_COLUMNS = {
    "architecture": "architecture",
    "network": "network",
    "kept_mib": "MiB after the forward pass",
    "peak_mib": "MiB in the backward pass, at most",
    "times_nnunet": "times nnU-Net's",
}
ACTIVATIONS_NOTES = (
    "Of one image, in float32, counted by what autograd holds; weights, gradients and the optimiser come on top. With "
    "`checkpoint_activations` the largest stage, which the backward pass computes again, is counted in."
)


def write_inference(
    rows: Sequence[dict[str, Any]], folder: Path, *, stem: str, device: str, about: str, command: str
) -> None:
    """<stem>_<device>.csv and <stem>.md."""
    given = {"stem": stem, "device": device, "about": about, "command": command}
    _write(rows, folder, **given, columns=INFERENCE_COLUMNS, notes=INFERENCE_NOTES)


def write_training(rows: Sequence[dict[str, Any]], folder: Path, *, device: str, about: str, command: str) -> None:
    """training_<device>.csv and training.md."""
    given = {"stem": "training", "device": device, "about": about, "command": command}
    _write(rows, folder, **given, columns=TRAINING_COLUMNS, notes=TRAINING_NOTES)


def write_scaling(
    slices: Sequence[dict[str, Any]],
    conversions: Sequence[dict[str, Any]],
    folder: Path,
    device: str,
    size: int,
    command: str,
) -> str:
    """scaling.csv and scaling.md; returns the markdown."""
    about = {**machine(device), "command": command}
    write_csv(pd.DataFrame([*slices, *conversions]).assign(**about), folder / "scaling.csv")
    parts = [
        "# Scaling: slices and the converter",
        SCALING_NOTES,
        f"{about['machine']}; {about['date']}.\n\n    {command}",
    ]
    if slices:
        parts += [f"## Slices of {size} x {size} pixels", _markdown(pd.DataFrame(slices), SLICES_COLUMNS, False)]
    parts += ["## Converter", _markdown(pd.DataFrame(conversions), CONVERTER_COLUMNS, False)]
    text = "\n\n".join(parts) + "\n"
    write_text(text, folder / "scaling.md")
    return text


def write_activations(rows: Sequence[dict[str, Any]], folder: Path, about: str, command: str) -> str:
    """activations.csv and activations.md; returns the markdown."""
    of_machine = machine("cpu")
    table = pd.DataFrame(rows)
    write_csv(table.assign(**of_machine, about=about, command=command), folder / "activations.csv")
    parts = [
        "# Activations that a training step keeps",
        ACTIVATIONS_NOTES,
        f"{about}; {of_machine['date']}.\n\n    {command}",
        _markdown(table, ACTIVATIONS_COLUMNS, False),
    ]
    text = "\n\n".join(parts) + "\n"
    write_text(text, folder / "activations.md")
    return text


def _write(
    rows: Sequence[dict[str, Any]],
    folder: Path,
    *,
    stem: str,
    device: str,
    about: str,
    command: str,
    columns: dict[str, str],
    notes: str,
) -> None:
    table = pd.DataFrame(rows).assign(**machine(device), about=about, command=command)
    write_csv(table, folder / f"{stem}_{device}.csv")
    parts = [f"# {stem.replace('_', ', ', 1).capitalize()}: time and memory", notes]
    for name, title in DEVICES.items():
        file = folder / f"{stem}_{name}.csv"
        measured = pd.read_csv(file) if file.is_file() else None
        parts += [
            f"## {title}",
            _where(measured),
            _markdown(table if measured is None else measured, columns, measured is None),
        ]
    write_text("\n\n".join(parts) + "\n", folder / f"{stem}.md")


def _where(table: pd.DataFrame | None) -> str:
    if table is None:
        return "Not measured."
    row = table.iloc[0]
    return f"{row['machine']}; {row['about']}; {row['date']}.\n\n    {row['command']}"


def _markdown(table: pd.DataFrame, columns: dict[str, str], empty: bool) -> str:
    """A row a line; without figures where they are those of another device."""
    present = {name: title for name, title in columns.items() if name in table and table[name].notna().any()}
    keys = ("method", "samples", "steps", "trainer")
    lines = [list(present.values()), ["---"] * len(present)]
    for _, row in table.iterrows():
        lines.append(["" if empty and name not in keys else _cell(row[name]) for name in present])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ""
    number = float(value)
    if number.is_integer() or number >= 100:
        return f"{number:.0f}"
    return f"{number:.2f}" if number >= 1 else f"{number:.3f}"
