"""MSE + Dice + BCE against float64 numpy, by hand; what an ignore label must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunetv2_diffusion.trainers.losses import MaskTarget, MSEDiceBCELoss

HEADS, IGNORE, SHAPE = 3, 3, (2, 7, 5)  # batch, rows, columns


def labels(with_ignored: bool) -> np.ndarray:
    """[B, 1, H, W] as nnU-Net's loader gives it; with the ignore label 3 in places."""
    generator = np.random.default_rng(0)
    target = generator.integers(0, HEADS, SHAPE)
    if with_ignored:
        target[generator.random(SHAPE) < 0.3] = IGNORE
    return target[:, None].astype(np.int16)


def region_targets(with_ignored: bool) -> np.ndarray:
    """Boolean [B, regions (+ ignore), H, W] of the regions (1, 2) and (2,)."""
    target = labels(with_ignored)[:, 0]
    channels = [np.isin(target, (1, 2)), target == 2, *([target == IGNORE] * with_ignored)]
    return np.stack(channels, axis=1)


def logits(heads: int, scale: float = 2.0) -> torch.Tensor:
    return torch.from_numpy(scale * np.random.default_rng(1).normal(size=(2, heads, *SHAPE[1:]))).float()


def by_hand(
    output: np.ndarray, target: np.ndarray, regions: bool, ignored: bool, batch_dice: bool, weight: float = 1
) -> float:
    """MSE + w Dice + BCE over the valid pixels, in float64."""
    output = output.astype(float)
    if regions:
        p = 1 / (1 + np.exp(-output))
        mask = target[:, : output.shape[1]].astype(float)
        valid = ~target[:, -1] if ignored else np.ones(SHAPE, bool)
    else:
        p = np.exp(output) / np.exp(output).sum(axis=1, keepdims=True)
        mask = np.stack([target[:, 0] == label for label in range(HEADS)], axis=1).astype(float)
        valid = target[:, 0] != IGNORE
    p, mask = np.moveaxis(p, 1, -1), np.moveaxis(mask, 1, -1)
    mse = ((p - mask)[valid] ** 2).mean()
    bce = -(mask * np.log(p) + (1 - mask) * np.log(1 - p))[valid].mean()
    foreground = slice(None) if regions else slice(1, None)
    p, mask = (p * valid[..., None])[..., foreground], (mask * valid[..., None])[..., foreground]
    axes = (0, 1, 2) if batch_dice else (1, 2)
    dice = (2 * (p * mask).sum(axes) + 1e-5) / (p.sum(axes) + mask.sum(axes) + 1e-5)
    return mse + weight * (1 - dice.mean()) + bce


def loss_function(regions: bool, ignored: bool, batch_dice: bool = True) -> MSEDiceBCELoss:
    return MSEDiceBCELoss(2 if regions else HEADS, regions, IGNORE if ignored else None, batch_dice, ddp=False)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("regions", [False, True])
def test_the_loss_equals_its_definition(regions: bool, ignored: bool, batch_dice: bool):
    target = (region_targets if regions else labels)(ignored)
    output = logits(2 if regions else HEADS)
    loss = loss_function(regions, ignored, batch_dice)(output, torch.from_numpy(target))
    assert loss.item() == pytest.approx(by_hand(output.numpy(), target, regions, ignored, batch_dice), rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_dice_counts_by_its_weight(weight: float):
    output, target = logits(HEADS), labels(False)
    loss = MSEDiceBCELoss(HEADS, False, None, True, ddp=False, dice_weight=weight)(output, torch.from_numpy(target))
    assert loss.item() == pytest.approx(by_hand(output.numpy(), target, False, False, True, weight), rel=1e-5)


@pytest.mark.parametrize("regions", [False, True])
def test_ignored_pixels_change_neither_loss_nor_gradient(regions: bool):
    target = torch.from_numpy((region_targets if regions else labels)(True))
    ignored = target[:, -1:].bool() if regions else target == IGNORE
    output = logits(2 if regions else HEADS).requires_grad_()
    loss = loss_function(regions, True)(output, target)
    loss.backward()
    assert not (output.grad * ignored).any()
    assert (output.grad * ~ignored).any()
    other = torch.where(ignored, 50 * torch.randn_like(output), output)
    assert loss_function(regions, True)(other, target).item() == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize("regions", [False, True])
def test_a_batch_of_ignored_pixels_alone_gives_a_finite_loss_and_no_gradient(regions: bool):
    target = torch.full((2, 1, *SHAPE[1:]), IGNORE)
    if regions:
        target = torch.cat([torch.zeros(2, 2, *SHAPE[1:]), torch.ones(2, 1, *SHAPE[1:])], dim=1).bool()
    output = logits(2 if regions else HEADS).requires_grad_()
    loss = loss_function(regions, True)(output, target)
    loss.backward()
    assert loss.isfinite()
    assert not output.grad.any()


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("certainty", [20.0, 200.0])
def test_a_confidently_wrong_pixel_keeps_a_gradient(regions: bool, certainty: float):
    """Where the probability has underflowed to 0 or 1, its logarithm would have none."""
    target = torch.from_numpy((region_targets if regions else labels)(False))
    mask = target if regions else torch.nn.functional.one_hot(target[:, 0].long(), HEADS).movedim(-1, 1)
    output = (certainty * (1 - 2 * mask.float())).requires_grad_()
    loss = loss_function(regions, False)(output, target)
    loss.backward()
    assert loss.isfinite()
    assert loss > certainty / 2
    right = mask.bool()
    assert (output.grad[right] < -1e-3).all()


@pytest.mark.parametrize("regions", [False, True])
def test_a_perfect_prediction_has_almost_no_loss(regions: bool):
    target = torch.from_numpy((region_targets if regions else labels)(False))
    mask = target if regions else torch.nn.functional.one_hot(target[:, 0].long(), HEADS).movedim(-1, 1)
    assert loss_function(regions, False)(40 * (2 * mask.float() - 1), target).item() == pytest.approx(0, abs=1e-4)


def test_half_precision_logits_are_evaluated_in_single_precision():
    target = torch.from_numpy(labels(False))
    output = logits(HEADS).half()
    loss = loss_function(False, False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(output, target).dtype == torch.float32
    assert loss(output, target).item() == pytest.approx(
        by_hand(output.double().numpy(), labels(False), False, False, True), rel=1e-5
    )


def test_an_ignored_pixels_mask_is_unknown():
    mask, valid = MaskTarget(HEADS, False, IGNORE)(torch.from_numpy(labels(True)))
    ignored = torch.from_numpy(labels(True) == IGNORE)
    assert torch.equal(valid, ~ignored)
    torch.testing.assert_close(mask.movedim(1, -1)[ignored[:, 0]], torch.full((int(ignored.sum()), HEADS), 1 / 3))
    mask, valid = MaskTarget(2, True, IGNORE)(torch.from_numpy(region_targets(True)))
    assert torch.equal(valid, ~ignored)
    assert (mask.movedim(1, -1)[ignored[:, 0]] == 0.5).all()
    assert torch.equal(mask[:, 1:2][valid], torch.from_numpy(labels(True) == 2)[valid].float())
