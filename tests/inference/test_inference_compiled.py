"""nnUNet_compile=t: `spinesegdiff predict` computes with a compiled denoiser, compiled once whatever is predicted."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch._dynamo import OptimizedModule

from helpers.nnunet_samples import TinyProject
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime


def predictor(tiny: TinyProject, trainer: str = "TinyDiffusionTrainer") -> DiffusionPredictor:
    made = DiffusionPredictor(
        {"samples": 2, "sampling_steps": 2} if trainer == "TinyDiffusionTrainer" else None,
        runtime=Runtime("cpu", precision="float32"),
        allow_tqdm=False,
    )
    made.initialize_from_trained_model_folder(tiny.model(trainer=trainer), (0,))
    return made


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """Those that are compiled, where nnU-Net is asked to."""
    compiled: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list):
        compiled.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setenv("nnUNet_compile", "t")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield compiled
    torch.compiler.reset()


def test_tiles_are_predicted_by_a_denoiser_that_is_compiled_once(tiny: TinyProject, graphs: list, monkeypatch):
    volume = torch.randn(1, 2, 48, 40, generator=torch.Generator().manual_seed(0))  # tiles of 32 x 32
    made = predictor(tiny)
    first = made.predict(volume[:, :1])
    counted = len(graphs)
    assert counted > 0
    again = made.predict(volume)
    assert len(graphs) == counted
    assert torch.equal(first[0], again[0][:, :1])
    monkeypatch.delenv("nnUNet_compile")
    torch.testing.assert_close(predictor(tiny).predict(volume), again)
    assert len(graphs) == counted


def test_other_numbers_of_samples_at_a_time_compile_it_once_more_and_no_further(tiny: TinyProject, graphs: list):
    made, counts = predictor(tiny), []
    for size in (2, 1, 3, 4, 5, 6):
        made.diffusion_network.predict(torch.randn(size, 1, 32, 32))
        counts.append(len(graphs))
    assert counts[2:] == [counts[2]] * 4


def test_a_plain_network_is_compiled_as_nnunet_does(tiny: TinyProject, graphs: list):
    assert isinstance(predictor(tiny, "TinyPlainTrainer").network, OptimizedModule)
