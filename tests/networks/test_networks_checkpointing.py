"""Activation checkpointing: the same outputs and gradients with far less kept for the backward pass."""

from __future__ import annotations

import pytest
import torch

from helpers.network_samples import ARCHITECTURES, configuration
from nnunetv2_diffusion.networks import Denoiser


def denoiser(name: str, checkpoint_activations: bool, auxiliary_encoder: bool = True) -> Denoiser:
    torch.manual_seed(0)
    made = Denoiser(configuration(name), 1, 3, auxiliary_encoder, checkpoint_activations)
    for modulation in [*made.encoder_modulations, *made.decoder_modulations]:
        torch.nn.init.normal_(modulation.projection.weight, std=0.3)
    return made.train()


def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    image, x_t = (torch.randn(2, channels, 32, 32, generator=generator) for channels in (1, 3))
    return image, x_t, torch.tensor([3, 700])


@pytest.mark.parametrize("auxiliary_encoder", [True, False])
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_outputs_and_gradients_are_the_same(name: str, bfloat16: bool, auxiliary_encoder: bool):
    results = []
    for checkpointed in (False, True):
        net = denoiser(name, checkpointed, auxiliary_encoder)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            output = net(*inputs())
        output.float().square().mean().backward()
        results.append((output, {key: value.grad for key, value in net.named_parameters()}))
    (output, gradients), (again, others) = results
    assert torch.equal(output, again)
    assert all(gradient is not None for gradient in gradients.values())
    for key, gradient in gradients.items():
        assert torch.equal(gradient, others[key]), key


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_only_what_goes_into_a_stage_is_kept(name: str):
    """Bytes of the activations that PyTorch's graph holds for the backward pass; weights it holds anyway."""
    kept = {}
    for checkpointed in (False, True):
        net, sizes = denoiser(name, checkpointed), {}
        weights = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}

        def pack(tensor: torch.Tensor, sizes: dict = sizes, weights: set = weights) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = net(*inputs())
        kept[checkpointed] = sum(sizes.values())
        del output
    assert kept[True] < 0.4 * kept[False]


def test_prediction_and_validation_are_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nnunetv2_diffusion.networks.denoiser.checkpoint", lambda *args, **options: 1 / 0)
    net = denoiser("PlainConvUNet", True).eval()
    with torch.no_grad():
        assert net(*inputs()).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_compiles(name: str):
    net = denoiser(name, True)
    net.compile(backend="aot_eager")
    output = net(*inputs())
    output.square().mean().backward()
    plain = denoiser(name, False)
    expected = plain(*inputs())
    expected.square().mean().backward()
    torch.testing.assert_close(output, expected)
    for (key, value), other in zip(net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(value.grad, other.grad, msg=key)
