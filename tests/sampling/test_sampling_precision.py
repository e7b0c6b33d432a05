"""The denoiser's number format: what "auto" chooses, that it holds for nnU-Net's own calls, and what it changes."""

from __future__ import annotations

import pytest
import torch

from helpers.network_samples import images, network, sampled
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.networks import NoisedImage
from nnunetv2_diffusion.sampling import precision as precision_module
from nnunetv2_diffusion.settings import Process


def formats(net) -> set[torch.dtype]:
    """The formats in which the denoiser's last layer answers while an image is predicted."""
    seen: set[torch.dtype] = set()
    handle = net.denoiser.decoder.seg_layers[-1].register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    net(images())
    handle.remove()
    return seen


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A processor that is fast at bfloat16, or not."""
    monkeypatch.setattr(precision_module, "fast_bfloat16", lambda: request.param)
    return request.param


def test_auto_is_bfloat16_where_the_processor_is_fast_at_it(fast: bool):
    net = network()
    net.precision = "auto"
    assert formats(net) == {torch.bfloat16 if fast else torch.float32}


@pytest.mark.parametrize(("name", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_named_precision_holds_whatever_the_processor(name: str, expected: torch.dtype, fast: bool):
    net = network()
    net.precision = name
    with torch.autocast("cpu", torch.bfloat16, enabled=name == "float32"):
        assert formats(net) == {expected}


def test_the_processor_is_asked(monkeypatch: pytest.MonkeyPatch):
    for amx, avx, expected in ((True, False, True), (False, True, True), (False, False, False)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx, raising=False)
        assert precision_module.fast_bfloat16() is expected
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert precision_module.fast_bfloat16() is False


def test_bfloat16_is_close_to_float32_and_the_same_every_time():
    exact = network().predict(images(2, size=32))
    net = network()
    net.precision = "bfloat16"
    rounded = net.predict(images(2, size=32))
    assert rounded.logits.dtype == rounded.uncertainty.dtype == torch.float32
    probabilities, expected = rounded.logits.softmax(dim=1), exact.logits.softmax(dim=1)
    assert 0 < (probabilities - expected).abs().mean() < 0.01
    assert (probabilities.argmax(dim=1) == expected.argmax(dim=1)).float().mean() > 0.98
    assert torch.equal(net.predict(images(2, size=32)).logits, rounded.logits)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="auto, float32, bfloat16, not 'float16'"):
        Runtime("cpu", precision="float16")


def test_the_predictor_hands_its_precision_to_the_network(tiny):
    for name in ("auto", "float32", "bfloat16"):
        predictor = DiffusionPredictor(runtime=Runtime("cpu", precision=name), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(tiny.model(), [0])
        assert predictor.diffusion_network.precision == name


def training_step(precision: str, prediction: str = "x_start") -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Answer and gradients of a denoising step on fixed tensors."""
    net = network(sampled(Process(prediction=prediction))).train()
    net.precision = precision
    x_t = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    answer = net(NoisedImage(images(2, size=32), x_t, torch.tensor([100, 900])))
    (answer.float() - x_t).square().mean().backward()
    return answer, [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("prediction", ["x_start", "velocity", "noise"])
def test_auto_trains_in_bfloat16_where_the_processor_is_fast_at_it(fast: bool, prediction: str):
    seen = set()
    net = network(sampled(Process(prediction=prediction))).train()
    net.precision = "auto"
    net.denoiser.decoder.seg_layers[-1].register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    net(NoisedImage(images(2), torch.zeros(2, 3, 16, 16), torch.tensor([1, 2])))
    assert seen == {torch.bfloat16 if fast else torch.float32}


def test_a_training_step_in_bfloat16_has_the_gradient_of_float32():
    exact, exact_gradients = training_step("float32")
    rounded, gradients = training_step("bfloat16")
    assert 0 < (rounded.float() - exact).abs().mean() < 0.02 * exact.abs().mean()
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    ours, theirs = (torch.cat([gradient.flatten() for gradient in each]) for each in (gradients, exact_gradients))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.99
