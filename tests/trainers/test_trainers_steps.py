"""One training step and one validation step: what is noised, how, and what DDP needs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import (
    nnUNetTrainerNoMirroring,
)
from torch.nn.parallel import DistributedDataParallel

from helpers.nnunet_samples import TinyProject, threads_for_processes
from helpers.trainer_samples import batch, trainer_of
from nnunetv2_diffusion.networks import NoisedImage
from nnunetv2_diffusion.planning.planner import add_configurations
from nnunetv2_diffusion.settings import Training
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDMEpsilon import nnUNetTrainerIISDMEpsilon
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPaper import nnUNetTrainerSpineSegDiffPaper
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPreSeg import nnUNetTrainerSpineSegDiffPreSeg

ALPHAS = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


@pytest.fixture
def seen_batches(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The batches that reach nnU-Net's own steps, which do nothing."""
    seen: list[dict] = []
    for name in ("train_step", "validation_step"):
        monkeypatch.setattr(nnUNetTrainer, name, lambda self, batch: seen.append(batch))
    return seen


@pytest.mark.parametrize("kind", ["labels", "regions"])
@pytest.mark.parametrize("scale", [1, 0.1])
def test_the_noised_mask_is_the_forward_process_of_the_true_one(tiny: TinyProject, kind: str, scale: float):
    trainer_class = nnUNetTrainerSpineSegDiffPaper if scale == 1 else nnUNetTrainerSpineSegDiff
    trainer, given = trainer_of(tiny, kind, trainer_class), batch(kind)
    timestep = torch.tensor([30, 700])
    noised, noise = trainer.noised(given, timestep)
    target = given["target"].numpy()
    mask = target if kind == "regions" else np.concatenate([target == label for label in range(3)], axis=1)
    alpha = ALPHAS[[30, 700]][:, None, None, None]
    expected = np.sqrt(alpha) * scale * (2.0 * mask - 1) + np.sqrt(1 - alpha) * noise.numpy()
    expected /= np.sqrt(scale**2 * alpha + 1 - alpha)
    np.testing.assert_allclose(noised["data"].x_t.numpy(), expected, atol=1e-5)
    assert torch.equal(noised["data"].image, given["data"])
    assert torch.equal(noised["data"].timestep, timestep)
    assert torch.equal(noised["target"], given["target"])
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_recycling_noises_what_the_denoiser_makes_of_pure_noise(tiny: TinyProject, monkeypatch, kind: str):
    trainer = trainer_of(tiny, kind)
    network, given = trainer.diffusion_network, batch(kind)
    heads = 2 if kind == "regions" else 3
    logits = torch.randn(2, heads, 32, 32, generator=torch.Generator().manual_seed(0))
    asked = []

    def denoise(image, x_t, timestep, features=None):
        asked.append((image, x_t, timestep.tolist()))
        return logits

    monkeypatch.setattr(network.denoiser, "forward", denoise)
    exponentials = np.exp(logits.double().numpy())
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = 2 * (softmax if heads == 3 else exponentials / (1 + exponentials)) - 1
    true = trainer.x_start(given["data"], given["target"])
    for share, training, recycled in ((1.0, True, True), (1.0, False, False), (0.0, True, False)):
        network.settings = replace(network.settings, training=Training(recycling=share))
        network.train(training)
        network.regions.fill_(kind == "regions")
        x_start = trainer.x_start(given["data"], given["target"])
        np.testing.assert_allclose(x_start.numpy(), expected if recycled else true.numpy(), atol=1e-5)
    assert len(asked) == 1 and asked[0][2] == [999, 999] and abs(asked[0][1].std() - 1) < 0.05


def test_half_of_the_steps_recycle(tiny: TinyProject, seen_batches: list[dict], monkeypatch):
    trainer = trainer_of(tiny)
    network = trainer.diffusion_network.train()
    network.settings = replace(network.settings, training=Training(recycling=0.5))
    asked = []
    monkeypatch.setattr(network.denoiser, "forward", lambda *inputs: asked.append(1) or torch.zeros(2, 3, 32, 32))
    torch.manual_seed(0)
    for _ in range(200):
        trainer.train_step(batch())
    assert 75 < len(asked) < 125


