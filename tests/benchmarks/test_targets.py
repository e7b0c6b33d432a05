"""`pytest -m benchmark`: the ratios that speed and memory must keep, at 320 x 320 with the network that nnU-Net plans.

Run by hand on a machine that does nothing else (a quarter of an hour on two cores). CI checks counts, not seconds:
tests/networks/test_networks_counts.py.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import inference
import training
from nnunetv2_diffusion.sampling.precision import fast_bfloat16
from speed import methods
from speed.cases import synthetic_slice
from speed.methods import OURS, Method
from speed.planned import VARIABLES, SyntheticProject
from speed.rows import measure, memory_in_a_fresh_process

CPU = torch.device("cpu")
TURNS = 3
GPU_SPEEDUP, CPU_SPEEDUP = 5.0, 1.6
PRESEG_TIMES_NNUNET = 4.0
PRESET_TIMES_NNUNET = {"fast": 1.1, "default": 1.5}
TRAINING_SECONDS, TRAINING_MEMORY = 1.7, 1.8
FLAT = 1.15

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyntheticProject]:
    """nnU-Net's folders with a synthetic dataset of 320 x 320 pixels, planned."""
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.setenv(name, "")
        made = SyntheticProject(tmp_path_factory.mktemp("planned"))
        made.enter()
        made.plan(320)
        yield made


@pytest.fixture(scope="module")
def folders(project: SyntheticProject) -> dict[str, Path]:
    """Untrained models."""
    return {kind: project.untrained(kind) for kind in ("baseline", "model", "preseg")}


@pytest.fixture(autouse=True)
def all_threads(one_thread: None) -> None:
    """As the commands set them; conftest.py gives other tests one thread."""
    torch.set_num_threads(multiprocessing.cpu_count())


def measured(folders: dict[str, Path], device: torch.device, kind: str, *counts: int, **named: str) -> dict:
    """A row of inference.py's table."""

    row = measure(
        methods.Method(getattr(methods, kind), *counts, **named), folders, synthetic_slice(320), device, TURNS
    )
    print(row)
    return row


@pytest.mark.skipif(not fast_bfloat16(), reason="the target holds for processors that are fast at bfloat16")
def test_faster_than_the_published_way_at_equal_evaluations_on_a_cpu(folders: dict[str, Path]):
    assert measured(folders, CPU, "OURS", 15, 10)["speedup_over_published"] >= CPU_SPEEDUP


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_faster_than_the_published_way_at_equal_evaluations_on_a_gpu(folders: dict[str, Path]):
    assert measured(folders, torch.device("cuda"), "OURS", 15, 10)["speedup_over_published"] >= GPU_SPEEDUP


def test_pre_segmentation_with_the_baseline_before_it_against_nnunet_alone(folders: dict[str, Path]):
    assert measured(folders, CPU, "PRESEG_WITH_BASELINE", 3, 5)["times_nnunet"] <= PRESEG_TIMES_NNUNET


@pytest.mark.parametrize("preset", PRESET_TIMES_NNUNET)
def test_the_presets_against_nnunet(folders: dict[str, Path], preset: str):
    assert measured(folders, CPU, "OURS", preset=preset)["times_nnunet"] <= PRESET_TIMES_NNUNET[preset]


def test_memory_does_not_grow_with_samples_and_steps(folders: dict[str, Path], tmp_path: Path):

    torch.save(synthetic_slice(320), tmp_path / "slice.pt")
    little, much = (
        memory_in_a_fresh_process(
            inference.__file__, Method(OURS, samples, steps), folders, tmp_path / "slice.pt", "cpu"
        )
        for samples, steps in ((4, 5), (15, 10))
    )
    assert much <= FLAT * little


def test_training_against_nnunet(project: SyntheticProject):

    task = {
        "preprocessed": str(project.preprocessed),
        "configuration": "2d",
        "batch_size": 4,
        "device": "cpu",
        "threads": torch.get_num_threads(),
    }
    row = training.compare(task, (training.BASELINE, training.OURS), iterations=TURNS)[1]
    print(row)
    assert row["times_nnunet"] <= TRAINING_SECONDS
    assert row["memory_times_nnunet"] <= TRAINING_MEMORY
