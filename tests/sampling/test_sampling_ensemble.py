"""`network(image)`: the whole ensemble against a loop written out by hand, and what must not change it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from helpers.network_samples import ARCHITECTURES, SETTINGS, VIEWS, by_hand, images, network, sampled
from nnunetv2_diffusion.diffusion import ddpm, noise_schedule, sampling_timesteps
from nnunetv2_diffusion.networks import NoisedImage, PreSegmentationNetwork
from nnunetv2_diffusion.sampling.noise import SamplingNoise
from nnunetv2_diffusion.settings import Process


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("mirror_samples", [False, True])
def test_logits_and_uncertainty_equal_a_loop_by_hand(name: str, regions: bool, mirror_samples: bool):
    net = network(sampled(mirror_samples=mirror_samples), name=name, regions=regions)
    fused, uncertainty = by_hand(net, images()[0])
    logits = net(images())
    probabilities = logits.sigmoid() if regions else logits.softmax(dim=1)
    np.testing.assert_allclose(probabilities[0].numpy(), fused, atol=2e-5)
    np.testing.assert_allclose(net.predict(images()).uncertainty[0].numpy(), uncertainty, atol=2e-5)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_channels(channels: int):
    net = network(channels=channels)
    fused, _ = by_hand(net, images(1, channels)[0])
    np.testing.assert_allclose(net(images(1, channels))[0].softmax(dim=0).numpy(), fused, atol=2e-5)


def test_noise_prediction_with_ancestral_sampling_and_the_mean_of_the_samples():
    """IISDM (Wolleb et al. 2021): mean and variance over finished samples of a denoiser that predicts ε."""
    settings = sampled(
        Process(prediction="velocity"), sampler="ddpm", ensemble="samples", samples=3, mirror_samples=False
    )
    net = network(settings)
    alphas = noise_schedule("linear", 1000)
    finished = []
    for sample in range(3):
        generator = torch.Generator().manual_seed(settings.sampling.seed * 2**16 + sample)

        def draw(generator=generator) -> torch.Tensor:
            return torch.randn(1, 3, 16, 16, generator=generator)

        def denoise(x: torch.Tensor, t: int) -> torch.Tensor:
            velocity = net.denoiser(images(), x, torch.tensor([t])).detach()
            noise = alphas[t].sqrt() * velocity + (1 - alphas[t]).sqrt() * x
            return ((x - (1 - alphas[t]).sqrt() * noise) / alphas[t].sqrt()).float().clamp(-1, 1)

        *_, last = ddpm(denoise, draw(), sampling_timesteps(999, 4), alphas, draw)
        finished.append((last.pred_x_start[0] + 1) / 2)
    samples = torch.stack(finished).numpy()
    maps = net.predict(images(), disagreement=True)
    expected = np.log(np.clip(samples.mean(axis=0), 1e-6, 1))
    np.testing.assert_allclose(maps.logits[0].numpy(), expected, atol=1e-3)
    np.testing.assert_allclose(maps.uncertainty[0].numpy(), samples.var(axis=0).mean(axis=0), atol=1e-4)
    entropies = [-(p * np.log(np.where(p > 0, p, 1))).sum(axis=0) / np.log(3) for p in (samples.mean(axis=0), *samples)]
    information = np.clip(entropies[0] - np.mean(entropies[1:], axis=0), 0, 1)
    np.testing.assert_allclose(maps.mutual_information[0].numpy(), information, atol=1e-3)


class Standin(nn.Module):
    """A denoiser that moves with its image under mirroring and does not look at x_t."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Module()
        self.decoder.seg_layers = nn.ModuleList([nn.Conv2d(1, 3, 1)])
        self.weights = torch.tensor([1.0, -2.0, 0.5])[None, :, None, None]

    def encode_image(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [2 * image]

    def forward(self, image, x_t, timestep, image_features):
        return self.weights * (image + image_features[0]) + timestep[:, None, None, None] / 1000


class LooksAtCorners(Standin):
    """A denoiser whose answer depends on where a pixel lies in what it sees."""

    def forward(self, image, x_t, timestep, image_features):
        ramp = torch.arange(image.shape[-1]) + 3 * torch.arange(image.shape[-2])[:, None]
        return super().forward(image, x_t, timestep, image_features) * (1 + ramp / 10)


def test_mirroring_is_undone_before_samples_are_averaged():
    net = network()
    net.denoiser = Standin()
    mirrored = net.predict(images())
    net.sampling = dataclasses.replace(net.sampling, mirror_samples=False)
    straight = net.predict(images())
    torch.testing.assert_close(mirrored.logits, straight.logits)
    torch.testing.assert_close(mirrored.uncertainty, straight.uncertainty)
    net.denoiser = LooksAtCorners()
    plain = net(images())
    net.sampling = dataclasses.replace(net.sampling, mirror_samples=True)
    assert (net(images()) - plain).abs().max() > 0.1


@pytest.mark.parametrize(
    ("allowed", "views"), [((True, True), VIEWS), ((True, False), VIEWS[:2]), ((False, True), ((), (-1,)))]
)
def test_samples_cycle_through_the_mirrorings_of_training(allowed: tuple[bool, bool], views: tuple):
    net = network()
    net.mirror_axes.copy_(torch.tensor(allowed))
    net.denoiser = LooksAtCorners()
    expected = []
    for sample in range(SETTINGS.sampling.samples):
        view = views[sample % len(views)]
        features = [2 * images().flip(view)]
        logits = net.denoiser(images().flip(view), None, torch.tensor([0]), features)
        expected.append(logits.softmax(dim=1).flip(view))
    net.sampling = dataclasses.replace(net.sampling, sampling_steps=1, ensemble_steps=1)
    mean = torch.stack(expected).mean(dim=0)
    fused = mean * (1 + torch.xlogy(mean, mean))
    torch.testing.assert_close(net(images()).softmax(dim=1), fused / fused.sum(dim=1, keepdim=True))


@pytest.mark.parametrize(("samples", "steps", "views"), [(1, 3, 1), (2, 1, 2), (4, 3, 4), (9, 5, 4)])
def test_the_image_encoder_runs_once_for_each_mirrored_view(samples: int, steps: int, views: int):
    net = network(sampled(samples=samples, sampling_steps=steps, ensemble_steps=1))
    calls = []
    net.denoiser.image_encoder.register_forward_hook(lambda module, seen, out: calls.append(len(seen[0])))
    net(images(2))
    assert sum(calls) == net.encoder_evaluations == 2 * views
    assert net.network_evaluations == 2 * samples * steps


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10, 100])
def test_chunks_of_samples_give_the_same_result(size: int):
    net = network()
    whole = net.predict(images(2), disagreement=True)
    evaluations = net.network_evaluations
    seen = []
    net.denoiser.encoder.register_forward_hook(lambda module, args, out: None)
    net.denoiser.encoder.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    net.batch_size = size
    parts = net.predict(images(2), disagreement=True)
    assert max(seen) <= size
    assert net.network_evaluations == 2 * evaluations
    for name in ("logits", "uncertainty", "variance", "mutual_information"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), atol=1e-4, rtol=1e-4)


