"""Table 2: Dice per structure and seconds a slice for each T of the pre-segmentation stage, T = 0 being nnU-Net."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunetv2_diffusion.imaging.drawing import panels, styled
from nnunetv2_diffusion.imaging.palette import colour, structure_colours
from nnunetv2_diffusion.nnunet_names import PLANS
from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.section import Context, Section
from nnunetv2_diffusion.scoring.labels import display_name
from nnunetv2_diffusion.scoring.tables import MEAN, structure_names, summarise_structures

CSV_FILES = ("table2.csv", "table2_*.csv")
MISSING = "no results"
SERIES = ["dataset", "modality", "series"]


def section(context: Context) -> Section | None:
    """Every series of stages; None where no pre-segmentation stage was trained."""
    values = ablation_table(context.evaluated.structures, stage_trainings(context.results.trainings))
    tables, figures, stages = {"table2_values": values}, {}, []
    for number, ((_, modality, name), table) in enumerate(values.groupby(SERIES, sort=False), start=1):
        layout, figure = table_2_layout(table), f"ablation_{number}"
        tables["table2" if number == 1 else f"table2_{number}"] = layout
        figures[figure] = ablation_curves(table)
        stages.append({"modality": modality, "name": name, "table": layout, "figure": figure})
    if not stages:
        return None
    return Section(
        id="table2",
        title="Pre-segmentation",
        template="presegmentation.html.j2",
        tables=tables,
        figures=figures,
        variables={"stages": stages},
    )


def stage_trainings(trainings: pd.DataFrame) -> pd.DataFrame:
    """The pre-segmentation stages among all trainings, each series with its baseline as T = 0.

    Returns:
        rows of `Results.trainings`, with timesteps as whole numbers and the series' name in the column series.
    """
    stages = trainings[trainings["timesteps"].notna()].astype({"timesteps": int})
    parts = []
    for (_, trainer, plans, baseline), group in stages.groupby(["dataset", "trainer", "plans", "baseline"], sort=False):
        about = trainer if plans == PLANS else f"{trainer}, {plans}"
        zero = trainings[(trainings["dataset"] == group["dataset"].iloc[0]) & (trainings["model"] == baseline)]
        parts.append(pd.concat([zero.assign(timesteps=0), group]).assign(series=f"{about}, refining {baseline}"))
    return pd.concat(parts, ignore_index=True) if parts else stages.assign(series="")


def ablation_table(
    structures: pd.DataFrame, stages: pd.DataFrame, timesteps: Sequence[int] | None = None
) -> pd.DataFrame:
    """Table 2 in long form.

    Args:
        structures: `Scores.structures` (the cases that count).
        stages: `stage_trainings`: one row a T of each series.
        timesteps: the T to list, those without results included; None lists those that a series has.

    Returns:
        a row a series, T and structure ("mean" last): cases, dice_mean, dice_std, seconds_per_slice (NaN where no
        prediction was timed), missing_folds, and remark ("no results" where the T has none).
    """
    summary = summarise_structures(structures, ["dataset", "model"])
    rows = []
    for series, group in stages.groupby(SERIES, sort=False):
        training_of = {row["timesteps"]: row for row in group.to_dict("records")}
        for step in sorted(training_of) if timesteps is None else timesteps:
            about = dict(zip(SERIES, series, strict=True)) | {"timesteps": step}
            training = training_of.get(step, {"dataset": None, "model": None})
            found = summary[summary["dataset"].eq(training["dataset"]) & summary["model"].eq(training["model"])]
            if found.empty:
                rows.append(about | {"structure": MEAN, "cases": 0, "remark": MISSING})
            for row in found.to_dict("records"):
                numbers = {name: row[name] for name in ("structure", "cases", "dice_mean", "dice_std")}
                timing = {name: training[name] for name in ("seconds_per_slice", "missing_folds")}
                rows.append(about | numbers | timing | {"remark": ""})
    columns = [*SERIES, "timesteps", "structure", "cases", "dice_mean", "dice_std", "seconds_per_slice"]
    return pd.DataFrame(rows, columns=[*columns, "missing_folds", "remark"])


def table_2_layout(table: pd.DataFrame) -> pd.DataFrame:
    """One series in the paper's layout: a row a structure, a column a T, as text; for T1w + T2w the paper's too."""
    steps = list(dict.fromkeys(table["timesteps"]))
    by_cell = table.set_index(["timesteps", "structure"])
    about = table.drop_duplicates("timesteps").set_index("timesteps")
    rows = {}
    for structure in (*structure_names(table["structure"]), MEAN):
        name = "Mean Dice" if structure == MEAN else display_name(structure)
        rows[name] = [_dice_cell(by_cell, step, structure) for step in steps]
    seconds = about["seconds_per_slice"]
    rows["Seconds a slice"] = ["" if pd.isna(seconds[step]) else f"{seconds[step]:.3g}" for step in steps]
    rows["Cases"] = [str(about["cases"][step]) for step in steps]
    rows["Missing folds"] = [
        about["missing_folds"][step] or "none" if about["cases"][step] else "all" for step in steps
    ]
    printed = _printed(table)
    theirs = printed.set_index(["timesteps", "structure"])
    for structure in dict.fromkeys(printed["structure"]):
        rows[f"{display_name(structure)} (paper)"] = [_dice_cell(theirs, step, structure, digits=2) for step in steps]
    layout = pd.DataFrame(rows, index=[f"T = {step}" for step in steps]).T
    return layout.rename_axis("structure").reset_index()


@styled
def ablation_curves(table: pd.DataFrame) -> Figure:
    """Table 2 as curves: Dice and seconds a slice over T; for T1w + T2w the paper's dashed.

    Args:
        table: `ablation_table` of one series.
    """
    found = table[table["remark"] != MISSING]
    steps = sorted(table["timesteps"].unique())
    place = {step: index for index, step in enumerate(steps)}
    figure, axes = panels(1, 2, (9.5, 3.6), width_ratios=[1.6, 1])
    _draw_dice(axes[0][0], found, _printed(table), place)
    timed = found.drop_duplicates("timesteps").dropna(subset="seconds_per_slice")
    axes[0][1].bar(timed["timesteps"].map(place), timed["seconds_per_slice"], width=0.55, color=colour(5))
    axes[0][1].set(title="Seconds a slice")
    if timed.empty:
        axes[0][1].text(0.5, 0.5, "no prediction was timed", transform=axes[0][1].transAxes, ha="center")
    for panel in axes[0]:
        panel.set_xticks(range(len(steps)), [str(step) for step in steps])
        panel.set(xlabel="T (0: nnU-Net itself)", xlim=(-0.5, len(steps) - 0.5))
        panel.grid(axis="x", visible=False)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _draw_dice(panel: Axes, found: pd.DataFrame, printed: pd.DataFrame, place: dict[int, int]) -> None:
    tints = structure_colours(structure_names(found["structure"]))
    for index, (name, tint) in enumerate(tints.items()):
        part = found[found["structure"] == name]
        x = part["timesteps"].map(place) + (index - 1) * 0.06
        style = {"color": tint, "marker": "o", "capsize": 3, "label": display_name(name)}
        panel.errorbar(x, part["dice_mean"], part["dice_std"], **style)
        theirs = printed[(printed["structure"] == name) & printed["timesteps"].isin(list(place))]
        if len(theirs):
            panel.plot(theirs["timesteps"].map(place), theirs["dice_mean"], "--", color=tint, alpha=0.55)
    panel.set(title=f"Dice, mean and standard deviation{' (dashed: the paper)' if len(printed) else ''}")


def _printed(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 2 where the series is of its modality; else none of its rows."""
    theirs = paper.table_2()
    return theirs if set(table["modality"]) == {paper.TABLE_2_MODALITY} else theirs.iloc[:0]


def _dice_cell(by_cell: pd.DataFrame, step: int, structure: str, digits: int = 3) -> str:
    if (step, structure) not in by_cell.index:
        return MISSING if "remark" in by_cell else ""
    row = by_cell.loc[(step, structure)]
    if pd.isna(row["dice_mean"]):
        return MISSING
    return f"{row['dice_mean']:.{digits}f} ± {row['dice_std']:.{digits}f}"
