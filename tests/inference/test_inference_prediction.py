"""`spinesegdiff predict`: nnU-Net's own masks, whatever the order, the parts and the processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.nnunet_samples import TinyProject, threads_for_processes
from helpers.prediction_samples import assert_same, predict, stock_masks, volumes, write_unseen
from nnunetv2_diffusion.cli import main

CASES = ["bordered", "exact", "larger", "oblique", "smaller"]


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unseen")
    write_unseen(folder)
    return folder


@pytest.fixture
def model(tiny: TinyProject) -> Path:
    return tiny.model()


@pytest.fixture
def sequential(model: Path, unseen: Path, tmp_path: Path) -> Path:
    """Masks and maps by our command in one process."""
    assert predict(unseen, tmp_path / "sequential", "--uncertainty") == 0
    return tmp_path / "sequential"


def test_masks_are_those_of_nnunets_own_predictor(model: Path, unseen: Path, sequential: Path, tmp_path: Path):
    masks = volumes(sequential)
    assert list(masks) == CASES
    assert len(set(np.concatenate([mask.ravel() for mask in masks.values()]))) > 1
    stock = stock_masks(model, unseen, tmp_path / "stock")
    assert_same(masks, volumes(stock))
    for name in ("dataset.json", "plans.json", "predict_from_raw_data_args.json"):
        assert json.loads((sequential / name).read_text()).keys() == json.loads((stock / name).read_text()).keys()


def test_parts_and_processes_change_nothing(model: Path, unseen: Path, sequential: Path, tmp_path: Path):
    for part in (0, 1):
        parts = ("-num_parts", 2, "-part_id", part, "-npp", 1, "-nps", 1)
        assert predict(unseen, tmp_path / "parts", "--uncertainty", *parts) == 0
        assert len(volumes(tmp_path / "parts")) == (3, 5)[part]
    assert_same(volumes(tmp_path / "parts"), volumes(sequential))
    assert_same(volumes(tmp_path / "parts", "uncertainty"), volumes(sequential, "uncertainty"))


def test_the_order_of_cases_changes_nothing(model: Path, unseen: Path, sequential: Path, tmp_path: Path):
    renamed = {case: f"{9 - number}_{case}" for number, case in enumerate(CASES)}
    (tmp_path / "images").mkdir()
    for old, new in renamed.items():
        shutil.copy(unseen / f"{old}_0000.nii.gz", tmp_path / "images" / f"{new}_0000.nii.gz")
    assert predict(tmp_path / "images", tmp_path / "reversed", "--uncertainty") == 0
    for ending in ("", "uncertainty"):
        reversed_order = volumes(tmp_path / "reversed", ending)
        assert_same({case: reversed_order[renamed[case]] for case in CASES}, volumes(sequential, ending))


def test_seeds_and_other_settings_reach_the_sampling(model: Path, unseen: Path, sequential: Path, tmp_path: Path):
    flags = {
        "seed": ("--seed", 5),
        "samples": ("--samples", 2),
        "steps": ("--sampling-steps", 3),
        "fused": ("--ensemble-steps", 1),
    }
    seen = [volumes(sequential, "uncertainty")["larger"]]
    for name, flag in flags.items():
        assert predict(unseen, tmp_path / name, "--uncertainty", *flag) == 0
        seen.append(volumes(tmp_path / name, "uncertainty")["larger"])
        assert all(np.abs(seen[-1] - other).max() > 1e-4 for other in seen[:-1]), name
    assert predict(unseen, tmp_path / "seed0", "--uncertainty", "--seed", 0) == 0
    assert_same(volumes(tmp_path / "seed0", "uncertainty"), volumes(sequential, "uncertainty"))


def test_timing_counts_evaluations_and_seconds(model: Path, unseen: Path, tmp_path: Path):
    (tmp_path / "one").mkdir()
    shutil.copy(unseen / "exact_0000.nii.gz", tmp_path / "one")
    presets = ((("--preset", "fast"), 4), (("--preset", "samples"), 80), (("--preset", "samples", "--samples", 2), 10))
    for flags, evaluations in (((), 20), (("--samples", 3, "--sampling-steps", 2), 6), *presets):
        assert predict(tmp_path / "one", tmp_path / "out", *flags) == 0
        timing = json.loads((tmp_path / "out" / "timing.json").read_text())
        assert timing["network_evaluations_per_slice"] == evaluations
        assert 0 < timing["seconds_per_slice"] < 60


def test_no_mask_lies_without_the_time_that_it_took(model: Path, unseen: Path, tmp_path: Path, monkeypatch):
    """A prediction that is stopped and continued when all masks are there has no time left to measure."""

    def write(*arguments) -> None:
        there.append((tmp_path / "out" / "timing.json").is_file())

    there: list[bool] = []
    monkeypatch.setattr("nnunetv2_diffusion.inference.predictor.export_prediction_from_logits", write)
    assert predict(unseen, tmp_path / "out") == 0
    assert there == [True] * len(CASES)


def test_continuing_keeps_masks_that_exist_and_adds_what_is_missing(model: Path, unseen: Path, sequential: Path):
    first = volumes(sequential)
    (sequential / "larger.nii.gz").unlink()
    (sequential / "uncertainty" / "exact_uncertainty.nii.gz").unlink()
    kept = (sequential / "oblique.nii.gz").stat().st_mtime_ns
    assert predict(unseen, sequential, "--uncertainty", "--continue_prediction") == 0
    assert_same(volumes(sequential), first)
    assert list(volumes(sequential, "uncertainty")) == CASES
    assert (sequential / "oblique.nii.gz").stat().st_mtime_ns == kept


def test_continuing_predicts_half_written_masks_again(model: Path, unseen: Path, sequential: Path):
    """nnU-Net's own command writes masks in place and leaves half of one when it is stopped."""
    first = volumes(sequential)
    half, empty = sequential / "larger.nii.gz", sequential / "exact.nii.gz"
    half.write_bytes(half.read_bytes()[:-20])
    empty.write_bytes(b"")
    assert predict(unseen, sequential, "--continue_prediction") == 0
    assert_same(volumes(sequential), first)