def test_one_seed_one_result_whatever_was_predicted_before():
    net = network()
    first = net(images())
    torch.manual_seed(99)
    net(images(3, size=24))
    assert torch.equal(net(images()), first)
    torch.testing.assert_close(net(images(3))[:1], network()(images(3)[:1]), atol=1e-4, rtol=1e-4)
    net.sampling = dataclasses.replace(net.sampling, seed=4)
    assert (net(images()) - first).abs().max() > 1e-4


def test_noise_depends_on_seed_and_sample_alone():
    first = SamplingNoise(5, 3, (2, 4, 4), torch.device("cpu"))
    more = SamplingNoise(5, 6, (2, 4, 4), torch.device("cpu"))
    a, b = first.draw(), more.draw()
    assert torch.equal(a, b[:3])
    assert len({tuple(sample.flatten().tolist()) for sample in b}) == 6
    c = first.draw()
    assert torch.equal(c, more.draw()[:3])
    assert not torch.equal(SamplingNoise(6, 3, (2, 4, 4), torch.device("cpu")).draw(), a)
    again = SamplingNoise(5, 3, (2, 4, 4), torch.device("cpu"))
    assert torch.equal(again.draw(), a) and torch.equal(again.draw(), c)
    generator = torch.Generator().manual_seed(5 * 65536 + 1)
    one = [torch.randn((2, 4, 4), generator=generator) for _ in range(2)]
    assert torch.equal(a[1], one[0]) and torch.equal(c[1], one[1])
    numbers = SamplingNoise(0, 4, (3, 64, 64), torch.device("cpu")).draw()
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1) < 0.02
    with pytest.raises(ValueError, match="at most 65536 samples"):
        SamplingNoise(0, 65537, (1, 1, 1), torch.device("cpu"))


