"""`spinesegdiff plan` says what makes SpineSegDiff fit the GPU that nnU-Net planned for."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from nnunetv2_diffusion.planning.memory import KEPT, memory_advice

ROOT = Path(__file__).resolve().parents[2]


def plans(architecture: str, batch: int, **configuration) -> dict:
    network = {"network_class_name": f"dynamic_network_architectures.architectures.unet.{architecture}"}
    return {"configurations": {"2d": {"architecture": network, "batch_size": batch, **configuration}}}


@pytest.mark.parametrize(
    ("architecture", "batch", "kept", "checkpointed", "fitting"),
    [("PlainConvUNet", 12, "1.61", "0.64", 7), ("ResidualEncoderUNet", 12, "1.88", "0.59", 6)],
)
def test_the_batch_that_fits_and_the_option(architecture: str, batch: int, kept: str, checkpointed: str, fitting: int):
    (sentence,) = memory_advice(plans(architecture, batch))
    assert f"planned 2d with batch {batch} for its own network; SpineSegDiff keeps {kept} times as much." in sentence
    assert f'"checkpoint_activations": true in the diffusion block of 2d: {checkpointed} times' in sentence
    assert sentence.endswith(f"(a batch of {fitting} also fits)")


def test_there_is_nothing_to_say_where_it_is_set_or_not_known():
    assert memory_advice(plans("PlainConvUNet", 12, diffusion={"checkpoint_activations": True})) == []
    assert memory_advice(plans("PrimusM", 12)) == []
    assert memory_advice({"configurations": {"3d_fullres": {}}}) == []
    assert "also fits" not in memory_advice(plans("PlainConvUNet", 1))[0]


def test_the_figures_are_those_that_were_measured():
    with (ROOT / "benchmarks" / "results" / "activations.csv").open(encoding="utf-8") as stream:
        measured = {(row["architecture"], row["network"]): float(row["times_nnunet"]) for row in csv.DictReader(stream)}
    for architecture, (kept, checkpointed) in KEPT.items():
        assert measured[architecture, "SpineSegDiff"] == pytest.approx(kept, abs=0.005)
        assert measured[architecture, "SpineSegDiff, checkpoint_activations"] == pytest.approx(checkpointed, abs=0.005)
