"""`pytest -m gpu`: training on a CUDA device in half precision and compiled, and sampling where memory runs out.

What a CPU can do as well is done there, too, so that these tests are right before a GPU sees them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.network_samples import images, network, sampled
from helpers.nnunet_samples import TinyProject
from helpers.trainer_samples import batch, trainer_of
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffControl import nnUNetTrainerSpineSegDiffControl

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
TRAINERS = (nnUNetTrainerSpineSegDiff, nnUNetTrainerIISDM, nnUNetTrainerSpineSegDiffControl)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_steps_lower_the_loss(tiny: TinyProject, trainer_class: type, device: str):
    """With nnU-Net's gradient scaler on a GPU, whose half precision needs one."""
    trainer = trainer_of(tiny, trainer_class=trainer_class, block={"learning_rate": 3e-3}, device=device)
    assert (trainer.grad_scaler is not None) == (device == "cuda")
    trainer.network.train()
    torch.manual_seed(0)
    given = batch()
    given["data"] = given["target"].float() + 0.1 * given["data"]
    losses = [float(trainer.train_step(given)["loss"]) for _ in range(40)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert np.isfinite(float(trainer.validation_step(given)["loss"]))


@pytest.mark.gpu
def test_a_compiled_denoiser_trains_and_predicts(tiny: TinyProject, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("nnUNet_compile", "t")
    trainer = trainer_of(tiny, device="cuda")
    assert trainer.diffusion_network.denoiser._compiled_call_impl is not None
    trainer.network.train()
    assert np.isfinite([float(trainer.train_step(batch())["loss"]) for _ in range(3)]).all()
    trainer.network.eval()
    with torch.inference_mode(), torch.autocast("cuda"):
        assert torch.isfinite(trainer.network(batch()["data"].to("cuda"))).all()


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_samples_in_portions_are_those_of_one_batch(device: str):
    net = network(sampled(samples=4, sampling_steps=3, ensemble_steps=3)).to(device)
    given = images(2, size=32).to(device)
    whole = net.predict(given).logits
    for size in (1, 3):
        net.batch_size = size
        torch.testing.assert_close(net.predict(given).logits, whole, atol=2e-3, rtol=2e-3)


@pytest.mark.gpu
def test_sampling_goes_on_in_halves_where_the_memory_of_a_gpu_runs_out():
    net, given = network(sampled(samples=64)).to("cuda"), images(1, size=256).to("cuda")
    expected = net.predict(given).logits
    net.batch_size = None
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(free - 200 * 2**20, dtype=torch.uint8, device="cuda")
    with pytest.warns(RuntimeWarning, match="out of memory: going on with"):
        actual = net.predict(given).logits
    del held
    assert net.batch_size < 64
    torch.testing.assert_close(actual, expected, atol=2e-2, rtol=2e-2)
