"""The benchmarks' own code on tiny models: what is timed is the right thing, and the tables say what was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import LabelManager

import inference
import scaling
import startup
import training
from helpers.network_samples import images, network, sampled
from helpers.nnunet_samples import PATCH, TinyProject
from helpers.segment_samples import write_model
from nnunetv2_diffusion.planning.planner import add_configurations
from speed.cases import mean_dice, synthetic_slice
from speed.growth import noise_scan
from speed.methods import (
    NNUNET,
    OURS,
    PRESEG,
    PRESEG_WITH_BASELINE,
    LoadedMethod,
    Method,
    predict_published_way,
)
from speed.planned import quietly
from speed.rows import measure, memory_of, methods
from speed.tables import write_inference

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.mark.parametrize("script", ["inference", "training"])
def test_help(script: str):
    told = subprocess.run(
        [sys.executable, BENCHMARKS / f"{script}.py", "--help"], capture_output=True, encoding="utf-8"
    )
    assert told.returncode == 0
    assert "--results" in told.stdout and "--memory-of" not in told.stdout


@pytest.mark.parametrize("regions", [False, True])
def test_the_published_way_computes_what_ours_does_with_as_many_evaluations(regions: bool):
    net = network(sampled(mirror_samples=False), regions=regions)
    ours = net.predict(images())
    counted = net.network_evaluations, net.encoder_evaluations
    published = predict_published_way(net, images())
    torch.testing.assert_close(published.logits, ours.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(published.uncertainty, ours.uncertainty, atol=1e-4, rtol=1e-4)
    assert (net.network_evaluations, net.encoder_evaluations) == (2 * counted[0], 2 * counted[1])


def test_rows_of_trained_models(folders: dict[str, Path]):
    wanted = methods([1, 3], [2, 4, 8], folders)
    assert len([method for method in wanted if method.kind == OURS]) == 10  # a grid of six, in float32, the presets
    rows = {kind: next(m for m in wanted if m.kind == kind) for kind in (NNUNET, OURS)}
    nnunet = measure(rows[NNUNET], folders, synthetic_slice(PATCH[0]), CPU, 2)
    assert (nnunet["network_evaluations"], nnunet["encoder_evaluations"]) == (4, 0)
    ours = measure(rows[OURS], folders, synthetic_slice(PATCH[0]), CPU, 2)
    assert (ours["method"], ours["samples"], ours["steps"]) == ("ours, float32", 3, 4)
    assert (ours["network_evaluations"], ours["encoder_evaluations"]) == (12, 3)
    assert ours["seconds"] > 0 and ours["times_nnunet"] > 0 and ours["speedup_over_published"] > 0


def test_dice_of_real_files_is_that_of_nnunets_own_prediction(folders: dict[str, Path], tiny: TinyProject, tmp_path):
    """nnU-Net's masks, scored with a Dice written out here."""
    raw = tiny.root / "raw" / f"Dataset{tiny.dataset()}_Tiny"
    found = mean_dice(
        LoadedMethod(Method(NNUNET), folders, CPU),
        raw / "imagesTr",
        raw / "labelsTr",
        folders["baseline"] / "dataset.json",
    )
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folders["baseline"]), [0])
    predictor.predict_from_files_sequential(str(raw / "imagesTr"), str(tmp_path))
    scores = []
    for path in sorted(tmp_path.glob("*.nii.gz")):
        prediction, reference = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in (path, raw / "labelsTr" / path.name)
        )
        of_case = []
        for label in (1, 2):
            a, b = prediction == label, reference == label
            of_case.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        scores.append(np.mean(of_case))
    assert found == pytest.approx(np.mean(scores))


