"""The demo with several raters: its commands recorded, and its figures from files of which every number is known."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from helpers.command_recorder import Recorder
from helpers.rater_samples import drawn_mask, every_mask, write_results, write_slices
from nnunetv2_diffusion.cli import build_parser, main
from nnunetv2_diffusion.dataset_conversion.patients import parse_patients
from nnunetv2_diffusion.demo import rater_run, rater_steps
from nnunetv2_diffusion.demo.cohort import choose_patients
from nnunetv2_diffusion.demo.mirrorings import read_mirrored, write_mirrored
from nnunetv2_diffusion.demo.output import open_folder
from nnunetv2_diffusion.demo.rater_run import run_rater_demo
from nnunetv2_diffusion.demo.rater_scores import (
    FOLDS,
    MASK,
    MIRRORINGS,
    PIXELS,
    SAMPLES,
    draw_pixels,
    measure_cases,
    summarise,
)
from nnunetv2_diffusion.demo.rater_steps import RaterDemo
from nnunetv2_diffusion.phantoms.raters import SHARES, Convention, every_convention
from nnunetv2_diffusion.pipeline.steps import Runner

EIGHT = list(every_mask().values())


@pytest.fixture
def demo(tmp_path: Path) -> RaterDemo:
    made = RaterDemo(tmp_path / "out", None, *choose_patients(None, 10), control_folds=(0, 1))
    open_folder(made)
    return made


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """In place of the processes; phantoms are not drawn and images not mirrored either."""
    made = Recorder()
    monkeypatch.setattr(RaterDemo, "runner", lambda self: Runner(self.folder, self.environment(), made))
    for name in ("write_phantoms", "write_mirrored"):
        monkeypatch.setattr(rater_steps, name, lambda *arguments, **options: None)
    return made


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_every_command_is_understood_and_every_trainer_exists(demo: RaterDemo) -> None:
    from nnunetv2_diffusion.extension import spinesegdiff_trainers

    commands = [shlex.split(step.command) for step in demo.steps() if step.command]
    for words in commands:
        if words[0] == "spinesegdiff":
            build_parser(words[1]).parse_args(words[1:])
    trained = [(option(c, "-tr"), c[3]) for c in commands if c[0] == "nnUNetv2_train"]
    control = "nnUNetTrainerSpineSegDiffControl_5epochs"
    assert trained == [("nnUNetTrainerSpineSegDiff_5epochs", "0"), (control, "0"), (control, "1")]
    assert all(hasattr(spinesegdiff_trainers, trainer) for trainer, _ in trained)


def test_training_and_unseen_patients_are_apart(demo: RaterDemo) -> None:
    convert = [shlex.split(step.command) for step in demo.steps() if "convert" in step.command]
    patients = [parse_patients(option(words, "--patients"))[1] for words in convert]
    assert patients == [set(demo.training), set(demo.unseen), set(demo.unseen)]
    assert "--splits" not in convert[0] and not (demo.folder / "splits.json").exists()
    assert "--out" not in convert[0] and [option(words, "--out") for words in convert[1:]] == ["unseen", "every_mask"]


def test_phantoms_are_drawn_with_raters_plain_and_with_every_mask(
    demo: RaterDemo, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(rater_steps, "write_phantoms", lambda *args, **options: drawn.append((*args[:3], options)))
    for step in demo.steps()[:3]:
        step.work()
    folders, patients, seeds, options = zip(*drawn, strict=True)
    assert [folder.name for folder in folders] == ["phantoms", "phantoms_unseen", "phantoms_every_mask"]
    assert patients == (demo.training, demo.unseen, demo.unseen) and set(seeds) == {0}
    assert [one.get("raters", 0) for one in options] == [3, 0, 0]
    assert options[2]["conventions"] == every_convention()


def test_a_second_run_calls_nothing_and_other_raters_are_refused(demo: RaterDemo, recorder: Recorder) -> None:
    demo.runner().run(demo.steps())
    calls = len(recorder.calls)
    demo.runner().run(demo.steps())
    assert calls == len(recorder.calls) == sum(bool(step.command) for step in demo.steps())
    with pytest.raises(ValueError, match="--overwrite"):
        open_folder(replace(demo, raters=4))
    (demo.folder / "mirrored").mkdir()
    open_folder(replace(demo, raters=4), overwrite=True)
    assert not (demo.folder / "mirrored").exists()


def test_mirrored_images_come_back_as_they_were(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 200, (48, 40)).astype(np.uint8)
    write_slices(tmp_path / "images" / "case_0000.nii.gz", image)
    write_mirrored(tmp_path / "images", tmp_path / "mirrored")
    arrays = []
    for number in range(4):
        path = tmp_path / "mirrored" / f"case_mirrored{number}_0000.nii.gz"
        arrays.append(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[..., 0])
        write_slices(tmp_path / "predicted" / f"case_mirrored{number}.nii.gz", arrays[-1])
    wanted = [np.flip(image, axes) for axes in ((), 0, 1, (0, 1))]
    assert all(np.array_equal(found, one) for found, one in zip(arrays, wanted, strict=True))
    back = read_mirrored(tmp_path / "predicted", "case")[..., 0]
    assert back.shape == (4, 48, 40) and (back == image).all()


def test_pixels_are_drawn_by_their_own_probabilities(tmp_path: Path) -> None:
    probabilities = np.broadcast_to(np.array([0.2, 0.5, 0.3])[:, None, None], (3, 100, 100))
    np.savez(tmp_path / "case.npz", probabilities=probabilities.astype(np.float16))
    drawn = draw_pixels(tmp_path / "case.npz", seed=3)
    assert drawn.shape == (16, 100, 100)
    assert [np.mean(drawn == label) for label in range(3)] == pytest.approx([0.2, 0.5, 0.3], abs=0.01)
    neighbours = np.corrcoef((drawn[:, :, 1:] == 1).ravel(), (drawn[:, :, :-1] == 1).ravel())[0, 1]
    assert abs(neighbours) < 0.02


def test_samples_of_the_true_distribution_are_perfect_and_a_mask_is_not(demo: RaterDemo) -> None:
    counts = {name: round(200 * np.prod(factors)) for name, factors in _factors().items()}
    true = [mask for name, mask in every_mask().items() for _ in range(counts[name])]
    assert len(true) == 200
    write_results(demo, true)
    table = summarise(measure_cases(demo)).set_index("method")
    assert list(table.index) == [SAMPLES, MASK, MIRRORINGS, PIXELS, FOLDS]
    assert table.loc[SAMPLES, "ged"] == pytest.approx(0, abs=1e-9)
    assert table.loc[SAMPLES, "largest_error"] == pytest.approx(0)
    # The control's mask leaves everything out, and its mirrorings and folds are the same mask.
    assert table.loc[MASK, "ged"] > 0.03
    for method in (MASK, MIRRORINGS, FOLDS):
        assert table.loc[method, ["share_endplates", "share_bulge", "share_epidural_fat"]].tolist() == [0, 0, 0]
        assert table.loc[method, "ged"] == pytest.approx(table.loc[MASK, "ged"])
        assert table.loc[method, "largest_error"] == pytest.approx(0.7)
    assert table.loc[PIXELS, "share_bulge"] > 0.9 and table.loc[PIXELS, "ged"] > table.loc[SAMPLES, "ged"]


def _factors() -> dict[str, list[float]]:
    """Name -> the probabilities of its choices, from the name itself."""
    return {
        name: [
            share if word == "in" else 1 - share for word, share in zip(name.split("_"), SHARES.values(), strict=True)
        ]
        for name in every_mask()
    }


def test_the_whole_run_ends_in_tables_and_pictures(
    tmp_path: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    demo = RaterDemo(folder, None, *choose_patients(None, 5))
    open_folder(demo)
    write_results(demo, EIGHT * 2)
    run_rater_demo(folder, patients=5, device="cpu")
    table = pd.read_csv(folder / "results.csv")
    assert table["method"].tolist() == [SAMPLES, MASK, MIRRORINGS, PIXELS]
    # Each of the eight as often as the others: half of the samples count each option in.
    assert table.loc[0, [f"share_{name}" for name in SHARES]].tolist() == [0.5, 0.5, 0.5]
    assert table.loc[0, "largest_error"] == pytest.approx(0.2) and table.loc[0, "masks"] == 16
    assert len(pd.read_csv(folder / "cases.csv")) == 4
    pictures = sorted(path.name for path in (folder / "pictures").iterdir())
    assert pictures == ["frequencies.png", "raters_SPIDER_005_t2.png"]
    printed = capsys.readouterr().out
    assert "known: endplates 0.50, bulge 0.70, epidural_fat 0.30" in printed
    assert "training patients' raters: endplates 0.50, bulge 0.00, epidural_fat 0.00" in printed


def test_the_picture_shows_the_raters_as_they_drew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = RaterDemo(tmp_path / "out", None, *choose_patients(None, 5))
    open_folder(demo)
    write_results(demo, EIGHT)
    drawn = []
    monkeypatch.setattr(rater_run, "draw_raters", lambda image, rated, rows, labels, title: drawn.append(rows))
    monkeypatch.setattr(rater_run, "save_png", lambda figure, path: None)
    monkeypatch.setattr(
        rater_run, "draw_conventions", lambda patient, contrast, seed, raters: [Convention(True, False, True)] * raters
    )
    rater_run.report(demo)
    ((raters, samples),) = drawn
    assert list(raters)[:3] == ["rater1", "rater2", "rater3"] and len(samples) == 5
    expected = drawn_mask(endplates=True, bulge=False, epidural_fat=True)
    assert np.array_equal(raters["rater2"][..., 0], expected)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--raters", "1"], "2 or more, not 1"),
        (["--raters", "3", "--compare"], "leave --compare out"),
        (["--raters", "3", "--spider", "x"], "leave --spider out"),
        (["--raters", "3", "--seed", "-1"], "the seed must be 0 or more"),
        (["--raters", "3", "--patients", "4"], "at least 5 patients"),
    ],
)
def test_bad_arguments_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main(["demo", "--out", str(tmp_path / "new"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "new").exists()