def test_a_stage_refuses_recycling(tiny: TinyProject):
    number = tiny.dataset()
    plans_file = tiny.preprocessed(number) / "nnUNetPlans.json"
    add_configurations(plans_file, timesteps=[4])
    plans = json.loads(plans_file.read_text())
    plans["configurations"]["2d_preseg_T4"]["diffusion"]["recycling"] = 0.5
    dataset_json = json.loads((tiny.preprocessed(number) / "dataset.json").read_text())
    with pytest.raises(ValueError, match=r"'2d_preseg_T4' sets recycling.*remove the setting"):
        nnUNetTrainerSpineSegDiffPreSeg(plans, "2d_preseg_T4", 0, dataset_json, torch.device("cpu"))


def test_timesteps_are_drawn_uniformly_and_each_images_own(tiny: TinyProject, seen_batches: list[dict]):
    trainer = trainer_of(tiny)
    torch.manual_seed(0)
    for _ in range(400):
        trainer.train_step(batch())
    drawn = torch.stack([given["data"].timestep for given in seen_batches])
    assert drawn.min() < 20
    assert 980 < drawn.max() < 1000
    counts = np.histogram(drawn.numpy(), bins=4, range=(0, 1000))[0]
    assert np.abs(counts - 200).max() < 50
    assert (drawn[:, 0] != drawn[:, 1]).float().mean() > 0.98


def test_timesteps_are_drawn_evenly_in_log_snr_where_the_plans_say_so(tiny: TinyProject):
    trainer = trainer_of(tiny, block={"timestep_density": "log_snr", "mask_scale": 0.1})
    torch.manual_seed(0)
    drawn = trainer.draw_timesteps(20_000).numpy()
    scaled = 0.01 * ALPHAS / (0.01 * ALPHAS + 1 - ALPHAS)
    np.testing.assert_allclose(trainer.alphas_cumprod.numpy(), scaled, rtol=1e-5)
    ratio = np.log(scaled / (1 - scaled))
    shares = np.histogram(ratio[drawn], bins=4, range=(ratio[-1], ratio[0]))[0] / len(drawn)
    np.testing.assert_allclose(shares, 0.25, atol=0.04)


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerSpineSegDiff, nnUNetTrainerIISDM])
def test_pseudo_dice_starts_from_the_noisiest_timestep(tiny, seen_batches, trainer_class: type):
    trainer_of(tiny, trainer_class=trainer_class).validation_step(batch())
    assert seen_batches[0]["data"].timestep.tolist() == [999, 999]


def test_a_training_step_moves_every_weight_that_the_loss_reaches(tiny: TinyProject):
    trainer = trainer_of(tiny)
    trainer.network.train()
    before = {name: value.clone() for name, value in trainer.network.named_parameters()}
    losses = [trainer.train_step(batch())["loss"] for _ in range(3)]
    assert np.isfinite(losses).all()
    assert [name for name, value in trainer.network.named_parameters() if torch.equal(value, before[name])] == []
    (group,) = trainer.optimizer.param_groups
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert group["lr"] == pytest.approx(1e-4)


def test_repeated_steps_on_one_batch_learn_it(tiny: TinyProject):
    trainer, given = trainer_of(tiny), batch()
    given["data"] = given["target"].float() + 0.1 * given["data"]
    trainer.network.train()
    for group in trainer.optimizer.param_groups:
        group["lr"] = 3e-3
    losses = [trainer.train_step(dict(given))["loss"] for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    trainer.network.eval()
    with torch.no_grad():
        mask = trainer.network(given["data"]).argmax(dim=1)
    assert (mask == given["target"][:, 0]).float().mean() > 0.9


def drawn(tiny: TinyProject, seen_batches: list[dict], trainer_class: type):
    """A trainer of ignored pixels after one step; ε, v and ᾱ of that step in float64, the pixels that count."""
    trainer, given = trainer_of(tiny, "ignore", trainer_class), batch()
    given["target"][:, :, :4] = 3
    torch.manual_seed(0)
    trainer.train_step(given)
    data = seen_batches[0]["data"]
    alpha = ALPHAS[data.timestep.numpy()][:, None, None, None]
    mask = torch.nn.functional.one_hot(given["target"][:, 0].long(), 4).movedim(-1, 1)[:, :3].double().numpy()
    mask[:, :, :4] = 1 / 3
    x_start = 2 * mask - 1
    noise = (data.x_t.double().numpy() - np.sqrt(alpha) * x_start) / np.sqrt(1 - alpha)
    v = np.sqrt(alpha) * noise - np.sqrt(1 - alpha) * x_start
    return trainer, seen_batches[0]["target"], noise, v, alpha, given["target"] != 3


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerIISDM, nnUNetTrainerIISDMEpsilon])
def test_the_target_of_iisdm_is_v_or_the_published_noise(tiny: TinyProject, seen_batches, trainer_class: type):
    trainer, target, noise, v, _, valid = drawn(tiny, seen_batches, trainer_class)
    wanted = noise if trainer_class is nnUNetTrainerIISDMEpsilon else v
    np.testing.assert_allclose(target.answer.numpy(), wanted, atol=1e-2)
    assert torch.equal(target.valid, valid)
    output = np.random.default_rng(0).normal(size=v.shape)
    squares = (output - target.answer.double().numpy())[:, :, 4:] ** 2
    assert trainer.loss(torch.from_numpy(output), target).item() == pytest.approx(squares.mean(), rel=1e-5)


