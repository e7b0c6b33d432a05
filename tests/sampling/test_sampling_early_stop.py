"""Sampling that stops when the mask no longer changes: what is evaluated, and what comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helpers.network_samples import images, network, sampled
from nnunetv2_diffusion.sampling.early_stop import EarlyStop
from nnunetv2_diffusion.settings import Settings

FULL = sampled(sampling_steps=8, ensemble_steps=3)
SAMPLES, STEPS = FULL.sampling.samples, FULL.sampling.sampling_steps


def full(**changes) -> Settings:
    """FULL, sampled otherwise."""
    return replace(FULL, sampling=replace(FULL.sampling, **changes))


def scripted(shares: list[int], regions: bool = False) -> list[torch.Tensor]:
    """[S = 2, B = 1, K = 2, 10, 10] a step, whose mean mask has so many foreground pixels."""
    steps = []
    for pixels in shares:
        foreground = torch.zeros(100)
        foreground[:pixels] = 0.9
        maps = torch.stack([foreground, foreground] if regions else [1 - foreground, foreground]).reshape(1, 2, 10, 10)
        steps.append(torch.stack([maps, maps]))
    return steps


@pytest.mark.parametrize(("regions", "settled"), [(False, [False, False, False, True]), (True, [False] * 3 + [True])])
def test_a_slice_settles_when_less_than_the_tolerance_changes(regions: bool, settled: list[bool]):
    """20 -> 40 -> 42 -> 42 pixels: 20 / 40, then 2 / 42 = 0.048, then none, against 0.04."""
    follow = EarlyStop(0.04, regions)
    assert [follow(step)[1] for step in scripted([20, 40, 42, 42], regions)] == settled


def test_a_change_of_exactly_the_tolerance_is_no_rest():
    """3 -> 4 -> 4 pixels: 1 / 4 equals the tolerance, which a slice must fall below."""
    follow = EarlyStop(0.25, False)
    assert [follow(step)[1] for step in scripted([3, 4, 4])] == [False, False, True]


def test_a_settled_slice_keeps_its_answer_while_another_goes_on():
    follow = EarlyStop(0.04, False)
    steps = [
        torch.cat(pair, dim=1) for pair in zip(scripted([30, 30, 90, 60]), scripted([10, 20, 40, 40]), strict=True)
    ]
    answers = [follow(step) for step in steps]
    assert [settled for _, settled in answers] == [False, False, False, True]
    for answer, _ in answers[1:]:
        torch.testing.assert_close(answer[:, 0], steps[1][:, 0])
    torch.testing.assert_close(answers[-1][0][:, 1], steps[3][:, 1])


def test_a_tolerance_of_nearly_all_stops_after_two_steps_and_fuses_the_second():
    net, two = network(full(early_stop=0.999)), network(full(ensemble_steps=1))
    net.denoiser.forward = constant = lambda image, *rest: torch.cat([image, -image, 0 * image], dim=1)
    two.denoiser.forward = constant
    fused = net.predict(images())
    assert net.network_evaluations == 2 * SAMPLES
    torch.testing.assert_close(
        fused.logits.softmax(dim=1), two.predict(images()).logits.softmax(dim=1), atol=0.05, rtol=0
    )
    assert torch.equal(fused.logits.argmax(dim=1), two.predict(images()).logits.argmax(dim=1))


def test_without_a_tolerance_all_steps_are_taken_though_the_mask_has_settled():
    net = network(FULL)
    net.denoiser.forward = lambda image, *rest: torch.cat([image, -image, 0 * image], dim=1)
    net.predict(images(2))
    assert net.network_evaluations == SAMPLES * STEPS * 2


def test_a_slice_is_the_same_alone_and_beside_another():
    settings = full(early_stop=0.3)
    both, alone = network(settings).predict(images(2)), network(settings).predict(images(2)[:1])
    torch.testing.assert_close(both.logits[:1], alone.logits, atol=1e-4, rtol=1e-4)
