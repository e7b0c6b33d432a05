"""The demo's steps with the commands recorded instead of run: what is called, where, and what is kept."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from helpers.command_recorder import Recorder
from nnunetv2_diffusion.cli import build_parser, main
from nnunetv2_diffusion.dataset_conversion.patients import parse_patients
from nnunetv2_diffusion.demo.cohort import choose_patients, two_folds
from nnunetv2_diffusion.demo.models import MODELS, chosen_models
from nnunetv2_diffusion.demo.output import open_folder
from nnunetv2_diffusion.demo.steps import Demo
from nnunetv2_diffusion.phantoms.patients import write_phantoms
from nnunetv2_diffusion.pipeline.processes import find_script
from nnunetv2_diffusion.pipeline.steps import Step


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    training, unseen = choose_patients(None, 10)
    made = Demo(tmp_path / "out", None, training, unseen)
    open_folder(made)
    return made


def steps(demo: Demo) -> list[Step]:
    """The demo's steps without the writing of phantoms."""
    return [step for step in demo.steps() if step.command]


def run(demo: Demo, recorder: Recorder) -> dict:
    return replace(demo.runner(), execute=recorder).run(steps(demo))


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_the_last_fifth_stays_unseen() -> None:
    training, unseen = choose_patients(None, None)
    assert (len(training), len(unseen)) == (24, 6)
    assert max(training) < min(unseen)


def test_spiders_patients_are_those_with_a_t2w_scan(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    names = ["3_t2", "7_t2", "7_t1", "9_t1", "41_t2_SPACE", "50_t2", "51_t2", "60_t2"]
    for name in names:
        (tmp_path / "images" / f"{name}.mha").touch()
    assert choose_patients(tmp_path, None) == ((3, 7, 41, 50, 51), (60,))
    assert choose_patients(tmp_path, 5) == ((3, 7, 41, 50), (51,))


@pytest.mark.parametrize("number", [4, 0, -3])
def test_too_few_patients_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="at least 5 patients"):
        choose_patients(None, number)


def test_training_and_unseen_patients_are_converted_apart(demo: Demo) -> None:
    recorder = Recorder()
    run(demo, recorder)
    training, unseen = recorder.commands("spinesegdiff")[:2]
    assert parse_patients(option(training, "--patients"))[1] == set(demo.training)
    assert parse_patients(option(unseen, "--patients"))[1] == set(demo.unseen)
    assert "--out" not in training and option(unseen, "--out") == "unseen"
    assert option(training, "--splits") == "splits.json"


def test_every_command_is_one_of_the_stock_ones_and_is_understood(demo: Demo) -> None:
    for step in replace(demo, compare=True).steps():
        words = shlex.split(step.command)
        if words[:1] == ["spinesegdiff"]:
            build_parser(words[1]).parse_args(words[1:])
        elif words:
            assert words[0] in {"nnUNetv2_plan_and_preprocess", "nnUNetv2_train"}
            assert Path(find_script(words[0])).is_file()


def test_models_are_trained_in_their_folds_with_trainers_that_exist(demo: Demo) -> None:
    recorder = Recorder()
    run(replace(demo, compare=True), recorder)
    from nnunetv2.training.nnUNetTrainer.variants.training_length import nnUNetTrainer_Xepochs

    from nnunetv2_diffusion.extension import spinesegdiff_trainers

    trained = [(option(c, "-tr"), c[2], c[3]) for c in recorder.commands("nnUNetv2_train")]
    assert trained == [(m.trainer, m.configuration, str(fold)) for m in MODELS for fold in m.folds]
    for trainer, _, _ in trained:
        assert hasattr(spinesegdiff_trainers, trainer) or hasattr(nnUNetTrainer_Xepochs, trainer)


def test_pre_segmentation_comes_after_both_folds_of_nnunet_and_takes_its_masks(demo: Demo) -> None:
    recorder = Recorder()
    run(demo, recorder)
    words = [" ".join(command) for command, _, _ in recorder.calls]
    folds = [n for n, line in enumerate(words) if "-tr nnUNetTrainer_5epochs" in line and "nnUNetv2_train" in line]
    own = next(n for n, line in enumerate(words) if "nnUNetv2_train" in line and "PreSeg" in line)
    assert len(folds) == 2 and max(folds) < own
    predict = next(c for c in recorder.commands("spinesegdiff") if c[1] == "predict" and "PreSeg" in " ".join(c))
    baseline = next(c for c in recorder.commands("spinesegdiff") if c[1] == "predict")
    assert option(predict, "-prev_stage_predictions") == option(baseline, "-o")


