"""A study's folder: made, its configuration and data written down, and opened again by every job."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from nnunetv2_diffusion.files import read_json, write_json, write_text
from nnunetv2_diffusion.spider import MODALITIES, list_series, select_cases
from nnunetv2_diffusion.workflow.configuration import PAPER, PHANTOMS, read_configuration
from nnunetv2_diffusion.workflow.grid import NNUNET_FOLDERS, PHANTOM_DATA, Grid
from nnunetv2_diffusion.workflow.splits import phantom_splits, read_splits

CONFIG, RECORD, SPLITS = "config.yaml", "study.json", "splits"
SPIDER_PATIENTS = 218


def open_study(folder: str | Path) -> Grid:
    """The grid of a study that was made.

    Raises:
        FileNotFoundError, ValueError: a file of it is missing or damaged.
    """
    folder = Path(folder)
    record = read_json(folder / RECORD, remedy="run spinesegdiff reproduce, which writes it")
    return Grid(
        read_configuration(folder / CONFIG), record["data"], tuple(record["left_out"]), (folder / SPLITS).is_dir()
    )


def make_study(
    folder: Path, data: Path | None, *, config: Path | None = None, splits: Path | None = None
) -> tuple[Grid, list[str]]:
    """Make a study's folder, or renew the one that is there: an edited config.yaml counts, finished jobs stay.

    Args:
        folder: the study's.
        data: SPIDER's folder; None for phantoms.
        config: a configuration in place of the paper's, or of the miniature's for phantoms; None keeps the one there.
        splits: folder of published folds; None as the configuration says.

    Returns:
        the grid, and a sentence about everything that the data lack.

    Raises:
        FileNotFoundError: `data` is no SPIDER folder, or a file is missing.
        FileExistsError: the folder holds a study of other data, or something else.
        ValueError: the configuration is not valid, or nothing would be left to do.
    """
    source = str(data) if data else PHANTOM_DATA
    if (folder / RECORD).is_file():
        known = read_json(folder / RECORD)["data"]
        if known != source:
            raise FileExistsError(f"{folder} holds a study of {known}, not of {source}; name another folder with --out")
    elif folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty and holds no study; name another folder with --out")
    chosen = config or ((folder / CONFIG) if (folder / CONFIG).is_file() else PHANTOMS if data is None else PAPER)
    content = read_configuration(chosen)
    lacking, left_out = _lacks(data, content) if data else ([], [])
    for name in NNUNET_FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    if chosen != folder / CONFIG:
        write_text(chosen.read_text(encoding="utf-8"), folder / CONFIG)
    published = splits or (Path(content["splits"]) if content.get("splits") else None)
    grid = Grid(content, source, tuple(left_out), bool(published or content.get("phantoms")))
    _check_folds(grid, published)
    _write_splits(folder, grid, published)
    write_json({"data": source, "left_out": left_out}, folder / RECORD)
    return grid, lacking


def _lacks(data: Path, config: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Sentences on what a SPIDER folder lacks, and the modalities that cannot be trained at all."""
    cases = select_cases(list_series(data))
    contrasts = {contrast: {case.patient for case in cases if case.contrast == contrast} for contrast in ("t1", "t2")}
    sentences, left_out = [], []
    for modality in config["modalities"]:
        missing = [contrast for contrast in MODALITIES[modality] if not contrasts[contrast]]
        if missing:
            left_out.append(modality)
            sentences.append(
                f"{data} holds no {' and no '.join(missing)} scan: {modality} is left out; download the rest"
            )
    patients = {case.patient for case in cases}
    if len(patients) < SPIDER_PATIENTS:
        sentences.append(
            f"{data} holds {len(patients)} of SPIDER's {SPIDER_PATIENTS} patients: the tables will not be the paper's; "
            "spinesegdiff download brings the rest"
        )
    if len(left_out) == len(config["modalities"]):
        raise ValueError(f"{data} holds no scan of {' or '.join(left_out)}; there is nothing to train on")
    return sentences, left_out


def _check_folds(grid: Grid, published: Path | None) -> None:
    """Stages train on masks of every case by the fold that did not see it: they need all folds of their baseline."""
    folds, fixed = grid.config["folds"], list(range(5))
    if grid.config.get("phantoms"):
        fixed = list(range(len(folds)))
    if grid.config["pre_segmentation"] and sorted(folds) != fixed:
        raise ValueError(
            f"pre_segmentation needs all folds, {', '.join(map(str, fixed))}, of its baseline, not {folds}; name them "
            "all, or set pre_segmentation to null"
        )
    if published is not None and not published.is_dir():
        raise FileNotFoundError(f"{published} is no folder with SPIDER_<modality>.json; correct --splits")


def _write_splits(folder: Path, grid: Grid, published: Path | None) -> None:
    """splits/<dataset>.json for the converter, where the folds are not its own."""
    phantoms, folds = grid.config.get("phantoms"), grid.config["folds"]
    if published is None and not phantoms:
        shutil.rmtree(folder / SPLITS, ignore_errors=True)
        return
    cases = set() if phantoms else {case.case for case in select_cases(list_series(Path(grid.data)))}
    for dataset, (modality, _) in grid.datasets.items():
        drawn = phantom_splits(phantoms, modality, max(folds) + 1) if phantoms else None
        write_json(drawn or read_splits(published, modality, cases), folder / SPLITS / f"{dataset}.json")
