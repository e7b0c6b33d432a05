"""Where models compute: devices, threads, and what a runtime refuses."""

from __future__ import annotations

import pytest
import torch

from nnunetv2_diffusion.inference.runtime import Runtime, choose_device, nnunets_threads, use_processors


@pytest.fixture(autouse=True)
def threads_as_they_were():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("there", "device"), [(False, "cpu"), (True, "cuda")])
def test_without_a_name_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, there: bool, device: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device(None).type == device
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"-device {name} was asked for.*use -device cpu"):
        choose_device(name)


def test_a_cpu_takes_the_threads_that_the_process_may_have(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    use_processors(torch.device("cpu"))
    assert torch.get_num_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    use_processors(torch.device("meta"))
    assert torch.get_num_threads() == 3


def test_nnunet_predicts_with_no_more_threads_than_its_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nnunetv2_diffusion.inference.runtime.default_num_processes", 2)
    for threads, within in ((3, 2), (1, 1)):
        torch.set_num_threads(threads)
        with pytest.raises(OSError, match="full"), nnunets_threads():
            assert torch.get_num_threads() == within
            raise OSError("the disk is full")
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "--batch-size must be at least 1, not 0"),
        ({"slice_batch": -1}, "slices in a batch must be at least 1, not -1"),
        ({"precision": "half"}, "auto, float32, bfloat16, not 'half'"),
    ],
)
def test_what_no_runtime_can_be(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Runtime(**options)
