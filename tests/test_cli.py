"""The command itself: quick help, exit codes, one-line errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.console import COMMANDS as SCRIPTS
from helpers.console import command_environment, run
from nnunetv2_diffusion import cli

HEAVY = ("torch", "nnunetv2", "numpy", "SimpleITK", "matplotlib", "pandas", "scipy")


@pytest.mark.parametrize("arguments", [["--help"], ["trainers"], ["predict", "--help"], ["convert", "--help"]])
def test_quick_answers_import_nothing_heavy(arguments: list[str]):
    script = (
        "import sys\nfrom nnunetv2_diffusion.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as leaving:\n    assert leaving.code == 0\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\nassert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd="/",  # the installed package, not the checkout's
        env=command_environment({}),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_the_extension_folder_is_printed_alone():
    folder = Path(run("spinesegdiff", "trainers").removesuffix("\n"))
    assert folder.is_dir()
    assert list(folder.glob("*.py")) == [folder / "spinesegdiff_trainers.py"]


def test_help_names_every_command_and_its_summary():
    text = " ".join(run("spinesegdiff", "--help", COLUMNS="300").split())
    assert list(cli.COMMANDS) == sorted(cli.COMMANDS, key=lambda name: text.index(f" {name} {cli.COMMANDS[name]}"))


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as leaving:
        cli.main([name, "--help"])
    assert leaving.value.code == 0
    assert f"usage: spinesegdiff {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["segmentation"], ["predict"], ["predict", "-i", "a", "--sampels", "3"]])
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as leaving:
        cli.main(arguments)
    assert leaving.value.code == 2
    assert "usage: spinesegdiff" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError, RuntimeError, FileNotFoundError, PermissionError, NotADirectoryError])
def test_an_error_is_one_line_and_a_traceback_on_request(error, monkeypatch: pytest.MonkeyPatch, capsys):
    from nnunetv2_diffusion.commands import trainers

    def fail(args) -> None:
        raise error("the file is\nno image;   convert it")

    monkeypatch.setattr(trainers, "run", fail)
    assert cli.main(["trainers"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "spinesegdiff trainers: error: the file is no image; convert it\n"
    with pytest.raises(error):
        cli.main(["--debug", "trainers"])


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    from nnunetv2_diffusion.commands import trainers

    monkeypatch.setattr(trainers, "run", lambda args: {}["missing"])
    with pytest.raises(KeyError):
        cli.main(["trainers"])


def test_the_console_script_returns_the_exit_code(tmp_path: Path):
    arguments = ["predict", "-i", tmp_path / "nowhere", "-o", tmp_path / "out", "-d", "1", "-c", "2d"]
    done = subprocess.run(
        [SCRIPTS / "spinesegdiff", *arguments],
        env=command_environment({}),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("spinesegdiff predict: error: nnUNet_results is not set")
    assert not (tmp_path / "out").exists()
