"""`run_demo` with the commands recorded and their results written here: what it prints, the table, every picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from helpers.command_recorder import Recorder
from nnunetv2_diffusion.demo import steps
from nnunetv2_diffusion.demo.cohort import choose_patients
from nnunetv2_diffusion.demo.models import MODELS
from nnunetv2_diffusion.demo.output import open_folder
from nnunetv2_diffusion.demo.run import run_demo
from nnunetv2_diffusion.demo.steps import Demo
from nnunetv2_diffusion.pipeline.steps import Runner

CASE = "SPIDER_005_t2"  # the last of five patients stays unseen
LABELS = {"background": 0, "spinal_canal": 1, "vertebrae": 2, "discs": 3}


def write_slice(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array[..., None])
    image.SetSpacing((4.0, 2.0, 2.0))
    sitk.WriteImage(image, str(path))


def write_results(folder: Path) -> None:
    """What the commands leave: the unseen case, and of each model masks, maps, scores, timing and samples."""
    mask = np.zeros((56, 40), np.uint8)
    mask[5:50, 24:30], mask[5:20, 8:20], mask[22:26, 8:20] = 1, 2, 3
    unseen = folder / "unseen" / "Dataset502_SPIDER_T2w"
    write_slice(unseen / "labelsTr" / f"{CASE}.nii.gz", mask)
    write_slice(unseen / "imagesTr" / f"{CASE}_0000.nii.gz", mask.astype(np.float32))
    (unseen / "dataset.json").write_text(json.dumps({"labels": LABELS}))
    for slug in ("nnu_net", "iisdm", "spinesegdiff", "spinesegdiff_pre_segmentation"):
        write_slice(folder / "predictions" / slug / f"{CASE}.nii.gz", mask)
        maps = folder / "predictions" / slug / "uncertainty"
        write_slice(maps / f"{CASE}_uncertainty.nii.gz", mask.astype(np.float32) / 3)
        timing = {"seconds_per_slice": 0.5, "network_evaluations_per_slice": 4}
        (folder / "predictions" / slug / "timing.json").write_text(json.dumps(timing))
        (folder / "scores" / slug).mkdir(parents=True)
        (folder / "scores" / slug / "cases.csv").write_text(f"case,structure,dice\n{CASE},discs,0.5\n")
        for seed in range(1, 5):
            write_slice(folder / "samples" / slug / f"seed_{seed}" / f"{CASE}.nii.gz", mask)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """In place of the processes; phantoms are not drawn either."""
    made = Recorder()
    monkeypatch.setattr(Demo, "runner", lambda self: Runner(self.folder, self.environment(), made))
    monkeypatch.setattr(steps, "write_phantoms", lambda *arguments, **options: None)
    return made


def test_the_whole_comparison_ends_in_a_table_and_pictures(
    tmp_path: Path, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    open_folder(Demo(folder, None, *choose_patients(None, 5), 0, "cpu", True))
    write_results(folder)
    run_demo(folder, patients=5, device="cpu", compare=True)
    table = pd.read_csv(folder / "results.csv")
    assert table["Model"].tolist() == [model.name for model in MODELS]
    assert table["Evaluations a slice"].tolist() == [4, 4, 4, 8]
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == [f"{CASE}.png", f"samples_{CASE}.png"]
    printed = capsys.readouterr().out
    assert printed.startswith("4 phantoms to train on, 1 unseen") and f"$ cd {folder}" in printed
    assert f"$ export nnUNet_raw={folder / 'nnUNet_raw'}" in printed
    assert f"table: {folder / 'results.csv'}" in printed and f"logs: {folder / 'logs'}" in printed
    assert "mean ± standard deviation, after 1250 steps each" in printed


def test_without_comparison_no_samples_are_drawn(tmp_path: Path, recorder: Recorder) -> None:
    folder = tmp_path / "out"
    open_folder(Demo(folder, None, *choose_patients(None, 5), 0, "cpu"))
    write_results(folder)
    run_demo(folder, patients=5, device="cpu")
    assert [path.name for path in (folder / "pictures").iterdir()] == [f"{CASE}.png"]
    assert len(pd.read_csv(folder / "results.csv")) == 3
    assert not any("--samples" in command for command, _, _ in recorder.calls)


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seed must be 0 or more, not -1"):
        run_demo(tmp_path, seed=-1)