def test_every_part_of_a_training_iteration_is_timed(tiny: TinyProject):
    preprocessed = str(tiny.preprocessed(tiny.dataset()))
    task = {"preprocessed": preprocessed, "configuration": "2d", "batch_size": 3, "device": "cpu", "threads": 1}
    rows = training.compare(task, ("TinyPlainTrainer", "TinyDiffusionTrainer"), iterations=3, memory=False)
    assert [row["trainer"] for row in rows] == ["TinyPlainTrainer", "TinyDiffusionTrainer"]
    assert rows[0]["times_nnunet"] == 1
    for row in rows:
        parts = [row[name] for name in ("loader", "forward", "loss", "backward", "optimiser", "rest")]
        assert 0 < min(parts) < max(parts) < row["seconds"]


def test_tables_have_the_figures_of_one_device_and_empty_cells_for_the_other(tmp_path: Path):
    row = {"method": "ours", "samples": 4, "steps": 10, "network_evaluations": 40.0, "seconds": 1.234567}
    about = {"stem": "inference", "device": "cpu", "about": "a slice", "command": "python benchmarks/inference.py"}
    write_inference([row], tmp_path, **about)
    text = (tmp_path / "inference.md").read_text()
    assert "| ours | 4 | 10 | 40 | 1.23 |" in text.split("## GPU")[0]
    assert "Not measured" in text.split("## GPU")[1] and "| ours | 4 | 10 |  |  |" in text.split("## GPU")[1]
    table = pd.read_csv(tmp_path / "inference_cpu.csv")
    assert table.loc[0, "command"] == "python benchmarks/inference.py"
    assert torch.__version__ in table.loc[0, "machine"] and table["date"].notna().all()


def test_inference_with_trained_models_from_the_command_line(
    folders: dict[str, Path], tiny: TinyProject, tmp_path: Path, restored_environment: None
):

    raw = tiny.root / "raw" / f"Dataset{tiny.dataset()}_Tiny"
    arguments = ["--images", raw / "imagesTr", "--labels", raw / "labelsTr", "--results", tmp_path, "--no-memory"]
    arguments += [part for kind, folder in folders.items() for part in (f"--{kind}", folder)]
    arguments += ["--samples", 2, "--steps", 1, 3, "--repeats", 2, "--threads", 1, "--name", "tiny"]
    assert inference.main([str(argument) for argument in arguments]) == 0
    table = pd.read_csv(tmp_path / "inference_tiny_cpu.csv")
    assert table["network_evaluations"].tolist() == [4, 6, 6, 2, 6, 4, 20, 80]
    assert table["dice"].notna().all()
    assert "Dice" in (tmp_path / "inference_tiny.md").read_text()


