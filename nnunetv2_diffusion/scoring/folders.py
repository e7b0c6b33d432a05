"""Scoring two plain folders of masks, whatever their labels are called: the work behind `spinesegdiff evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.files import write_csv
from nnunetv2_diffusion.imaging.drawing import save
from nnunetv2_diffusion.imaging.volumes import UNCERTAINTY_SUFFIX, list_masks
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, MAPS
from nnunetv2_diffusion.scoring.case_distributions import described_distributions
from nnunetv2_diffusion.scoring.case_files import MAP_ENDING, find_map, find_probabilities
from nnunetv2_diffusion.scoring.cases import Scores, score_cases
from nnunetv2_diffusion.scoring.crops import CROPS
from nnunetv2_diffusion.scoring.figures import reliability_diagram, risk_coverage_curves
from nnunetv2_diffusion.scoring.labels import display_name, read_file_ending, read_labels
from nnunetv2_diffusion.scoring.raters import RATER, list_references
from nnunetv2_diffusion.scoring.sample_folders import distribution_jobs, measure_distributions
from nnunetv2_diffusion.scoring.tables import (
    MEAN,
    TRAINING,
    reliability,
    summarise_structures,
    summarise_uncertainty,
)


@dataclass(frozen=True)
class FolderEvaluation:
    """Scores of the cases, their summaries, the references that have no prediction, and a row a case of
    `case_distribution` where there are samples or several references."""

    scores: Scores
    summary: pd.DataFrame
    uncertainty: pd.DataFrame
    not_predicted: list[str]
    distributions: pd.DataFrame


def evaluate_folders(
    references: str | Path | Sequence[str | Path],
    predictions: str | Path,
    uncertainty: str | Path | None = None,
    dataset_json: str | Path | None = None,
    processes: int | None = None,
    progress: bool = True,
) -> FolderEvaluation:
    """Score the masks of one folder against the references of another, matched by file name.

    Where a case has several references, it is scored against each, in rows of their own with the column "rater"; the
    summaries take the mean over a case's raters first, so that it counts once.

    Args:
        references: folder of masks, or a folder for each rater; a single folder may also hold several references of a
            case as `<case>__<rater>`.
        predictions: folder of masks; it may hold nnU-Net's `.npz` probabilities beside them, and samples in a folder
            `samples`.
        uncertainty: folder of `<case>_uncertainty` maps; None takes those in the predictions' folder MAPS, if any.
        dataset_json: label names; None looks in `predictions`, in `references` and in the folder above it.
        processes: worker processes; None chooses.

    Raises:
        FileNotFoundError, ValueError: missing folders or files, a prediction without reference, masks that do not fit.
    """
    folders, predictions = reference_folders(references), Path(predictions)
    dataset_json = find_dataset_json(folders[0], predictions, dataset_json)
    labels = read_labels(dataset_json)
    cases, not_predicted = pair_cases(folders, predictions, uncertainty, read_file_ending(dataset_json))
    name = predictions.resolve().name
    about = dict(zip(TRAINING, (name, name, "prediction"), strict=True))
    scores = score_cases(cases.assign(**about), {name: labels}, processes, progress)
    return FolderEvaluation(
        scores,
        summarise_structures(scores.structures, TRAINING),
        summarise_uncertainty(scores, TRAINING),
        not_predicted,
        measure_distributions(distribution_jobs(cases, predictions), labels, processes, progress),
    )


def reference_folders(references: str | Path | Sequence[str | Path]) -> list[Path]:
    """One folder or several, as a list."""
    return [Path(references)] if isinstance(references, str | Path) else [Path(folder) for folder in references]


def find_dataset_json(references: Path, predictions: Path, given: str | Path | None = None) -> Path:
    """The dataset.json to use.

    Raises:
        FileNotFoundError: none was found.
    """
    if given is not None:
        return Path(given)
    candidates = [folder / DATASET_FILE for folder in (predictions, references, references.resolve().parent)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"no {DATASET_FILE} in {predictions}, {references} or the folder above it; name one with --dataset-json"
        )
    return found


def pair_cases(
    references: Sequence[Path], predictions: Path, uncertainty: str | Path | None, ending: str
) -> tuple[pd.DataFrame, list[str]]:
    """The predicted cases with their files, and the references that nothing was predicted for.

    A case has a row for each of its references; where any has several, the column "rater" names them.

    Raises:
        FileNotFoundError: a folder is missing.
        ValueError: no predictions at all, a prediction without a reference, or none of the maps belongs to a case.
    """
    truth, masks = list_references(references, ending), list_masks(predictions, ending)
    if not masks:
        raise ValueError(f"no mask (*{ending}) in {predictions}")
    orphans = [case for case in masks if not truth.of(case)]
    if orphans:
        searched = ", ".join(map(str, references))
        raise ValueError(
            f"{len(orphans)} of {len(masks)} masks in {predictions} have no reference in {searched}, the first being "
            f"{masks[orphans[0]].name}; are these results of another dataset?"
        )
    maps = Path(uncertainty) if uncertainty is not None else predictions / MAPS
    if uncertainty is not None and not maps.is_dir():
        raise FileNotFoundError(f"{maps} is no folder")
    rows = [
        {
            "case": case,
            RATER: rater,
            "reference": reference,
            "prediction": mask,
            "uncertainty": find_map(maps, case, ending),
            "probabilities": find_probabilities(predictions, case),
        }
        for case, mask in masks.items()
        for rater, reference in truth.of(case).items()
    ]
    if uncertainty is not None and not any(row["uncertainty"] for row in rows):
        raise ValueError(f"{maps} holds no map <case>{UNCERTAINTY_SUFFIX}{MAP_ENDING} of any of the {len(masks)} cases")
    table = pd.DataFrame(rows)
    return table if table[RATER].any() else table.drop(columns=RATER), truth.without(list(masks))


def write_evaluation(evaluation: FolderEvaluation, folder: str | Path) -> None:
    """Write cases.csv and summary.csv; where there are maps or probabilities also uncertainty.csv,
    uncertainty_cases.csv and reliability.csv, and as PNG and PDF the reliability diagram and risk-coverage curve; where
    there are samples or several references also distributions.csv."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "cases": evaluation.scores.structures,
        "summary": evaluation.summary,
        "uncertainty": evaluation.uncertainty,
        "uncertainty_cases": evaluation.scores.uncertainty,
        "reliability": reliability(evaluation.scores.bins, TRAINING),
    }
    for name, table in tables.items():
        if not table.empty:
            write_csv(table.drop(columns=TRAINING), folder / f"{name}.csv")
    if not evaluation.distributions.empty:
        write_csv(evaluation.distributions, folder / "distributions.csv")
    points, curves = tables["reliability"], evaluation.scores.curves
    for crop in CROPS:
        if not points.empty:
            save(reliability_diagram(points[points["region"] == crop]), folder / f"reliability_{crop}")
        if not curves.empty:
            save(risk_coverage_curves(curves[curves["region"] == crop]), folder / f"risk_coverage_{crop}")


