"""Installed models, each a folder by its name in $SPINESEGDIFF_MODELS or the platform's data folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from nnunetv2_diffusion.files import read_json
from nnunetv2_diffusion.models.layout import CARD
from nnunetv2_diffusion.nnunet_names import ModelName, model_folders, parse_stage

VARIABLE = "SPINESEGDIFF_MODELS"
# In the folder of an installed model, written last: what it came from.
RECORD = "installed.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_AGAIN = "remove the model and install it again"


@dataclass(frozen=True)
class Installed:
    """An installed model: its name, the folder that `load_model` takes, what it came from, and its card or None."""

    name: str
    folder: Path
    record: dict[str, Any]
    card: dict[str, Any] | None


def models_folder() -> Path:
    """Where models are installed; it need not exist."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path(platformdirs.user_data_dir("spinesegdiff", appauthor=False)) / "models"


def check_name(name: str) -> str:
    """The name; ValueError where it cannot name a model."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"a model cannot be called {name!r}: a name has letters, digits and . _ + - only")
    return name


def installed_model(name: str) -> Path:
    """The folder of an installed model, for `load_model`.

    Raises:
        FileNotFoundError: no such model; the message names those that there are.
        ValueError: the name cannot be one, or what is installed was changed since.
    """
    return find(name).folder


def find(name: str) -> Installed:
    """An installed model; see `installed_model`."""
    root = models_folder() / check_name(name)
    if not (root / RECORD).is_file():
        names = ", ".join(model.name for model in installed_models()) or "none"
        raise FileNotFoundError(f"no model {name} is installed in {models_folder()}; installed: {names}")
    record = read_json(root / RECORD, remedy=_AGAIN)
    folder = root / str(record.get("folder"))
    if not folder.is_dir() or not folder.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{root / RECORD} names no folder of a model below it; {_AGAIN}")
    card = read_json(folder / CARD, remedy=_AGAIN) if (folder / CARD).is_file() else None
    return Installed(name, folder, record, card)


def installed_models() -> Iterator[Installed]:
    """All installed models, by name; what is no model, or a damaged one, is passed over."""
    root = models_folder()
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if _NAME.fullmatch(path.name) and (path / RECORD).is_file():
            try:
                yield find(path.name)
            except (ValueError, OSError):
                continue


def remove(name: str) -> None:
    """Remove an installed model, its record first; a damaged one, too.

    Raises:
        FileNotFoundError: no such model.
        OSError: it cannot be removed.
    """
    root = models_folder() / check_name(name)
    if not (root / RECORD).is_file():
        find(name)
    (root / RECORD).unlink()
    shutil.rmtree(root)


def main_folder(root: Path) -> Path:
    """Which of the unpacked models' folders is the model: the one with the card, the only one, or the only stage.

    Raises:
        ValueError: there are several.
    """
    found = [model for dataset in sorted(root.iterdir()) if dataset.is_dir() for model in model_folders(dataset)]
    carded = [model for model in found if (model / CARD).is_file()]
    stages = [model for model in found if parse_stage(ModelName.of_folder(model).configuration)]
    for candidates in (carded, found, stages):
        if len(candidates) == 1:
            return candidates[0]
    names = ", ".join(f"{model.parent.name}/{model.name}" for model in found)
    raise ValueError(f"it holds several models ({names}); export one model at a time")
