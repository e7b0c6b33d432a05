"""`spinesegdiff export`: what is in the zip file, what is not, and that the same model is the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from helpers.segment_samples import CPU, phantom, preseg_plans, write_model
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.models.export import export_model
from nnunetv2_diffusion.models.install import install
from nnunetv2_diffusion.scans import load_model, segment

NAME = "Dataset502_Phantom/nnUNetTrainerSpineSegDiff__nnUNetPlans__2d"
SAGITTAL = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]])


def quiet(line: str) -> None:
    pass


def test_members_and_their_hashes(folder: Path, archive: Path):
    with zipfile.ZipFile(archive) as opened:
        contents = {name: opened.read(name) for name in opened.namelist()}
    files = ("plans.json", "dataset.json", "measurement_intervals.json", "fold_0/checkpoint_final.pth")
    assert contents.keys() == {f"{NAME}/{file}" for file in (*files, "fold_1/checkpoint_final.pth", "model.json")}
    card = json.loads(contents.pop(f"{NAME}/model.json"))
    assert card["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert json.loads(contents[f"{NAME}/plans.json"]) == json.loads((folder / "plans.json").read_text())


def test_nothing_of_patients_or_of_the_machine(archive: Path):
    with zipfile.ZipFile(archive) as opened:
        everything = b"".join(opened.read(name) for name in opened.namelist())
    assert b"somebody" not in everything and b"secret" not in everything and b"optimizer" not in everything


def test_card(archive: Path):
    with zipfile.ZipFile(archive) as opened:
        card = json.loads(opened.read(f"{NAME}/model.json"))
    assert card["model"]["folds"] == [0, 1] and card["model"]["trainer"] == "nnUNetTrainerSpineSegDiff"
    assert card["training"]["modality"] == "T2w" and card["training"]["cases"] == 1
    assert card["training"]["epochs"] == [1, 1] and card["training"]["torch"] == "2.6.0"
    assert card["settings"]["samples"] == 2 and card["settings"]["timesteps"] == 1000
    dice = [0.9 - 0.02, 0.8 - 0.02, 0.7 - 0.02]  # of label 2; the second case of fold 1 has none
    assert card["validation"]["vertebrae"] == {
        "dice_mean": pytest.approx(statistics.mean(dice)),
        "dice_sd": pytest.approx(statistics.stdev(dice)),
        "cases": 3,
    }
    assert "Not a medical device" in card["intended_use"] and card["licence"] == "not stated"


def test_the_same_model_is_the_same_bytes_whatever_it_lies_in(folder: Path, archive: Path, tmp_path: Path):
    copy = tmp_path / "elsewhere" / folder.parent.name / folder.name
    shutil.copytree(folder, copy)
    for file in copy.rglob("*"):
        os.utime(file, (1e9, 1e9))
    told = export_model(copy, tmp_path / "again.zip", say=quiet)
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    assert told == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert export_model(folder, tmp_path / "one.zip", folds=[1], say=quiet) != told


def test_optimiser_state_is_left_behind(tmp_path: Path):
    model = write_model(tmp_path)
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["optimizer_state"] = {"state": [w.clone() for w in checkpoint["network_weights"].values()] * 2}
    torch.save(checkpoint, file)
    export_model(model, tmp_path / "out.zip", say=quiet)
    assert (tmp_path / "out.zip").stat().st_size < 0.6 * file.stat().st_size


def test_an_installed_model_answers_the_same_under_the_same_hash(folder: Path, archive: Path):
    scan = phantom(SAGITTAL, (52, 60, 6), (1.0, 1.0, 4.0))[0]
    before = segment(scan, load_model(folder, runtime=CPU))
    after = segment(scan, load_model(install(str(archive)).folder, runtime=CPU))
    for image in ("mask", "uncertainty"):
        arrays = [sitk.GetArrayFromImage(getattr(found, image)) for found in (before, after)]
        np.testing.assert_array_equal(*arrays)
    with zipfile.ZipFile(archive) as opened:
        card = json.loads(opened.read(f"{NAME}/model.json"))
    assert before.report["model"]["hash"] == after.report["model"]["hash"] == card["hash"]
    one_fold = load_model(folder, folds=[0], runtime=CPU)
    assert one_fold.hash != card["hash"]


def test_a_changed_weight_is_another_model(folder: Path, tmp_path: Path):
    copy = tmp_path / folder.parent.name / folder.name
    shutil.copytree(folder, copy)
    file = copy / "fold_1" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    next(w for w in checkpoint["network_weights"].values() if w.is_floating_point()).view(-1)[0] += 1e-3
    torch.save(checkpoint, file)
    assert load_model(copy, runtime=CPU).hash != load_model(folder, runtime=CPU).hash


def test_a_stage_travels_with_its_baseline(tmp_path: Path):
    plans_file = preseg_plans()
    results = tmp_path / "results"
    write_model(results, "nnUNetTrainer", plans_file=plans_file, folds=(0, 1))
    made = write_model(results, "nnUNetTrainerSpineSegDiffPreSeg", "2d_preseg_T30", plans_file=plans_file)
    export_model(made, tmp_path / "stage.zip", say=quiet)
    model = install(str(tmp_path / "stage.zip"))
    assert model.folder.name == made.name and model.card["model"]["configuration"] == "2d_preseg_T30"
    loaded = load_model(model.folder, runtime=CPU)
    assert loaded.baseline.folds == [0, 1] and loaded.hash == model.card["hash"]


def test_nnunets_own_commands_take_and_make_such_files(
    folder: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """nnU-Net's installer on ours, and ours on nnU-Net's export: the same hash in the end."""

    def nnunet(command: str, *arguments: object) -> None:
        (entry,) = entry_points(group="console_scripts", name=command)
        monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
        entry.load()()

    (tmp_path / "theirs").mkdir()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "theirs"))
    nnunet("nnUNetv2_install_pretrained_model_from_zip", archive)
    theirs = load_model(tmp_path / "theirs" / NAME, runtime=CPU)
    monkeypatch.setenv("nnUNet_results", str(folder.parent.parent))
    flags = ("-tr", "nnUNetTrainerSpineSegDiff", "-c", "2d", "-f", 0, 1)
    nnunet("nnUNetv2_export_model_to_zip", "-d", 502, "-o", tmp_path / "nnunets.zip", *flags)
    model = install(str(tmp_path / "nnunets.zip"))
    assert model.card is None
    assert not list((model.folder).rglob("*.png"))
    ours = load_model(model.folder, runtime=CPU)
    assert theirs.hash == ours.hash == load_model(folder, runtime=CPU).hash


def test_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv("nnUNet_results", str(folder.parent.parent))
    file = tmp_path / "spine.zip"
    flags = ("--licence", "CC-BY-4.0", "--limits", "T1w")
    assert cli.main(["export", "-d", "502", "-c", "2d", "-f", "0", "-o", str(file), *flags]) == 0
    assert hashlib.sha256(file.read_bytes()).hexdigest() in capsys.readouterr().out
    with zipfile.ZipFile(file) as opened:
        card = json.loads(opened.read(f"{NAME}/model.json"))
    assert (card["licence"], card["limits"], card["model"]["folds"]) == ("CC-BY-4.0", "T1w", [0])
    assert cli.main(["export", "--model", str(folder), "-f", "3", "-o", str(tmp_path / "none.zip")]) == 2
    assert "fold_3" in capsys.readouterr().err and not (tmp_path / "none.zip").exists()
