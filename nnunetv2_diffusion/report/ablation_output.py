"""Writing Table 2: ablation.csv in the paper's layout, the numbers behind it, and the figure."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.files import write_csv
from nnunetv2_diffusion.imaging.drawing import save
from nnunetv2_diffusion.report.ablation import MISSING, table_2_layout, untimed
from nnunetv2_diffusion.report.figures import ablation_curves


def write_ablation(table: pd.DataFrame, folder: str | Path) -> None:
    """Write ablation.csv, ablation_values.csv, ablation.png and ablation.pdf of `ablation.ablation`'s table."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(table_2_layout(table), folder / "ablation.csv")
    write_csv(table, folder / "ablation_values.csv")
    save(ablation_curves(table), folder / "ablation")


def describe_ablation(table: pd.DataFrame) -> str:
    """The table in the paper's layout, for a terminal, and what is missing in it."""
    lines = [table_2_layout(table).to_string(index=False)]
    missing = table.loc[table["remark"] == MISSING, "timesteps"].tolist()
    if missing:
        lines.append(f"No results yet for T = {', '.join(map(str, missing))}.")
    if untimed(table):
        steps = ", ".join(map(str, untimed(table)))
        lines.append(f"Seconds a slice are not known for T = {steps}; `spinesegdiff validate` measures them.")
    return "\n".join(lines)