def test_iisdm_and_single_samples_come_with_compare_alone() -> None:
    assert [model.name for model in chosen_models(False)] == [
        "nnU-Net",
        "SpineSegDiff",
        "SpineSegDiff + pre-segmentation",
    ]
    assert [model.name for model in chosen_models(True)] == [model.name for model in MODELS]


def test_adding_compare_keeps_what_was_trained(demo: Demo) -> None:
    run(demo, Recorder())
    recorder = Recorder()
    run(replace(demo, compare=True), recorder)
    assert {option(c, "-tr") for c in recorder.commands("nnUNetv2_train")} == {"nnUNetTrainerIISDM_5epochs"}


def test_nnunets_folders_lie_below_out_and_nowhere_else(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", "/somewhere/of/the/user")
    monkeypatch.setenv("MARK", "kept")
    recorder = Recorder()
    run(demo, recorder)
    for command, folder, environment in recorder.calls:
        assert folder == demo.folder and environment["MARK"] == "kept"
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            assert environment[name] == str(demo.folder / name)
        assert (Path(environment["nnUNet_extTrainer"]) / "spinesegdiff_trainers.py").is_file()
        if command[0] == "nnUNetv2_train":
            assert environment["nnUNet_n_proc_DA"] == "0"
        if command[0] == "nnUNetv2_plan_and_preprocess":
            assert environment["nnUNet_n_proc_DA"] == "1"


def test_a_second_run_calls_nothing(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(demo, Recorder())
    again = Recorder()
    assert run(demo, again) == first and not again.calls
    assert capsys.readouterr().out.count("kept from an earlier run") == len(first)


def test_a_failed_run_goes_on_where_it_stopped(demo: Demo) -> None:
    with pytest.raises(RuntimeError, match="failed"):
        run(demo, Recorder(failing="nnUNetTrainerSpineSegDiff_5epochs"))
    recorder = Recorder()
    run(demo, recorder)
    assert option(recorder.calls[0][0], "-tr") == "nnUNetTrainerSpineSegDiff_5epochs"


def test_a_failure_names_step_last_line_and_log(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(demo, Recorder(failing="nnUNetv2_train"))
    message = str(caught.value)
    assert "train-nnu_net-fold0" in message and "the last line" in message and "\n" not in message
    assert str(demo.folder / "logs" / "train-nnu_net-fold0.log") in message
    assert "first line" in capsys.readouterr().err


def test_a_folder_of_other_options_is_refused_unless_overwritten(demo: Demo) -> None:
    run(demo, Recorder())
    other = replace(demo, seed=1)
    with pytest.raises(ValueError, match="--overwrite"):
        open_folder(other)
    open_folder(other, overwrite=True)
    assert not (demo.folder / "logs").exists()
    recorder = Recorder()
    run(other, recorder)
    assert len(recorder.calls) == len(steps(other))


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no demo"):
        open_folder(Demo(tmp_path, None, (1, 2, 3, 4), (5,)), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_two_folds_part_the_training_cases(demo: Demo) -> None:
    folds = json.loads((demo.folder / "splits.json").read_text())
    assert folds == two_folds(demo.training)
    first, second = folds
    assert first["train"] == second["val"] and first["val"] == second["train"]
    assert sorted(first["train"] + first["val"]) == [f"SPIDER_{patient:03d}_t2" for patient in demo.training]


def test_the_converter_takes_the_demos_folds(demo: Demo) -> None:
    """The real converter on real phantoms: the folds are those of splits.json, the canvas that of the demo."""
    write_phantoms(demo.folder / "phantoms", demo.training[:4])
    folds = two_folds(demo.training[:4])
    (demo.folder / "splits.json").write_text(json.dumps(folds))
    command = shlex.split(demo.steps()[1].command)[1:]
    command[command.index("--patients") + 1] = "1-4"
    arguments = [str(demo.folder / word) if word in {"phantoms", "splits.json"} else word for word in command]
    assert main([*arguments, "--out", str(demo.folder / "nnUNet_raw")]) == 0
    folder = demo.folder / "nnUNet_raw" / "Dataset502_SPIDER_T2w"
    assert json.loads((folder / "splits_final.json").read_text()) == folds
    mask = sitk.ReadImage(str(folder / "labelsTr" / "SPIDER_001_t2.nii.gz"))
    assert mask.GetSize() == (1, 64, 112)
    assert np.unique(sitk.GetArrayFromImage(mask)).tolist() == [0, 1, 2, 3]


def test_bad_arguments_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path / "new"), "--patients", "3", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "at least 5 patients" in error
    assert main(["demo", "--out", str(tmp_path / "new"), "--spider", str(tmp_path / "none")]) == 2
    assert "is not a SPIDER folder" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
