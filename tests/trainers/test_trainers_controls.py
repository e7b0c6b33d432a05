"""The two controls: what they share with SpineSegDiff, and what they lack."""

from __future__ import annotations

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from helpers.nnunet_samples import TinyProject
from helpers.trainer_samples import batch, trainer_of
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.trainers.losses import MSEDiceBCELoss
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffControl import nnUNetTrainerSpineSegDiffControl
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffOneStep import nnUNetTrainerSpineSegDiffOneStep

BLOCK = {"learning_rate": 3e-3, "dice_weight": 0.2}


def test_the_control_is_the_plans_unet_with_spinesegdiffs_training(tiny: TinyProject):
    control = trainer_of(tiny, trainer_class=nnUNetTrainerSpineSegDiffControl, block=BLOCK)
    diffusion = trainer_of(tiny, trainer_class=nnUNetTrainerSpineSegDiff, block=BLOCK)
    stock = trainer_of(tiny, trainer_class=nnUNetTrainer)
    assert type(control.network) is type(stock.network)
    denoiser = diffusion.diffusion_network.denoiser
    widths = [control.network.encoder.output_channels, denoiser.encoder.output_channels]
    assert widths[0] == widths[1] and control.network(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)
    for trainer in (control, diffusion):
        (group,) = trainer.optimizer.param_groups
        assert isinstance(trainer.optimizer, torch.optim.AdamW)
        assert (group["lr"], group["weight_decay"]) == (3e-3, 1e-2)
        assert isinstance(trainer.loss, MSEDiceBCELoss) and trainer.loss.dice_weight == 0.2
        assert trainer.num_epochs == 810
    control.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert control.inference_allowed_mirroring_axes == (0, 1)  # nnU-Net's own mirroring at prediction


@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_a_step_of_the_control_follows_the_loss(tiny: TinyProject, kind: str):
    control, given = trainer_of(tiny, kind, nnUNetTrainerSpineSegDiffControl), batch(kind)
    control.precision = "float32"
    control.network.train()
    with torch.no_grad():
        expected = control.loss(control.network(given["data"]), given["target"])
    before = {name: weight.clone() for name, weight in control.network.named_parameters()}
    assert control.train_step(given)["loss"] == pytest.approx(expected.item(), rel=1e-5)
    still = [name for name, weight in control.network.named_parameters() if torch.equal(before[name], weight)]
    assert still == ["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"]  # of deep supervision
    assert not any(dict(control.network.named_parameters())[name].requires_grad for name in still)
    assert control.validation_step(given)["loss"] > 0


def test_one_step_sees_pure_noise_alone(tiny: TinyProject):
    trainer = trainer_of(tiny, trainer_class=nnUNetTrainerSpineSegDiffOneStep)
    assert trainer.draw_timesteps(5).tolist() == [999] * 5
    assert trainer.diffusion_network.sampling.sampling_steps == 1
    message = "sampling_steps is 5, but this model was trained at the noisiest timestep alone"
    with pytest.raises(ValueError, match=message):
        trainer_of(tiny, trainer_class=nnUNetTrainerSpineSegDiffOneStep, block={"sampling_steps": 5})


def test_one_step_is_predicted_in_one_step(tiny: TinyProject):
    model = tiny.model(trainer="TinyOneStep")
    with pytest.raises(ValueError, match="sampling_steps is 3, but this model"):
        DiffusionPredictor({"sampling_steps": 3}).initialize_from_trained_model_folder(model, [0])
