"""Folders of scans: what is finished stays, what changed is done again, and what arrives is taken when it is whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch

from helpers.segment_samples import (
    CPU,
    one_thread,  # noqa: F401
    phantom,
    predict_by_threshold,
    write_dicom,
    write_threshold_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.scans import load_model
from nnunetv2_diffusion.scans.segmentation import Options
from nnunetv2_diffusion.scans.watching import Arrivals, stopped_by_signals, watch_folder

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_model(tmp_path_factory.mktemp("results"))


@pytest.fixture(autouse=True)
def known_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)


@pytest.fixture(scope="module")
def scan() -> sitk.Image:
    return phantom(np.eye(3), (6, 52, 60), (4.0, 1.0, 1.0))[0]


@pytest.fixture
def cohort(scan: sitk.Image, tmp_path: Path) -> Path:
    scans = tmp_path / "scans"
    scans.mkdir()
    for number, name in enumerate(NAMES):
        sitk.WriteImage(scan + number, str(scans / f"{name}.nii.gz"))
    return scans


def run(*arguments: object) -> int:
    return cli.main(["segment", *map(str, arguments)])


def done(capsys: pytest.CaptureFixture) -> list[str]:
    """The scans that a run says it segmented."""
    return [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if " s" in line and ":" in line]


def test_a_second_run_does_what_is_left(folder, cohort, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(cohort, out, "--model", folder) == 0 and done(capsys) == [*NAMES]
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    for path in [*cohort.iterdir(), *out.iterdir()]:
        os.utime(path)  # times of files mean nothing
    assert {"index.html", "summary.csv"} < before.keys()
    (out / "b_uncertainty.nii.gz").unlink()
    assert run(cohort, out, "--model", folder) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [
        "b",
        "2 of 3 scans were finished already (--overwrite does them again)",
    ]
    assert {path.name for path in out.iterdir()} == before.keys()
    assert run(cohort, out, "--model", folder, "--overwrite") == 0 and done(capsys) == [*NAMES]


def test_another_scan_under_the_name_is_segmented(folder, cohort, scan, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(cohort, out, "--model", folder) == 0
    state = (cohort / "a.nii.gz").stat()
    sitk.WriteImage(scan + 7, str(cohort / "a.nii.gz"))
    os.utime(cohort / "a.nii.gz", ns=(state.st_atime_ns, state.st_mtime_ns))
    done(capsys)
    assert run(cohort, out, "--model", folder) == 0 and done(capsys) == ["a"]


@pytest.mark.parametrize(
    "flags", [("--seed", 3), ("--slices", "all"), ("--review", "canals=2"), ("--save-probabilities",)]
)
def test_another_request_is_another_result(folder, cohort, tmp_path, capsys, flags):
    out = tmp_path / "out"
    assert run(cohort / "a.nii.gz", out, "--model", folder) == 0
    done(capsys)
    assert run(cohort / "a.nii.gz", out, "--model", folder, *flags) == 0 and done(capsys) == ["a"]
    assert run(cohort / "a.nii.gz", out, "--model", folder, *flags) == 0 and done(capsys) == []


def test_a_copied_model_is_the_same_and_a_changed_one_is_not(folder, cohort, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(cohort, out, "--model", folder) == 0
    copy = tmp_path / "copies" / folder.parent.name / folder.name
    shutil.copytree(folder, copy)
    done(capsys)
    assert run(cohort, out, "--model", copy) == 0 and done(capsys) == []
    plans = json.loads((copy / "plans.json").read_text())
    plans["configurations"]["2d"]["diffusion"]["samples"] = 3
    (copy / "plans.json").write_text(json.dumps(plans))
    assert run(cohort, out, "--model", copy) == 0 and done(capsys) == [*NAMES]


def test_a_damaged_json_is_no_result(folder, cohort, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(cohort, out, "--model", folder) == 0
    (out / "a.json").write_text("{")
    (out / "b.json").write_text('{"files": 3}')
    done(capsys)
    assert run(cohort, out, "--model", folder) == 0 and done(capsys) == ["a", "b"]


def test_images_in_two_files_and_dicom_series(folder, scan, tmp_path, capsys):
    scans, out = tmp_path / "two_files", tmp_path / "out"
    scans.mkdir()
    sitk.WriteImage(scan, str(scans / "scan[1].mhd"))
    dicom = write_dicom(tmp_path / "dicom", scan)
    for given in (scans, dicom):
        assert run(given, out, "--model", folder) == 0 and len(done(capsys)) == 1
        assert run(given, out, "--model", folder) == 0 and done(capsys) == []
    raw = scans / "scan[1].raw"
    raw.write_bytes(raw.read_bytes()[::-1])
    assert run(scans, out, "--model", folder) == 0 and done(capsys) == ["scan[1]"]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_what_overlaps_gives_the_same(folder, cohort, scan, tmp_path, capsys, workers):
    (cohort / "bad.nii.gz").write_text("no image")
    out = tmp_path / "out"
    assert run(cohort, out, "--model", folder, "-np", workers) == 2
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == [*NAMES]
    assert said.err.count("bad.nii.gz was not segmented") == 1
    masks = [sitk.GetArrayFromImage(sitk.ReadImage(str(out / f"{name}.nii.gz"))) for name in NAMES]
    assert masks[0].any() and all((mask == masks[0]).all() for mask in masks)
    assert run(cohort, out, "--model", folder, "-np", -1) == 2


def test_reading_and_writing_overlap_with_the_model(folder, cohort, tmp_path, monkeypatch):
    """While the model computes b, a is still being written and c is read: each waits for the others to have begun."""
    from nnunetv2_diffusion.scans import cohort as queue
    from nnunetv2_diffusion.scans import sources

    meeting = threading.Barrier(3, timeout=20)
    read, write = sources.ScanSource.read, queue.write_segmentation

    def meet(name: str, expected: str) -> None:
        if name == expected:
            meeting.wait()

    def reading(source):
        meet(source.name, "c")
        return read(source)

    def writing(found, folder, source, *rest):
        meet(source.name, "a")
        write(found, folder, source, *rest)

    monkeypatch.setattr(sources.ScanSource, "read", reading)
    monkeypatch.setattr(queue, "write_segmentation", writing)
    model = load_model(folder, runtime=CPU)
    asked = iter(NAMES)

    def predicting(*arguments, **options):
        meet(next(asked), "b")
        return predict_by_threshold(*arguments, **options)

    monkeypatch.setattr(DiffusionNetwork, "predict", lambda self, *a, **o: predicting(self, *a, **o))
    from nnunetv2_diffusion.scans.segmentation import segment_files

    assert segment_files(cohort, tmp_path / "out", model, Options(), say=lambda line: None) == []


class TestWatching:
    def test_a_scan_is_taken_when_it_stops_changing(self, scan, tmp_path, monkeypatch):
        from nnunetv2_diffusion.scans.sources import find_scans

        clock = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        arrivals = Arrivals(tmp_path, lambda: find_scans(tmp_path)[0], settle=5.0)
        assert arrivals.take() == []
        sitk.WriteImage(scan, str(tmp_path / "whole.mha"))
        content = (tmp_path / "whole.mha").read_bytes()
        taken = []
        for second in range(1, 20):
            clock[0] = float(second)
            if second <= 8:  # another one grows for eight seconds
                (tmp_path / "growing.mha").write_bytes(content[: second * len(content) // 8])
            taken += [(second, source.name) for source in arrivals.take()]
        assert taken == [(6, "whole"), (13, "growing")]
        (tmp_path / "whole.mha").write_bytes(content + b"x")
        arrivals.take()
        clock[0] += 5
        assert [source.name for source in arrivals.take()] == ["whole"]

    def test_until_it_is_stopped(self, folder, cohort, scan, tmp_path):
        out, said, stop = tmp_path / "out", [], threading.Event()
        model = load_model(folder, runtime=CPU)

        def say(line: str) -> None:
            said.append(line.split(":")[0] if not line.startswith("error") else line)
            if len(said) == 3:
                (cohort / "bad.mha").write_text("no image")
            elif len(said) == 4:
                sitk.WriteImage(scan, str(cohort / "late.mha"))
            elif len(said) == 5:
                stop.set()

        watching = threading.Thread(
            target=watch_folder, args=(cohort, out, model, Options(), stop), kwargs={"settle": 0.05, "say": say}
        )
        watching.start()
        watching.join(60)
        assert not watching.is_alive()
        assert said[:3] == [*NAMES] and "bad.mha was not segmented" in said[3] and said[4] == "late"
        assert {path.stem for path in out.glob("*.json")} == {*NAMES, "late"}

    def test_a_signal_stops_it(self):
        handler = signal.getsignal(signal.SIGTERM)
        with stopped_by_signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.wait(5)
            assert signal.getsignal(signal.SIGTERM) == handler
        assert signal.getsignal(signal.SIGTERM) == handler

    def test_what_cannot_be_watched(self, folder, cohort, tmp_path, capsys):
        assert run(cohort / "a.nii.gz", tmp_path / "out", "--model", folder, "--watch") == 2
        assert "is no folder" in capsys.readouterr().err
        assert run(cohort, cohort / "out", "--model", folder, "--watch") == 2
        assert "would be taken for scans" in capsys.readouterr().err


def test_a_run_with_nothing_left_needs_no_pytorch(folder, cohort, tmp_path, capsys):
    """In a process of its own; the results, also the page, are those of before, and what is asked for still counts."""
    out = tmp_path / "out"
    flags = ["--model", folder, "--slices", 3, "-f", 0]
    assert run(cohort, out, *flags) == 0 and done(capsys) == [*NAMES]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    code = (
        "import sys; from nnunetv2_diffusion.cli import main; code = main(sys.argv[1:]); print('torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, "segment", *map(str, [cohort, out, *flags])]
    told = subprocess.run(arguments, capture_output=True, check=True, encoding="utf-8")
    assert told.stdout.splitlines() == ["3 of 3 scans were finished already (--overwrite does them again)", "False"]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / "b_uncertainty.nii.gz").unlink()
    assert run(cohort, out, *flags) == 0 and done(capsys) == ["b"]
    sitk.WriteImage(sitk.ReadImage(str(cohort / "a.nii.gz")) + 7, str(cohort / "a.nii.gz"))
    assert run(cohort, out, *flags) == 0 and done(capsys) == ["a"]
    assert run(cohort, out, *flags, "--save-probabilities") == 0 and done(capsys) == [*NAMES]
    assert run(cohort, out, *flags) == 0 and done(capsys) == [*NAMES]


def test_the_pairwise_dice_of_the_samples_by_hand(folder, scan, tmp_path, monkeypatch):
    """Three samples: the mask; its canal taken for vertebrae; its discs alone. Over two slices; also in the table."""

    def predict(network: DiffusionNetwork, image: torch.Tensor, disagreement: bool = False, samples: bool = False):
        found = predict_by_threshold(network, image)
        mask = found.logits.argmax(dim=1)
        masks = [mask, torch.where(mask == 1, 2, mask), torch.where(mask == 3, 3, 0)]
        drawn = torch.stack([torch.nn.functional.one_hot(one, 4).movedim(-1, 1).float() for one in masks])
        return replace(found, samples=drawn if samples else None)

    monkeypatch.setattr(DiffusionNetwork, "predict", predict)
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for name in "ab":
        sitk.WriteImage(scan, str(scans / f"{name}.nii.gz"))
    assert run(scans, out, "--model", folder, "--slices", 2) == 0
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "a.nii.gz")))
    canal, vertebrae, discs = ((mask == label).sum() for label in (1, 2, 3))
    assert min(canal, vertebrae, discs) > 0
    # of the pairs (0, 1), (0, 2) and (1, 2); two masks without a structure agree on it
    pairs = [[0, 0, 1], [2 * vertebrae / (2 * vertebrae + canal), 0, 0], [1, 1, 1]]
    told = json.loads((out / "a.json").read_text())["pairwise_dice"]
    assert told == pytest.approx(np.mean(pairs), abs=1e-4)
    assert pd.read_csv(out / "summary.csv")["pairwise_dice"].tolist() == pytest.approx([told, told])