def test_probabilities_give_the_mask(model: Path, unseen: Path, sequential: Path, tmp_path: Path):
    assert predict(unseen, tmp_path / "out", "--save_probabilities") == 0
    assert_same(volumes(tmp_path / "out"), volumes(sequential))
    probabilities = np.load(tmp_path / "out" / "exact.npz")["probabilities"]
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-3)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), volumes(sequential)["exact"])


@pytest.mark.parametrize(("channels", "kind"), [(2, "regions"), (4, "ignore")])
def test_channels_regions_and_ignore_labels(tiny: TinyProject, tmp_path: Path, channels: int, kind: str):
    model = tiny.model(channels, kind)
    write_unseen(tmp_path / "images", channels)
    dataset = tiny.dataset(channels, kind)
    assert predict(tmp_path / "images", tmp_path / "ours", "--uncertainty", dataset=dataset) == 0
    assert_same(volumes(tmp_path / "ours"), volumes(stock_masks(model, tmp_path / "images", tmp_path / "stock")))
    assert all(u.min() >= 0 and 0 < u.max() <= 1 for u in volumes(tmp_path / "ours", "uncertainty").values())


def test_validate_predicts_the_folds_own_validation_cases(tiny: TinyProject, model: Path):
    flags = ["validate", "-d", str(tiny.dataset()), "-c", "2d", "-tr", model.name.split("__")[0], "-device", "cpu"]
    with threads_for_processes():
        assert main([*flags, "-f", "0"]) == 0
    written = model / "fold_0" / "validation_uncertainty"
    assert_same(volumes(written), volumes(model / "fold_0" / "validation"))
    assert volumes(written, "uncertainty").keys() == volumes(written).keys()
    for case, uncertainty in volumes(written, "uncertainty").items():
        assert uncertainty.shape == volumes(written)[case].shape
        assert 0 < uncertainty.max() <= 1
    assert json.loads((written / "timing.json").read_text())["seconds_per_slice"] > 0