def test_the_error_of_v_is_that_of_the_noise_divided_by_alpha(tiny: TinyProject, seen_batches: list[dict]):
    """What this trainer minimised when it was written with ε: same answer, same loss."""
    trainer, target, noise, v, alpha, _ = drawn(tiny, seen_batches, nnUNetTrainerIISDM)
    x_t = seen_batches[0]["data"].x_t.double().numpy()
    answer = np.random.default_rng(0).normal(size=v.shape)
    answered_noise = np.sqrt(alpha) * answer + np.sqrt(1 - alpha) * x_t
    weighted = ((answered_noise - noise) ** 2 / alpha)[:, :, 4:].mean()
    assert trainer.loss(torch.from_numpy(answer), target).item() == pytest.approx(weighted, rel=1e-4)


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerSpineSegDiff, nnUNetTrainerIISDM])
def test_a_step_of_adamw_is_its_definition(tiny: TinyProject, trainer_class: type):
    """Loshchilov and Hutter 2019, algorithm 2: a first step is by the learning rate, and 1e-2 of it decays a weight."""
    trainer = trainer_of(tiny, trainer_class=trainer_class)
    parameter = trainer.network.denoiser.encoder.stages[0][0].convs[0].conv.weight
    torch.nn.init.ones_(parameter)
    parameter.grad = torch.randn_like(parameter)
    trainer.optimizer.step()
    moved = 1 - parameter.detach().double()
    torch.testing.assert_close(moved, 1e-4 * (parameter.grad.double().sign() + 1e-2), rtol=0, atol=2e-7)
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {1e-2}
    assert trainer.lr_scheduler.initial_lr == 1e-4


def test_samples_are_mirrored_as_the_augmentation_mirrors(tiny: TinyProject):
    class WithoutMirroring(nnUNetTrainerSpineSegDiff, nnUNetTrainerNoMirroring):
        pass

    mirrored, straight = trainer_of(tiny), trainer_of(tiny, trainer_class=WithoutMirroring)
    for trainer, axes in ((mirrored, [True, True]), (straight, [False, False])):
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        assert trainer.network.mirror_axes.tolist() == axes
        assert trainer.inference_allowed_mirroring_axes is None


@pytest.mark.parametrize("trainer_class", [nnUNetTrainerSpineSegDiff, nnUNetTrainerIISDM, nnUNetTrainerIISDMEpsilon])
def test_ddp_takes_the_networks_steps_and_its_ensemble(tiny: TinyProject, tmp_path, trainer_class: type):
    """DDP stops at the second step when a parameter received no gradient in the first."""
    network = trainer_of(tiny, trainer_class=trainer_class).network
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/ddp", rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(network).train()
        for _ in range(2):
            noised = NoisedImage(torch.randn(2, 1, 32, 32), torch.randn(2, 3, 32, 32), torch.tensor([3, 900]))
            parallel(noised).square().mean().backward()
        parallel.eval()
        network.sampling = network.sampling.updated({"sampling_steps": 2}, network.process)
        with torch.no_grad():
            torch.testing.assert_close(parallel(noised.image), network(noised.image))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("fast", [True, False])
def test_the_log_says_what_a_cpu_computes_in(tiny: TinyProject, tmp_path, monkeypatch: pytest.MonkeyPatch, fast: bool):
    monkeypatch.setattr("nnunetv2_diffusion.sampling.precision.fast_bfloat16", lambda: fast)
    trainer = trainer_of(tiny)
    trainer.output_folder, trainer.log_file = str(tmp_path), str(tmp_path / "training_log.txt")
    with threads_for_processes():
        trainer.on_train_start()
    said = "The denoiser computes in bfloat16." if fast else "The denoiser computes in float32."
    assert said in (tmp_path / "training_log.txt").read_text()
