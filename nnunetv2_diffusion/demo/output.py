"""The demo's output folder: whose it is, what an earlier demo left in it, and the names of what is shown at the end."""

from __future__ import annotations

import shutil

from nnunetv2_diffusion.demo.rater_steps import EVERY_MASK, EVERY_PHANTOM, MIRRORED, UNSEEN_PHANTOMS
from nnunetv2_diffusion.demo.steps import (
    FOLDS_FILE,
    NNUNET_FOLDERS,
    PHANTOMS,
    PREDICTIONS,
    SAMPLES,
    SCORES,
    UNSEEN,
    Demo,
)
from nnunetv2_diffusion.files import read_json, write_json
from nnunetv2_diffusion.pipeline.steps import LOGS

RECORD = "demo.json"
TABLE, PICTURES = "results.csv", "pictures"
CASES_TABLE = "cases.csv"  # of several raters
FOLDERS = (*NNUNET_FOLDERS, PHANTOMS, UNSEEN, PREDICTIONS, SAMPLES, SCORES, PICTURES, LOGS)
RATER_FOLDERS = (UNSEEN_PHANTOMS, EVERY_PHANTOM, EVERY_MASK, MIRRORED)


def open_folder(demo: Demo, overwrite: bool = False) -> None:
    """Make the output folder ready: new, or of the same demo, whose finished steps are kept.

    Args:
        demo: what is going to run.
        overwrite: remove what an earlier demo wrote there first.

    Raises:
        FileExistsError: the folder holds something else than a demo.
        ValueError: it holds a demo of other patients, data or seed.
    """
    record = demo.record
    path = demo.folder / RECORD
    if path.is_file() and overwrite:
        _remove_everything_of(demo)
    elif path.is_file():
        if read_json(path, remedy="begin anew with --overwrite") != record:
            raise ValueError(f"{demo.folder} holds a demo of other patients or seed; use --overwrite or another --out")
    elif demo.folder.is_dir() and any(demo.folder.iterdir()):
        raise FileExistsError(f"{demo.folder} is not empty and holds no demo; name another folder with --out")
    for name in NNUNET_FOLDERS:
        (demo.folder / name).mkdir(parents=True, exist_ok=True)
    if demo.folds:
        write_json(demo.folds, demo.folder / FOLDS_FILE)
    write_json(record, path)


def _remove_everything_of(demo: Demo) -> None:
    for name in (*FOLDERS, *RATER_FOLDERS):
        shutil.rmtree(demo.folder / name, ignore_errors=True)
    for name in (FOLDS_FILE, TABLE, CASES_TABLE, RECORD):
        (demo.folder / name).unlink(missing_ok=True)
