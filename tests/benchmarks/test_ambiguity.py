"""benchmarks/ambiguity.py: the small form with recorded commands and results written here, and its verdict."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import pandas as pd
import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

import ambiguity
from ambiguity_runs.runs import SeededDemo
from ambiguity_runs.tables import verdict
from helpers.command_recorder import Recorder
from helpers.rater_samples import every_mask, write_results
from nnunetv2_diffusion.demo import rater_steps
from nnunetv2_diffusion.demo.cohort import choose_patients
from nnunetv2_diffusion.demo.output import open_folder
from nnunetv2_diffusion.pipeline.steps import Runner

METHODS = [
    "SpineSegDiff, samples",
    "Control, its mask",
    "Control, mirrorings",
    "Control, softmax pixel by pixel",
    "Control, folds",
]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """In place of the processes; phantoms are not drawn and images not mirrored either."""
    made = Recorder()
    monkeypatch.setattr(SeededDemo, "runner", lambda self: Runner(self.folder, self.environment(), made))
    for name in ("write_phantoms", "write_mirrored"):
        monkeypatch.setattr(rater_steps, name, lambda *arguments, **options: None)
    return made


def small_run(folder: Path, seed: int) -> SeededDemo:
    training, unseen = choose_patients(None, 10)
    options = {"raters": 3, "length": "2steps", "control_folds": (0, 1), "threads": 2}
    return SeededDemo(folder / f"seed_{seed}", None, training, unseen, seed, "cpu", **options)


def test_the_small_form_writes_its_tables(tmp_path: Path, recorder: Recorder, capsys: pytest.CaptureFixture):
    demo = small_run(tmp_path / "work", 4)
    open_folder(demo)
    write_results(demo, list(every_mask().values()) * 2)
    arguments = ["--work", tmp_path / "work", "--seeds", 4, 5, "--small", "--threads", 2, "--results", tmp_path]
    assert ambiguity.main([str(argument) for argument in arguments]) == 0
    table = pd.read_csv(tmp_path / "ambiguity.csv")
    assert table["method"].tolist() == METHODS and set(table["seed"]) == {4}
    # Each of the eight as often as the others, so that the bulge is in 0.2 too seldom.
    assert table.loc[0, "largest_error"] == pytest.approx(0.2)
    text = (tmp_path / "ambiguity.md").read_text(encoding="utf-8")
    assert (
        text in capsys.readouterr().out
        and "10 phantoms a seed, 3 raters, 2 optimiser steps a training; seeds [4]" in text
    )
    assert all(f"| {method} | " in text for method in METHODS)
    assert "target at most 0.1, missed" in text
    assert "counted in: endplates 0.50, bulge 0.00, epidural fat 0.00" in text
    calls = len(recorder.calls)
    assert ambiguity.main([str(argument) for argument in arguments]) == 0 and len(recorder.calls) == calls


def test_trainings_are_seeded_and_of_the_length_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    demo = small_run(tmp_path, 4)
    environment = demo.environment()
    assert environment["COMPARE_MODELS_SEED"] == "4" and environment["COMPARE_MODELS_THREADS"] == "2"
    monkeypatch.setenv("nnUNet_extTrainer", environment["nnUNet_extTrainer"])
    commands = [shlex.split(step.command) for step in demo.steps() if "nnUNetv2_train" in step.command]
    names = [words[words.index("-tr") + 1] for words in commands]
    assert names == ["nnUNetTrainerSpineSegDiff_2steps", *["nnUNetTrainerSpineSegDiffControl_2steps"] * 2]
    for name in names:
        with contextlib.redirect_stdout(None):
            assert recursive_find_trainer_class_by_name(name).steps == 2


def test_a_folder_of_another_length_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    open_folder(small_run(tmp_path, 0))
    assert ambiguity.main(["--work", str(tmp_path), "--seeds", "0", "--patients", "10", "--steps", "7"]) == 2
    assert "holds a demo of other patients or seed" in capsys.readouterr().err


def test_the_verdict_is_about_means_over_seeds_and_the_best_rival():
    shares = {"share_endplates": 0.5, "share_bulge": 0.75, "share_epidural_fat": 0.3}
    rest = {"ged_unbiased": 0.0, "matched_iou": 1.0, "diversity": 0.0, "largest_error": 0.0, **shares}
    ged = {"SpineSegDiff, samples": (0.01, 0.05), "Control, its mask": (0.1, 0.2), "Control, folds": (0.09, 0.11)}
    rows = [
        {"method": name, "seed": seed, "ged": value, **rest}
        for name, both in ged.items()
        for seed, value in enumerate(both)
    ]
    told = verdict(pd.DataFrame(rows))
    assert "0.30 of that of the best rival (Control, folds); target at most 0.33, reached" in told
    assert "0.05; target at most 0.1, reached" in told


def test_bad_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert ambiguity.main(["--work", str(tmp_path), "--raters", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ambiguity.py: error: ") and error.count("\n") == 1
