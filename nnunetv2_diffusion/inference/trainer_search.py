"""Trainer classes by name, as nnU-Net finds them; files of others that cannot be imported do not hide ours."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunetv2_diffusion.nnunet_names import EXTENSION, EXTERNAL_TRAINERS, make_trainers_known
from nnunetv2_diffusion.torch_plugin import prepare_search

_PACKAGE = f"{EXTENSION.parent.name}."


def find_trainer(name: str) -> type:
    """The trainer of that name: nnU-Net's own, or in a folder of nnUNet_extTrainer, or ours.

    Raises:
        RuntimeError: there is none, or a file on the way to it cannot be imported.
    """
    make_trainers_known()
    prepare_search()
    if os.environ[EXTERNAL_TRAINERS] == str(EXTENSION):
        # nnU-Net's search imports all of its own trainers first, and with them packages that take a second
        ours = _our_trainer(name)
        if ours is not None:
            return ours
    try:
        return recursive_find_trainer_class_by_name(name)
    except Exception as error:
        file = _file_at_fault(error)
        if file is None:
            raise
        ours = _our_trainer(name)
        if ours is not None:
            return ours
        raise RuntimeError(
            f"{file} cannot be imported ({type(error).__name__}: {error}), and nnU-Net's search for {name} imports "
            f"everything below {EXTERNAL_TRAINERS}; mend the file, or take its folder out of that variable"
        ) from error


def _our_trainer(name: str) -> type | None:
    """Our own trainer of that name; None for names that the extension only passes on."""
    found = recursive_find_python_class(str(EXTENSION), name, None, str(EXTENSION))
    return found if found is not None and found.__module__.startswith(_PACKAGE) else None


def _file_at_fault(error: Exception) -> Path | None:
    """The last file below a folder of nnUNet_extTrainer that was run, or could not be read, when the error came."""
    folders = [Path(name).resolve() for name in os.environ[EXTERNAL_TRAINERS].split(os.pathsep) if name.strip()]
    run = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        run.append(Path(error.filename))
    ours = [file for file in run if any(file.resolve().is_relative_to(folder) for folder in folders)]
    return ours[-1] if ours else None