@pytest.mark.parametrize("regions", [False, True])
def test_logits_survive_half_precision_sums_of_a_certain_network(regions: bool):
    """nnU-Net adds up to thousands of logits times a Gaussian of at most 10 in half precision."""
    net = network(regions=regions)
    with torch.no_grad():
        net.denoiser.decoder.seg_layers[-1].weight.mul_(1e4)
    logits = net(images())
    assert logits.isfinite().all()
    assert logits.abs().max() <= 13.82
    assert logits.abs().max() > 13
    total = torch.zeros_like(logits, dtype=torch.half)
    for _ in range(400):
        total += (logits * 10).half()
    assert total.isfinite().all()


def test_a_step_in_training_and_the_ensemble_in_evaluation():
    net = network()
    x_t, timestep = torch.randn(2, 3, 16, 16), torch.tensor([1, 999])
    noised = NoisedImage(images(2), x_t, timestep)
    assert torch.equal(net.denoiser(images(2), x_t, timestep), net(noised))
    assert torch.equal(net.predict(images(2)).logits, net(images(2)))
    net.train()
    assert net(noised).requires_grad
    with pytest.raises(RuntimeError, match=r"in training the network takes a NoisedImage; call eval\(\)"):
        net(images())


def test_a_noised_image_moves_like_a_tensor():
    moved = NoisedImage(images(), torch.zeros(1, 3, 16, 16), torch.tensor([1])).to(torch.device("meta"), True)
    assert isinstance(moved, NoisedImage)
    assert {tensor.device.type for tensor in moved} == {"meta"}


@pytest.mark.parametrize(("heads", "regions"), [([[0], [1], [2]], False), ([[1, 2], [2]], True)])
def test_a_pre_segmentation_is_where_sampling_starts(heads: list, regions: bool):
    net = network(channels=2, heads=len(heads))
    start_timestep = 300
    settings = sampled(start_timestep=start_timestep)
    net = PreSegmentationNetwork(net.denoiser, settings, 2, heads, [1, 2], regions).eval()
    labels = np.random.default_rng(0).integers(0, 3, (2, 16, 16))
    one_hot = torch.from_numpy(np.stack([labels == 1, labels == 2], axis=1)).float()
    image = torch.cat([images(2, channels=2), one_hot], dim=1)
    mask = np.stack([np.isin(labels, values) for values in heads], axis=1)
    x_start = net.pre_segmentation(image)
    np.testing.assert_array_equal(x_start.numpy(), 2.0 * mask - 1)
    assert torch.equal(net.condition(image), images(2, channels=2))
    noise = torch.randn(x_start.shape)
    alpha = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[start_timestep]
    expected = np.sqrt(alpha) * x_start.numpy() + np.sqrt(1 - alpha) * noise.numpy()
    np.testing.assert_allclose(net.start(image, noise).numpy(), expected, atol=1e-5)
    assert net(image).shape == (2, len(heads), 16, 16)
    assert (net(image) - net(torch.cat([image[:, :2], one_hot.flip(2)], dim=1))).abs().max() > 1e-3
