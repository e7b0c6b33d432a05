"""Taking a zip file from anywhere apart: nothing outside of the folder, nothing that runs, nothing without an end."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_diffusion.archives import opened_zip, write_members
from nnunetv2_diffusion.files import checksum, naming, read_json
from nnunetv2_diffusion.inference.checkpoints import load_checkpoint
from nnunetv2_diffusion.models.layout import CARD, is_of_a_model
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, PLANS_FILE, fold_folder, folds_with, model_folders

MOST_BYTES = 32 * 2**30  # five folds of the largest network that nnU-Net plans stay well below
_UNSAFE = (
    "unpack the zip file yourself and name the model's folder in it: `spinesegdiff segment SCAN OUT --model FOLDER "
    "--trust` opens it and runs what it holds"
)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack what a model needs of a zip file into an empty folder, and check all of it.

    Raises:
        ValueError: it is no zip file, damaged, too large, holds what could be written elsewhere or run, lacks what a
            model needs, or is not what its card says.
        OSError: the disk refused.
    """
    with opened_zip(archive) as opened:
        wanted = [member for member in opened.infolist() if not member.is_dir() and is_of_a_model(member.filename)]
        if not wanted:
            raise ValueError("it holds no model: expected <dataset>/<trainer>__<plans>__<configuration>/ in it")
        write_members(opened, wanted, folder, MOST_BYTES)
    models = [model for dataset in sorted(folder.iterdir()) for model in model_folders(dataset)]
    for model in models:
        _check_model(model, folder)


def _check_model(model: Path, root: Path) -> None:
    """The files of a model are there, are the card's, and hold data alone."""
    for name in (PLANS_FILE, DATASET_FILE):
        if not (model / name).is_file():
            raise ValueError(f"its model {model.name} has no {name}")
    if (model / CARD).is_file():
        _check_card(model / CARD, root)
    checkpoints = [file for fold in folds_with(model) for file in sorted(fold_folder(model, fold).iterdir())]
    if not checkpoints:
        raise ValueError(f"its model {model.name} has no checkpoint")
    for name in (PLANS_FILE, DATASET_FILE):
        read_json(model / name)
    for file in checkpoints:
        load_checkpoint(file, remedy=_UNSAFE)


def _check_card(card: Path, root: Path) -> None:
    with naming(card, "export the model again"):
        hashes = dict(read_json(card)["files"])
        there = {file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()} - {
            card.relative_to(root).as_posix()
        }
        if there != hashes.keys():
            raise ValueError(
                f"its files are not those that its {CARD} lists: {', '.join(sorted(there ^ hashes.keys()))}"
            )
        for name, expected in hashes.items():
            if checksum(root / name) != expected:
                raise ValueError(f"its member {name} is not the file that its {CARD} describes")
