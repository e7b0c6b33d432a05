"""How `spinesegdiff plan` treats the plans file: nothing lost, nothing overwritten, one sentence for bad input."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.planning.planner import add_configurations


def load(path: Path) -> dict:
    return json.loads(path.read_text())


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a `spinesegdiff plan` that ends with exit code 2."""
    assert main(["plan", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_second_run_changes_nothing(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans_file = flat / "nnUNetPlans.json"
    command = ["plan", "-d", "501", "--timesteps", "30", "100", "--small", "--paper-baselines"]
    before = plans_file.read_bytes()
    assert main(command) == 0
    said = capsys.readouterr().out
    for name in ("2d_spinesegdiff", "2d_small", "2d_paper", "2d_preseg_T30", "2d_preseg_T100"):
        assert f"added {name}:" in said
    assert "next_stage of 2d is now ['2d_preseg_T30', '2d_preseg_T100']" in said
    backup = flat / "nnUNetPlans.json.bak"
    assert backup.read_bytes() == before
    stamps = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in (plans_file, backup)]
    time.sleep(0.02)
    assert main(command) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert [(path.stat().st_mtime_ns, path.stat().st_ino) for path in (plans_file, backup)] == stamps
    assert sorted(path.name for path in flat.iterdir() if path.name.startswith(".")) == []


def test_every_key_of_others_stays(flat: Path) -> None:
    plans_file = flat / "nnUNetPlans.json"
    plans = load(plans_file)
    plans["my_note"] = {"é": [1, 2.5, None]}
    plans["configurations"]["2d"]["my_key"] = "kept"
    plans["configurations"]["2d_mine"] = {"inherits_from": "2d", "batch_size": 9}
    plans_file.write_text(json.dumps(plans))
    plans_file.chmod(0o640)
    add_configurations(plans_file, timesteps=[30], small=True)
    after = load(plans_file)
    assert after["configurations"]["2d"].pop("next_stage") == ["2d_preseg_T30"]
    for name in ("2d_spinesegdiff", "2d_small", "2d_preseg_T30"):
        assert after["configurations"].pop(name)["written_by"] == "spinesegdiff plan"
    assert after == plans
    modes = {path.stat().st_mode & 0o777 for path in (plans_file, flat / "nnUNetPlans.json.bak")}
    assert modes == {0o640}


def test_stages_of_earlier_calls_and_of_others_stay_linked(flat: Path) -> None:
    plans_file = flat / "nnUNetPlans.json"
    plans = load(plans_file)
    plans["configurations"]["2d"]["next_stage"] = "2d_mine"
    plans["configurations"]["2d_mine"] = {"inherits_from": "2d", "previous_stage": "2d", "next_stage": None}
    plans_file.write_text(json.dumps(plans))
    add_configurations(plans_file, timesteps=[100])
    add_configurations(plans_file, timesteps=[30, 1000], base="2d_spinesegdiff")
    add_configurations(plans_file, timesteps=[30], base="2d_small")
    configurations = load(plans_file)["configurations"]
    assert configurations["2d"]["next_stage"] == ["2d_mine", "2d_preseg_T30", "2d_preseg_T100", "2d_preseg_T1000"]
    assert configurations["2d_small"]["next_stage"] == ["2d_small_preseg_T30"]


def test_planning_again_with_nnunet_loses_only_the_links_and_they_come_back(flat: Path) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments

    plans_file = flat / "nnUNetPlans.json"
    add_configurations(plans_file, timesteps=[30])
    before = load(plans_file)
    plan_experiments([501])
    assert "next_stage" not in load(plans_file)["configurations"]["2d"]
    add_configurations(plans_file)
    assert load(plans_file) == before


def test_a_stage_removed_by_hand_is_unlinked(flat: Path) -> None:
    plans_file = flat / "nnUNetPlans.json"
    add_configurations(plans_file, timesteps=[30, 100])
    plans = load(plans_file)
    del plans["configurations"]["2d_preseg_T30"]
    plans_file.write_text(json.dumps(plans))
    add_configurations(plans_file)
    assert load(plans_file)["configurations"]["2d"]["next_stage"] == ["2d_preseg_T100"]


def test_tuned_settings_stay_and_links_follow_the_call(flat: Path) -> None:
    plans_file = flat / "nnUNetPlans.json"
    add_configurations(plans_file, timesteps=[30])
    plans = load(plans_file)
    plans["configurations"]["2d_spinesegdiff"]["batch_size"] = 2
    plans["configurations"]["2d_preseg_T30"]["diffusion"].update(samples=8, seed=7, timesteps=31)
    plans["configurations"]["2d_preseg_T30"]["my_key"] = 1
    plans_file.write_text(json.dumps(plans))
    changes = add_configurations(plans_file, timesteps=[30], base="2d_spinesegdiff", previous_trainer="nnUNetTrainer_x")
    assert sorted(changes[:-1]) == [
        f"changed {key} of 2d_preseg_T30" for key in ("diffusion", "inherits_from", "pre_segmentation")
    ]
    configurations = load(plans_file)["configurations"]
    stage = configurations["2d_preseg_T30"]
    assert configurations["2d_spinesegdiff"]["batch_size"] == 2
    assert (stage["inherits_from"], stage["previous_stage"], stage["my_key"]) == ("2d_spinesegdiff", "2d", 1)
    assert stage["pre_segmentation"]["previous_trainer"] == "nnUNetTrainer_x"
    assert (stage["diffusion"]["samples"], stage["diffusion"]["seed"], stage["diffusion"]["timesteps"]) == (8, 7, 30)


def test_a_tuned_setting_out_of_range_is_named(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans_file = flat / "nnUNetPlans.json"
    add_configurations(plans_file, timesteps=[30])
    plans = load(plans_file)
    plans["configurations"]["2d_preseg_T30"]["diffusion"]["sampling_steps"] = 500
    plans_file.write_text(json.dumps(plans))
    message = fails(capsys, "-d", "501", "--timesteps", "30")
    assert "2d_preseg_T30" in message
    assert "sampling_steps is 500" in message


@pytest.mark.parametrize("name", ["2d_spinesegdiff", "2d_small", "2d_paper", "2d_preseg_T30"])
def test_configurations_of_others_are_not_overwritten(
    flat: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    plans_file = flat / "nnUNetPlans.json"
    plans = load(plans_file)
    plans["configurations"][name] = {"inherits_from": "2d", "batch_size": 9}
    plans_file.write_text(json.dumps(plans))
    before = plans_file.read_bytes()
    message = fails(capsys, "-d", "501", "--timesteps", "30", "--small", "--paper-baselines")
    assert f"already have a configuration {name}" in message
    assert plans_file.read_bytes() == before
    assert not (flat / "nnUNetPlans.json.bak").exists()


def test_plans_behind_a_link_are_written_where_they_lie(flat: Path, tmp_path: Path) -> None:
    real = (flat / "nnUNetPlans.json").rename(tmp_path / "real.json")
    (flat / "nnUNetPlans.json").symlink_to(real)
    add_configurations(flat / "nnUNetPlans.json")
    assert (flat / "nnUNetPlans.json").is_symlink()
    assert "2d_spinesegdiff" in load(real)["configurations"]


@pytest.mark.parametrize("value", ["0", "-3", "30.5", "many"])
def test_timesteps_must_be_whole_and_positive(flat: Path, capsys: pytest.CaptureFixture[str], value: str) -> None:
    message = fails(capsys, "-d", "501", "--timesteps", "30", value)
    assert f"whole number of at least 1, not '{value}'" in message
    assert "2d_spinesegdiff" not in load(flat / "nnUNetPlans.json")["configurations"]


@pytest.mark.parametrize("choice", [{"base": "3d_fullres"}, {"previous_trainer": "a trainer"}, {"timesteps": [True]}])
def test_python_callers_get_value_errors_too(flat: Path, choice: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(choice))):
        add_configurations(flat / "nnUNetPlans.json", **choice)


def test_preprocessed_folder_not_set_or_missing(
    flat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("nnUNet_preprocessed", str(flat / "nowhere"))
    assert "nowhere, which is no folder" in fails(capsys, "-d", "501")
    monkeypatch.delenv("nnUNet_preprocessed")
    assert "nnUNet_preprocessed is not set" in fails(capsys, "-d", "501")


def test_unknown_datasets_and_plans(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no dataset 777" in fails(capsys, "-d", "777")
    assert "no dataset Dataset777_Nothing" in fails(capsys, "-d", "Dataset777_Nothing")
    assert "named by its number, such as 502, or as DatasetXXX_NAME, not 'spider'" in fails(capsys, "-d", "spider")
    message = fails(capsys, "-d", "Dataset501_Tiny2D", "-p", "otherPlans")
    assert "no plans file" in message
    assert "nnUNetPlans or nnUNetResEncUNetMPlans" in message
    assert "nnUNetv2_plan_and_preprocess -d 501" in message
    (flat.parent / "Dataset501_Twin").mkdir()
    assert "Dataset501_Tiny2D, Dataset501_Twin" in fails(capsys, "-d", "501")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"configurations": {', "is no valid JSON"),
        ("[]", "should hold a dict, not a list"),
        ("{}", "no dictionary `configurations`"),
        ('{"configurations": {"2d": 3}}', "no dictionary `configurations`"),
        ('{"configurations": {"3d_fullres": {}}}', "has no configuration 2d, only 3d_fullres"),
    ],
)
def test_unusable_plans(flat: Path, capsys: pytest.CaptureFixture[str], content: str, expected: str) -> None:
    (flat / "nnUNetPlans.json").write_text(content)
    message = fails(capsys, "-d", "501", "--timesteps", "30")
    assert expected in message
    assert "nnUNetPlans.json" in message
    assert (flat / "nnUNetPlans.json").read_text() == content


def test_dataset_json_missing(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (flat / "dataset.json").unlink()
    assert "dataset.json does not exist" in fails(capsys, "-d", "501", "--timesteps", "30")


def test_read_only_plans_file(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans_file = flat / "nnUNetPlans.json"
    plans_file.chmod(0o444)
    before = plans_file.read_bytes()
    assert "nnUNetPlans.json is read-only" in fails(capsys, "-d", "501")
    assert plans_file.read_bytes() == before


def test_read_only_folder_leaves_no_trace(
    flat: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # root may write anywhere, so the refusal of the folder is played
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    before = {path.name: path.read_bytes() for path in flat.iterdir() if path.is_file()}
    monkeypatch.setattr(os, "replace", refuse)
    message = fails(capsys, "-d", "501")
    assert "which is read-only" in message
    assert str(flat) in message
    assert {path.name: path.read_bytes() for path in flat.iterdir() if path.is_file()} == before
