"""The sampler by itself: a model of plain functions, no network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunetv2_diffusion.sampling.sampler import Sampler, alphas_cumprod
from nnunetv2_diffusion.sampling.views import ViewedImages, unmirrored_probabilities, views_of_samples
from nnunetv2_diffusion.settings import Process, Sampling


class Oracle:
    """Answers with what is exactly right for one mask, x_0 [2, 8, 8], in the terms of the process."""

    heads = 2

    def __init__(self, process: Process):
        self.process = process
        self.alphas = alphas_cumprod(process).float()
        self.mask = torch.randint(0, 2, (8, 8), generator=torch.Generator().manual_seed(0)).float()
        self.x_start = torch.stack([1 - self.mask, self.mask]) * 2 - 1

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        return []

    def start(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return noise

    def denoise(self, images, x_t, timestep, features):
        if self.process.prediction == "x_start":
            return 20 * self.x_start.expand_as(x_t)
        alpha = self.alphas[timestep][:, None, None, None]
        noise = (x_t - alpha.sqrt() * self.x_start) / (1 - alpha).sqrt()
        return noise if self.process.prediction == "noise" else alpha.sqrt() * noise - (1 - alpha).sqrt() * self.x_start


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("prediction", ["x_start", "velocity", "noise"])
def test_a_perfect_model_is_sampled_to_its_mask_in_whatever_it_predicts(prediction: str, sampler: str):
    process = Process(timesteps=50, schedule="cosine", schedule_timesteps=100, prediction=prediction)
    oracle = Oracle(process)
    sampling = Sampling(sampler=sampler, samples=3, mirror_samples=False)
    maps = Sampler(oracle, process, sampling).predict(torch.zeros(2, 1, 8, 8), disagreement=True)
    assert torch.equal(maps.logits.argmax(dim=1), oracle.mask.long().expand(2, 8, 8))
    for name in ("uncertainty", "variance", "mutual_information"):
        torch.testing.assert_close(getattr(maps, name), torch.zeros(2, 8, 8), atol=1e-3, rtol=0)


def test_the_cumulative_products_are_those_of_the_process():
    by_hand = np.cumprod(1 - np.linspace(1e-3, 0.3, 40))[:20]
    process = Process(timesteps=20, schedule_timesteps=40, beta_start=1e-3, beta_end=0.3)
    np.testing.assert_allclose(alphas_cumprod(process).numpy(), by_hand, rtol=1e-12)


def test_views_cycle_through_the_mirrorings_that_training_knew():
    assert views_of_samples(6, (True, True)) == [(), (-2,), (-1,), (-2, -1), (), (-2,)]
    assert views_of_samples(3, (False, True)) == [(), (-1,), ()]
    assert views_of_samples(2, ()) == [(), ()]


@pytest.mark.parametrize("chunk", [slice(0, 10), slice(1, 3), slice(3, 9), slice(9, 10)])
def test_each_sample_sees_its_view_and_gets_the_features_of_it(chunk: slice):
    images = torch.arange(2 * 3 * 4.0).reshape(2, 1, 3, 4)
    views = views_of_samples(5, (True, True))
    viewed = ViewedImages(images, views)
    by_hand = torch.stack([image.flip(view) for view in views for image in images])
    assert torch.equal(viewed.seen, by_hand)
    assert len(viewed.distinct) == 8
    (features,) = viewed.of_samples([10 * viewed.distinct], chunk)
    assert torch.equal(features, 10 * by_hand[chunk])
    back = unmirrored_probabilities(viewed.seen / 100, views)
    for sample in back:
        torch.testing.assert_close(sample, (images / 100 + 1) / 2)
