"""Taking a zip file from anywhere apart: nothing outside of the folder, nothing that runs, nothing without an end."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

from nnunetv2_diffusion.files import checksum, naming, read_json
from nnunetv2_diffusion.inference.checkpoints import load_checkpoint
from nnunetv2_diffusion.models.layout import CARD, check_member, is_of_a_model
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, PLANS_FILE, fold_folder, folds_with, model_folders

MOST_BYTES = 32 * 2**30  # five folds of the largest network that nnU-Net plans stay well below
MOST_MEMBERS = 100_000
_CHUNK = 1 << 20
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
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened)
            left = MOST_BYTES
            for member in members:
                left -= _write(opened, member, folder / member.filename, left)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeError) as error:
        raise ValueError(f"it is no whole zip file ({error})") from error
    models = [model for dataset in sorted(folder.iterdir()) for model in model_folders(dataset)]
    for model in models:
        _check_model(model, folder)


def _members(opened: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The members to unpack; ValueError where any member is suspicious, also one that would be left out."""
    members = opened.infolist()
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"it has {len(members)} members, more than {MOST_MEMBERS}")
    if min((member.header_offset for member in members), default=0):
        raise ValueError("it is no whole zip file (its beginning or its end is missing)")
    for member in members:
        check_member(member)
    wanted = [member for member in members if not member.is_dir() and is_of_a_model(member.filename)]
    if not wanted:
        raise ValueError("it holds no model: expected <dataset>/<trainer>__<plans>__<configuration>/ in it")
    names = [member.filename.casefold() for member in wanted]
    if len(set(names)) < len(names):
        raise ValueError("it holds two members of one name")
    if sum(member.file_size for member in wanted) > MOST_BYTES:
        raise ValueError(f"it would fill more than {MOST_BYTES >> 30} GiB")
    return wanted


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int) -> int:
    """Write a member, whatever its header promises at most `left` bytes; how many it were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened.open(member) as source, path.open("xb") as target:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > left:
                raise ValueError(f"it would fill more than {MOST_BYTES >> 30} GiB")
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return written


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
