"""The module that nnU-Net sees: under DDP, under torch.compile, and what it saves beside the weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.network_samples import images, network, sampled
from nnunetv2_diffusion.networks import PreSegmentationNetwork
from nnunetv2_diffusion.settings import Process, Sampling, Settings

TESTS = Path(__file__).resolve().parents[1]
# nnU-Net's validation hands out the cases; here rank 0 has one and rank 1 has none.
RANK = """
import sys
from datetime import timedelta
import torch
from torch.nn.parallel import DistributedDataParallel
from helpers.network_samples import images, network

torch.set_num_threads(1)
rank = int(sys.argv[1])
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2, timeout=timedelta(seconds=30)
)
parallel = DistributedDataParallel(network()).eval()
if rank == 0:
    with torch.no_grad():
        assert torch.equal(parallel(images()), network()(images()))
torch.distributed.barrier()
print("met")
"""


def test_a_rank_without_a_case_does_not_keep_the_others_waiting(tmp_path: Path):
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), str(tmp_path / "store")],
            cwd=TESTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for rank in range(2)
    ]
    told = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], told
    assert all("met" in text for text in told)


def test_what_ddp_would_broadcast_is_nothing():
    assert list(network().buffers()) == []


def test_a_compiled_network_is_compiled_once_whatever_it_has_counted():
    compiled_graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> torch.nn.Module:
        compiled_graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    net = network(sampled(samples=2, sampling_steps=2, ensemble_steps=1))
    compiled, graphs = torch.compile(net, backend=backend), []
    with torch.no_grad():
        for evaluations in (4, 8, 12):
            logits = compiled(images())
            assert net.network_evaluations == evaluations
            graphs.append(len(compiled_graphs))
        assert torch.equal(logits, net(images()))
    torch.compiler.reset()
    assert graphs[0] > 0
    assert set(graphs) == {graphs[0]}


@pytest.mark.parametrize("regions", [False, True])
def test_labels_and_mirroring_travel_with_the_weights(regions: bool):
    net = network(regions=regions)
    net.mirror_axes.copy_(torch.tensor([False, True]))
    state = net.state_dict()
    assert (bool(state["regions"]), state["mirror_axes"].tolist()) == (regions, [False, True])
    other = network(regions=not regions)
    other.load_state_dict(state)
    assert torch.equal(other(images()), net(images()))
    net.mirror_axes.fill_(True)
    assert other.mirror_axes.tolist() == [False, True]


@pytest.mark.parametrize("process", [{"mask_scale": 0.1}, {"schedule": "cosine", "timesteps": 300}])
def test_the_process_travels_with_the_weights(process: dict):
    """A trainer's defaults may change: what weights were trained for does not."""
    trained = network(Settings().updated(process))
    loaded = network(Settings())
    state = trained.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    loaded.load_state_dict(state)
    assert loaded.process == trained.process and loaded.sampling == Settings().sampling
    np.testing.assert_array_equal(loaded.alphas_cumprod, trained.alphas_cumprod)


def test_weights_of_the_time_before_the_process_was_saved_have_an_unscaled_mask():
    state = {name: value for name, value in network().state_dict().items() if name != "process"}
    planned = network(Settings().updated({"mask_scale": 0.1, "schedule": "cosine"}))
    planned.load_state_dict(state)
    assert planned.process == Process(schedule="cosine")
    state["process"] = torch.tensor(list(b"[]"), dtype=torch.uint8)
    with pytest.raises(ValueError, match="process beside the weights cannot be read"):
        planned.load_state_dict(state)


def test_a_checkpoint_is_loaded_whole_or_says_what_is_missing():
    state = network().state_dict()
    del state["regions"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"regions"'):
        network().load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"strange"'):
        network().load_state_dict({**network().state_dict(), "strange": torch.zeros(1)})


def test_weights_are_loaded_into_a_network_that_was_moved_in_inference_mode():
    """nnU-Net moves it there for the first fold; the next fold's weights are loaded outside."""
    net, other = network(), network(regions=True)
    with torch.inference_mode():
        net._apply(torch.clone)  # a `.to` that copies, as to a GPU
    net.load_state_dict(other.state_dict())
    assert net.regions


def test_another_sampling_may_be_set_as_long_as_it_fits_the_process():
    net = network(sampled(Process(timesteps=20)))
    net.sampling = Sampling(samples=2)
    assert (net.settings.sampling, net.process.timesteps) == (Sampling(samples=2), 20)
    with pytest.raises(ValueError, match="only 20 timesteps can be visited"):
        net.sampling = Sampling(sampling_steps=21)
    assert net.settings.sampling == Sampling(samples=2)


def test_pure_noise_is_no_start_at_a_timestep_at_which_training_saw_a_mask():
    message = r"start_timestep is 12, .* pure noise, which training has seen at timestep 19 alone; leave it out"
    net = network(sampled(Process(timesteps=20), start_timestep=19))
    with pytest.raises(ValueError, match=message):
        net.sampling = Sampling(start_timestep=12)
    assert net.sampling.start_timestep == 19
    early = sampled(Process(timesteps=20), start_timestep=12)
    with pytest.raises(ValueError, match=message):
        network(early)
    stage = PreSegmentationNetwork(net.denoiser, early, 1, [[0], [1], [2]], [1, 2])
    stage.sampling = Sampling(start_timestep=5)
    assert stage.sampling.start_timestep == 5