def test_inference_refuses_models_without_images(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert inference.main(["--model", str(tmp_path)]) == 2
    assert "--images" in capsys.readouterr().err


def test_training_from_the_command_line(tiny: TinyProject, tmp_path: Path, restored_environment: None):
    preprocessed = tiny.preprocessed(tiny.dataset())
    arguments = ["--preprocessed", preprocessed, "--batch-size", 0, "--iterations", 1, "--no-memory", "--threads", 1]
    assert training.main([str(argument) for argument in [*arguments, "--results", tmp_path]]) == 0
    table = pd.read_csv(tmp_path / "training_cpu.csv")
    assert table["trainer"].tolist() == ["nnUNetTrainer", "nnUNetTrainerSpineSegDiff"]
    assert not any(preprocessed.parent.glob("*/nnUNetTrainer*"))


def test_peak_memory_is_told(folders: dict[str, Path], tmp_path: Path):
    torch.save(synthetic_slice(PATCH[0]), tmp_path / "slice.pt")
    method = {"kind": "ours", "samples": 2, "steps": 2, "precision": "auto"}
    names = {kind: str(folder) for kind, folder in folders.items()}
    task = {"method": method, "folders": names, "data": str(tmp_path / "slice.pt"), "device": "cpu", "threads": 1}
    assert 50 < memory_of(task)["peak_memory_mib"] < 50_000


def test_slices_and_the_converter_from_the_command_line(
    tmp_path: Path, real_mri: Path, restored_environment: None, capsys: pytest.CaptureFixture
):

    spider = tmp_path / "spider"
    for part in ("images", "masks"):
        (spider / part).mkdir(parents=True)
        for scan in sorted((real_mri / "spider_layout" / part).glob("*_t2.mha"))[:2]:
            (spider / part / scan.name).symlink_to(scan)
    arguments = ["--slices", "1", "3", "--samples", "1", "0", "--scans", "2", "--commands", "1", "--size", "64"]
    arguments += ["--copies", "3", "--processes", "1", "--repeats", "1", "--threads", "1"]
    assert scaling.main([*arguments, "--spider", str(spider), "--results", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "scaling.csv")
    assert table["what"].tolist() == [*["network"] * 4, "segment", "spinesegdiff segment", "6 series"]
    assert table["slices"].tolist()[:-1] == [1, 3, 1, 3, 2, 1]
    assert table["samples"].tolist()[:5] == [1, 1, 4, 4, 4]
    assert (table["seconds"] > 0).all() and table.loc[6, "ratio"] == 1
    np.testing.assert_allclose(table["seconds"], table["seconds_each"] * table["slices"].fillna(6), rtol=1e-4)
    assert table.loc[6, "minutes_of_spider"] == pytest.approx(447 * table.loc[6, "seconds_each"] / 60, rel=1e-4)
    assert "## Converter" in capsys.readouterr().out


def test_scaling_without_scans_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert scaling.main(["--spider", str(tmp_path / "none"), "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("scaling.py: error: ") and error.count("\n") == 1


def test_parts_of_the_start_up_make_up_the_whole(tmp_path: Path):
    scan = tmp_path / "scan.mha"
    sitk.WriteImage(noise_scan(PATCH[0]), str(scan))
    parts = startup._parts(write_model(tmp_path), scan, tmp_path / "out", threads=1)
    assert (tmp_path / "out" / "scan.json").is_file()
    assert parts["import of PyTorch"][0] > 0.1
    for k in (0, 1):
        each = [seconds[k] for part, seconds in parts.items() if part not in (startup.BEFORE_A_SCAN, startup.COMMAND)]
        assert parts[startup.COMMAND][k] == pytest.approx(sum(each) - parts["second scan"][k])
    args = startup.build_parser().parse_args(["--results", str(tmp_path), "--repeats", "1"])
    text = startup._write(parts, args, "python benchmarks/startup.py", {"machine": "one", "date": "today"})
    assert "| second scan |" in text and text.splitlines()[-1].startswith(f"| {startup.COMMAND} |")
    assert pd.read_csv(tmp_path / "startup.csv")["times_a_scan"].iloc[-3] == 1


def test_pre_segmentation_is_measured_with_the_baselines_own_mask(tiny: TinyProject):
    number = tiny.dataset()
    plans_file = tiny.preprocessed(number) / "nnUNetPlans.json"
    add_configurations(plans_file, timesteps=[6], previous_trainer="TinyPlainTrainer")
    with quietly():
        for fold in range(5):
            tiny.train(number, fold, "TinyPlainTrainer")
        stage = tiny.train(number, 0, "TinyPreSeg", configuration="2d_preseg_T6")
    folders = {"baseline": tiny.model(trainer="TinyPlainTrainer"), "preseg": stage}
    data = synthetic_slice(PATCH[0])
    kinds = PRESEG, PRESEG_WITH_BASELINE
    alone, with_baseline = (LoadedMethod(Method(kind, 2, 3), folders, CPU) for kind in kinds)
    alone.prepare(data)
    torch.testing.assert_close(alone(data), with_baseline(data))
    assert (alone.evaluations()[0], with_baseline.evaluations()[0]) == (6, 6 + 4)
    baseline = alone.baseline
    labels: LabelManager = baseline.label_manager
    mask = labels.convert_logits_to_segmentation(baseline.predict_sliding_window_return_logits(data).float())
    appended = alone.with_mask(data)[1:]
    for channel, label in zip(appended, labels.foreground_labels, strict=True):
        assert torch.equal(channel, (torch.as_tensor(mask) == label).float())
