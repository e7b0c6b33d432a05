"""summary.csv: a row a scan, for statistics."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from nnunetv2_diffusion.scans.page.results import Result


def summary_table(results: Sequence[Result]) -> pd.DataFrame:
    """A row a scan, by name: review and its reasons, uncertainty, areas and volumes of structures, model.

    Sizes are in mm2 and mm3; what a scan does not have is left empty. The same results give the same table.
    """
    return pd.DataFrame([_row(result) for result in sorted(results, key=lambda result: result.name)])


def _row(result: Result) -> dict[str, object]:
    report = result.report
    row = {
        "scan": result.name,
        "input": report.get("input"),
        "review": report["review"],
        "reasons": "; ".join(result.reasons),
        "warnings": "; ".join(result.warnings),
        "uncertainty_mask": result.uncertainty,
        "uncertainty_slices": report["mean_uncertainty"].get("segmented_slices"),
        "pairwise_dice": result.pairwise_dice,
        "levels_in_doubt": len(result.levels_doubt),
        "measurements_outside": len(result.outlying),
    }
    for name, figures in report["structures"].items():
        row |= {f"{name}_{key}": value for key, value in figures.items() if key != "label"}
    model = report["model"]
    return row | {"model": model.get("hash"), "seed": model.get("seed")}