def describe(evaluation: FolderEvaluation) -> str:
    """The evaluation in a few lines, for a terminal."""
    cases = evaluation.scores.structures["case"].nunique()
    lines = [f"{cases} cases", f"{'':<24}{'Dice':>16}{'HD95 (mm)':>18}{'ASSD (mm)':>18}"]
    for row in evaluation.summary.itertuples():
        name = "Mean of structures" if row.structure == MEAN else display_name(row.structure)
        cells = [
            f"{mean:.{digits}f} ± {std:.{digits}f}"
            for mean, std, digits in (
                (row.dice_mean, row.dice_std, 3),
                (row.hd95_mean, row.hd95_std, 2),
                (row.assd_mean, row.assd_std, 2),
            )
        ]
        missed = f"   in one of the two masks only: {row.missed}" if row.missed else ""
        lines.append(f"{name:<24}{cells[0]:>16}{cells[1]:>18}{cells[2]:>18}{missed}")
    for row in evaluation.uncertainty.to_dict("records"):
        lines += _described_uncertainty(row)
    if not evaluation.distributions.empty:
        lines += described_distributions(evaluation.distributions)
    if evaluation.not_predicted:
        first = ", ".join(evaluation.not_predicted[:5])
        lines.append(f"{len(evaluation.not_predicted)} references have no prediction and were not scored: {first} ...")
    return "\n".join(lines)


def _described_uncertainty(row: dict) -> list[str]:
    lines = []
    if row["probabilities"]:
        lines.append(
            f"Calibration error of {row['probabilities']} cases: {row['foreground_ece']:.4f} in the foreground crop, "
            f"{row['image_ece']:.4f} in the whole image"
        )
    if row["maps"]:
        lines.append(
            f"Uncertainty maps of {row['maps']} cases, in the foreground crop: error-detection AUROC "
            f"{row['foreground_auroc']:.3f}, area under the risk-coverage curve {row['foreground_aurc']:.4f} "
            f"(random order {row['foreground_error_rate']:.4f}, perfect order {row['foreground_aurc_best']:.4f}); "
            f"Spearman's rho of mean uncertainty and Dice {row['spearman']:.2f} (p = {row['spearman_p']:.2g})"
        )
    return lines
