"""Our commands find their trainers beside folders of others in which a file cannot be imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nnunetv2_diffusion.inference.trainer_search import find_trainer
from nnunetv2_diffusion.nnunet_names import EXTENSION

BROKEN = {
    "a missing module": ("import not_installed_anywhere\n", "ModuleNotFoundError"),
    "no Python": ("def trainer(:\n", "SyntaxError"),
    "a failing line": ("raise OSError('no disk')\n", "OSError: no disk"),
}


@pytest.fixture(params=BROKEN.values(), ids=BROKEN.keys())
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """The file of another folder, which stands before ours, and what is wrong with it."""
    content, problem = request.param
    file = tmp_path / "others" / "a_network.py"
    file.parent.mkdir()
    file.write_text(content)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(file.parent), str(EXTENSION)]))
    return file, problem


def test_our_trainers_are_found(broken: tuple[Path, str]):
    assert find_trainer("nnUNetTrainerSpineSegDiff_50epochs").epochs == 50
    assert find_trainer("nnUNetTrainer").__module__.startswith("nnunetv2.")


def test_where_another_is_asked_for_the_file_is_named(broken: tuple[Path, str]):
    file, problem = broken
    with pytest.raises(RuntimeError, match=rf"{file} cannot be imported \({problem}.*nnUNetTrainerOfOthers.*mend the"):
        find_trainer("nnUNetTrainerOfOthers")


def test_a_trainer_that_nobody_has_is_what_nnunet_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainerOfOthers"):
        find_trainer("nnUNetTrainerOfOthers")
