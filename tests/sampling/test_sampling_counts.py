"""What a prediction costs, in counts: denoiser and encoder evaluations, tensors kept, and what an empty memory does."""

from __future__ import annotations

import warnings
import weakref

import pytest
import torch

from helpers.network_samples import SETTINGS, images, network, sampled
from nnunetv2_diffusion.sampling.chunks import cpu_batch_size, default_batch_size, run_in_chunks

OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


class WatchedDenoiser(torch.nn.Module):
    """Notes the slices of every call and which of the tensors it returned are still alive at the next one."""

    def __init__(self, denoiser: torch.nn.Module):
        super().__init__()
        self.denoiser, self.decoder, self.encode_image = denoiser, denoiser.decoder, denoiser.encode_image
        self.slices: list[int] = []
        self.alive: list[int] = []
        self.returned: list[weakref.ref] = []

    def forward(self, image, x_t, timestep, features):
        assert len(image) == len(x_t) == len(timestep) == len(features[0])
        self.slices.append(len(x_t))
        self.alive.append(sum(reference() is not None for reference in self.returned))
        prediction = self.denoiser(image, x_t, timestep, features)
        self.returned.append(weakref.ref(prediction))
        return prediction


def watched(**settings):
    """A network and its watched denoiser."""
    net = network(sampled(**settings))
    net.denoiser = WatchedDenoiser(net.denoiser)
    return net, net.denoiser


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("samples", "steps"), [(1, 5), (5, 5), (5, 10), (15, 10)])
def test_samples_times_steps_denoiser_evaluations_and_one_encoding_a_view(samples: int, steps: int, batch: int):
    net, denoiser = watched(samples=samples, sampling_steps=steps, ensemble_steps=2)
    net(images(batch))
    assert sum(denoiser.slices) == net.network_evaluations == samples * steps * batch
    assert len(denoiser.slices) == steps
    assert net.encoder_evaluations == min(samples, 4) * batch


def test_more_steps_keep_no_more_tensors():
    alive = {}
    for steps in (3, 30):
        net, denoiser = watched(sampling_steps=steps, ensemble_steps=3)
        net(images())
        alive[steps] = max(denoiser.alive)
    assert alive[3] == alive[30] <= 1


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_batch_size_holds_however_many_samples(size: int):
    net, denoiser = watched(samples=9)
    net.batch_size = size
    net(images())
    assert max(denoiser.slices) == size
    assert len(denoiser.slices) == -(-9 // size) * SETTINGS.sampling.sampling_steps


@pytest.mark.parametrize(
    ("height", "width", "on_cpu"), [(320, 320, 1), (640, 640, 1), (160, 320, 2), (128, 96, 8), (16, 16, 15)]
)
def test_without_a_batch_size_a_cpu_takes_a_caches_fill_and_a_gpu_everything(height: int, width: int, on_cpu: int):
    assert default_batch_size(torch.device("cpu"), height, width, 15) == on_cpu
    assert default_batch_size(torch.device("cuda"), height, width, 15) == 15


class NarrowMemory(WatchedDenoiser):
    """Out of memory above `room` slices, from its `since`-th call on."""

    def __init__(self, denoiser: torch.nn.Module, room: int, error: Exception, since: int = 0):
        super().__init__(denoiser)
        self.room, self.error, self.since, self.failures = room, error, since, 0

    def forward(self, image, x_t, timestep, features):
        if len(x_t) > self.room and len(self.slices) >= self.since:
            self.failures += 1
            raise self.error
        return super().forward(image, x_t, timestep, features)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("since", [0, 2])
def test_out_of_memory_halves_the_batch_and_goes_on(error: Exception, since: int):
    expected = network().predict(images(2))
    net = network()
    net.denoiser = NarrowMemory(net.denoiser, room=3, error=error, since=since)
    with pytest.warns(RuntimeWarning, match="out of memory") as told:
        found = net.predict(images(2))
    assert [str(warning.message) for warning in told] == [
        "out of memory: going on with 5 samples at a time",
        "out of memory: going on with 2 samples at a time",
    ]
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.uncertainty, expected.uncertainty, atol=1e-4, rtol=1e-4)
    assert net.batch_size == 2
    assert net.network_evaluations == sum(net.denoiser.slices) == 2 * 5 * SETTINGS.sampling.sampling_steps


def test_the_smaller_batch_is_kept_for_the_next_image():
    net = network()
    net.denoiser = NarrowMemory(net.denoiser, room=1, error=MemoryError())
    with pytest.warns(RuntimeWarning):
        net(images())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(images())
    assert net.denoiser.failures == 2  # with 5 and 2 samples


def test_what_does_not_fit_at_all_and_other_errors_are_raised():
    net = network()
    net.denoiser = NarrowMemory(net.denoiser, room=0, error=MemoryError())
    with pytest.warns(RuntimeWarning), pytest.raises(MemoryError):
        net(images())
    net = network()
    net.denoiser = NarrowMemory(net.denoiser, room=1, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        net(images())
    assert net.denoiser.failures == 1


def test_halving_resumes_where_it_stopped():
    seen = []

    def run(chunk: slice) -> torch.Tensor:
        if chunk.stop - chunk.start > 2 and chunk.start >= 4:
            raise MemoryError
        seen.append((chunk.start, chunk.stop))
        return torch.arange(chunk.start, chunk.stop)

    with pytest.warns(RuntimeWarning, match="going on with 2"):
        results, size = run_in_chunks(run, 9, 4)
    assert torch.equal(torch.cat(results), torch.arange(9))
    assert (size, seen) == (2, [(0, 4), (4, 6), (6, 8), (8, 9)])


def test_a_cpu_takes_one_slice_of_320_x_320_at_a_time():
    assert [cpu_batch_size(*size) for size in [(1, 1), (320, 160), (320, 320), (640, 640)]] == [320 * 320, 2, 1, 1]
