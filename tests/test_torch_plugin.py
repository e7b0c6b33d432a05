"""The plug-in of `import torch`: it acts where our trainers are sought, and in no other program."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from helpers.console import command_environment
from nnunetv2_diffusion.nnunet_names import EXTENSION

OPERATOR = "torch.ops.torchvision.nms"
CODE = f"""
import torch
from nnunetv2_diffusion import torch_plugin
try:
    {OPERATOR}
    print("declared", len(torch_plugin._libraries))
except AttributeError:
    print("absent", len(torch_plugin._libraries))
"""
SEARCH = """
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find
print("found", find("nnUNetTrainerSpineSegDiff").__name__)
"""


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd="/",  # the installed package, not the checkout's
        env=command_environment(environment),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def mixed() -> None:
    """Only where pip combined a CPU PyTorch with a torchvision that does not fit."""
    code = "import torch\ntry:\n import torchvision\nexcept RuntimeError: print('mixed')\nelse: print('fits')"
    if python(code) == "fits":
        pytest.skip("PyTorch and torchvision fit in this environment")


@pytest.mark.parametrize("variable", ["", "/some/other/trainers"])
def test_other_programs_are_left_alone(variable: str):
    assert python(CODE, nnUNet_extTrainer=variable).endswith("0")


def test_declared_where_our_trainers_are_sought(mixed):
    assert python(CODE, nnUNet_extTrainer=str(EXTENSION)) == "declared 1"


def test_among_several_folders(mixed):
    assert python(CODE, nnUNet_extTrainer=os.pathsep.join(["/other", f"{EXTENSION}/"])) == "declared 1"


def test_nnunet_finds_our_trainer():
    assert python(SEARCH, nnUNet_extTrainer=str(EXTENSION)) == "found nnUNetTrainerSpineSegDiff"


def test_a_plain_import_of_torch_imports_nothing_more_of_ours():
    code = "import sys, torch\nprint(sorted(name for name in sys.modules if name.startswith('nnunetv2')))"
    expected = ["nnunetv2_diffusion", "nnunetv2_diffusion.nnunet_names", "nnunetv2_diffusion.torch_plugin"]
    assert python(code) == str(expected)
