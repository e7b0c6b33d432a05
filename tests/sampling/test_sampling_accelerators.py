"""What would differ on a GPU, shown on a CPU: devices, what waits for them, noise, memory that runs out."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.network_samples import images, network, sampled
from nnunetv2_diffusion.networks import DiffusionNetwork, NoisedImage
from nnunetv2_diffusion.sampling.chunks import run_in_chunks
from nnunetv2_diffusion.sampling.noise import SamplingNoise
from nnunetv2_diffusion.settings import Process

META = torch.device("meta")  # a device of its own: mixed with the CPU, or asked for a value, it raises


class NoDoublesOnTheDevice(TorchDispatchMode):
    """MPS has no float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device == META:
            assert result.dtype != torch.float64, function
        return result


def on_the_device(net: DiffusionNetwork) -> DiffusionNetwork:
    net.precision = "auto"  # there the caller's: nnU-Net's own
    return net.to(META)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize(
    ("sampler", "ensemble", "prediction"), [("ddim", "steps", "x_start"), ("ddpm", "samples", "velocity")]
)
def test_sampling_stays_on_the_device_and_never_waits_for_it(sampler: str, ensemble: str, prediction: str, regions):
    settings = sampled(Process(prediction=prediction), sampler=sampler, ensemble=ensemble, eta=0.0)
    net = on_the_device(network(settings, regions=regions))
    with NoDoublesOnTheDevice(), torch.no_grad():
        maps = net.predict(images(2).to(META), disagreement=True)
        noised = NoisedImage(images().to(META), torch.zeros(1, 3, 16, 16, device=META), torch.tensor([7], device=META))
        assert net(noised).device == META
    assert {maps.logits.device, maps.uncertainty.device, maps.variance.device} == {META}


def test_an_early_stop_asks_the_device_once_a_step():
    """It must: whether to go on is the device's answer. Without it nothing is asked, see above."""
    net = on_the_device(network(sampled(early_stop=0.01)))
    with pytest.raises(RuntimeError, match="meta"), torch.no_grad():
        net.predict(images().to(META))


@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 32, 32)])
def test_noise_drawn_ahead_by_threads_is_the_same_noise(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: self)  # as if the GPU held it
    plain, ahead = (SamplingNoise(3, 5, shape, torch.device(device)) for device in ("cpu", "cuda"))
    for _ in range(6):
        assert torch.equal(plain.draw(), ahead.draw())
    assert ahead._ahead and not plain._ahead
    generators = [torch.Generator().manual_seed(3 * 2**16 + sample) for sample in range(5)]
    again = SamplingNoise(3, 5, shape, torch.device("cuda"))
    for _ in range(6):
        expected = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        assert torch.equal(again.draw(), expected)


def test_a_sampler_that_adds_no_noise_draws_none_ahead():
    noise = SamplingNoise(0, 2, (3, 4, 4), META)
    assert noise.draw().device == META
    assert not noise._ahead


# What PyTorch raises where no memory is left, as its sources and users' reports have it.
MESSAGES = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB",
    "MPS backend out of memory (MPS allocated: 17.93 GB, other allocations: 384.00 KB, max allowed: 18.13 GB)",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 34359738368 bytes.",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_memory_that_runs_out_is_known_by_its_words(message: str):
    def run(chunk: slice) -> int:
        if chunk.stop - chunk.start > 2:
            raise RuntimeError(message)
        return chunk.stop - chunk.start

    with pytest.warns(RuntimeWarning, match="going on with 2 samples"):
        assert run_in_chunks(run, 6, 5) == ([2, 2, 2], 2)


@pytest.mark.parametrize("message", ["CUDA error: device-side assert triggered", "cuDNN error: CUDNN_STATUS_BAD_PARAM"])
def test_other_errors_are_raised(message: str):
    def run(chunk: slice) -> None:
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match=message):
        run_in_chunks(run, 6, 6)


@pytest.mark.gpu
def test_a_gpu_gives_the_cpus_masks():
    """Up to rounding; the same machine gives the same bits where cuDNN takes the same algorithms."""
    net = network(sampled(sampler="ddpm", sampling_steps=20, ensemble="samples"))
    expected = net.predict(images(2, size=64))
    actual = net.to("cuda").predict(images(2, size=64).to("cuda"))
    torch.testing.assert_close(actual.logits.cpu(), expected.logits, atol=2e-2, rtol=2e-2)
