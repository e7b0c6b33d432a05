"""The denoiser: timesteps, the auxiliary encoder, gradients, architectures and channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from helpers.network_samples import ARCHITECTURES, configuration, images, network, sampled
from nnunetv2_diffusion.networks import Denoiser, NoisedImage
from nnunetv2_diffusion.networks.timestep_embedding import StageModulation, sinusoidal_embedding
from nnunetv2_diffusion.settings import Process


def test_sinusoids_against_numpy():
    timesteps = np.array([0, 1, 17, 999])
    frequencies = 10000.0 ** (-np.arange(8) / 8)
    angles = timesteps[:, None] * frequencies[None]
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(sinusoidal_embedding(torch.from_numpy(timesteps), 16).numpy(), expected, atol=1e-4)


def test_a_new_modulation_is_the_identity_and_scales_and_shifts_once_trained():
    modulation, features, embedding = StageModulation(4, 3), torch.randn(2, 3, 5, 5), torch.randn(2, 4)
    assert torch.equal(modulation(features, embedding), features)
    nn.init.normal_(modulation.projection.weight)
    weights = embedding.numpy() @ modulation.projection.weight.detach().numpy().T
    scale, shift = weights[:, :3, None, None], weights[:, 3:, None, None]
    np.testing.assert_allclose(
        modulation(features, embedding).detach().numpy(), features.numpy() * (1 + scale) + shift, atol=1e-5
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_timestep_reaches_the_output_through_every_stage(name: str):
    """A shift alone would vanish in the instance normalisation that follows."""
    denoiser, image, x_t = network(name=name).denoiser, images(), torch.randn(1, 3, 16, 16)
    early, late = (denoiser(image, x_t, torch.tensor([t])) for t in (10, 900))
    assert (early - late).abs().max() > 0.05
    modulations = [*denoiser.encoder_modulations, *denoiser.decoder_modulations]
    assert len(modulations) == 5
    for modulation in modulations:
        kept = modulation.projection.weight.detach().clone()
        nn.init.zeros_(modulation.projection.weight)
        changed = denoiser(image, x_t, torch.tensor([900]))
        assert (changed - late).abs().max() > 1e-3
        modulation.projection.weight.data.copy_(kept)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_modulation_and_auxiliary_encoder_it_is_nnunets_own_network(name: str):
    plan = configuration(name)
    denoiser = Denoiser(plan, 2, 3, auxiliary_encoder=False).eval()
    own = get_network_from_plans(
        plan.network_arch_class_name,
        plan.network_arch_init_kwargs,
        plan.network_arch_init_kwargs_req_import,
        5,
        3,
        deep_supervision=False,
    ).eval()
    own.encoder.load_state_dict(denoiser.encoder.state_dict())
    weights = {name: value for name, value in denoiser.decoder.state_dict().items() if "seg_layers" not in name}
    last = denoiser.decoder.seg_layers[-1].state_dict()
    weights.update({f"seg_layers.{len(own.decoder.seg_layers) - 1}.{name}": value for name, value in last.items()})
    own.decoder.load_state_dict(weights, strict=False)
    image, x_t = images(2, channels=2), torch.randn(2, 3, 16, 16)
    expected = own(torch.cat([image, x_t], dim=1))
    torch.testing.assert_close(denoiser(image, x_t, torch.tensor([5, 500])), expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_encoder_stage_adds_the_image_encoders_features(name: str):
    denoiser, image, x_t, t = network(name=name).denoiser, images(), torch.randn(1, 3, 16, 16), torch.tensor([7])
    features = denoiser.encode_image(image)
    assert [tuple(f.shape[1:]) for f in features] == [(4, 16, 16), (8, 8, 8), (16, 4, 4)]
    whole = denoiser(image, x_t, t)
    torch.testing.assert_close(denoiser(image, x_t, t, features), whole)
    for stage in range(3):
        without = [torch.zeros_like(f) if i == stage else f for i, f in enumerate(features)]
        assert (denoiser(image, x_t, t, without) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("auxiliary_encoder", [True, False])
def test_every_parameter_receives_a_gradient(name: str, auxiliary_encoder: bool):
    """A parameter without one is an error under DDP; the timestep MLP's is zero in the very first step alone."""
    denoiser = Denoiser(configuration(name), 2, 3, auxiliary_encoder).train()
    optimizer = torch.optim.SGD(denoiser.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        denoiser(images(2, 2), torch.randn(2, 3, 16, 16), torch.tensor([3, 800])).square().mean().backward()
        optimizer.step()
    gradients = {name: parameter.grad for name, parameter in denoiser.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    silent = [n for n, g in gradients.items() if not g.any() and ("timestep" in n or "modulation" in n)]
    assert silent == []


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("heads", [2, 4])
def test_channels_and_heads(channels: int, heads: int):
    denoiser = network(channels=channels, heads=heads).denoiser
    prediction = denoiser(images(3, channels), torch.randn(3, heads, 16, 16), torch.tensor([0, 1, 999]))
    assert prediction.shape == (3, heads, 16, 16)
    assert prediction.isfinite().all()


def test_a_checkpoint_lists_each_weight_once_and_no_unused_layer():
    denoiser = Denoiser(configuration(), 1, 3)
    assert not [name for name in denoiser.state_dict() if name.startswith("decoder.encoder")]
    assert len(denoiser.decoder.seg_layers) == 1


def test_a_3d_configuration_is_refused():
    with pytest.raises(ValueError, match=r"two-dimensional.*3 dimensions.*choose a 2d configuration"):
        Denoiser(configuration(dimensions=3), 1, 3)


def test_an_architecture_without_stages_is_refused():
    plan = configuration()
    plan.configuration["architecture"] = {
        "network_class_name": "helpers.network_samples.WithoutStages",
        "arch_kwargs": {},
        "_kw_requires_import": [],
    }
    with pytest.raises(ValueError, match=r"has no encoder\.stages.*PlainConvUNet or ResidualEncoderUNet"):
        Denoiser(plan, 1, 3)


@pytest.mark.parametrize("prediction", ["velocity", "noise"])
def test_a_step_answers_itself_in_training_and_with_the_mask_that_it_implies_in_eval(prediction: str):
    """x_0 = (x_t - sqrt(1 - ᾱ_t) ε) / sqrt(ᾱ_t), where of v ε = sqrt(ᾱ_t) v + sqrt(1 - ᾱ_t) x_t, in float64."""
    net = network(sampled(Process(prediction=prediction)))
    noised = NoisedImage(images(2), torch.randn(2, 3, 16, 16), torch.tensor([150, 700]))
    alphas = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[[150, 700]][:, None, None, None]
    with torch.no_grad():
        answer = net.denoiser(*noised)
        assert torch.equal(net.train()(noised), answer)
        implied = net.eval()(noised).numpy()
    answer, x_t = answer.double().numpy(), noised.x_t.double().numpy()
    noise = answer if prediction == "noise" else np.sqrt(alphas) * answer + np.sqrt(1 - alphas) * x_t
    x_start = (x_t - np.sqrt(1 - alphas) * noise) / np.sqrt(alphas)
    np.testing.assert_allclose(implied, x_start.clip(-1, 1), atol=1e-4)
