"""What the diffusion is measured against: the plan's own U-Net, trained as SpineSegDiff is, that segments at once."""

from __future__ import annotations

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_diffusion.sampling.precision import autocast
from nnunetv2_diffusion.settings import Settings
from nnunetv2_diffusion.trainers.finite_losses import FiniteLosses
from nnunetv2_diffusion.trainers.losses import MSEDiceBCELoss
from nnunetv2_diffusion.trainers.optimiser import WEIGHT_DECAY, adamw
from nnunetv2_diffusion.trainers.study_runs import StudyRuns
from nnunetv2_diffusion.trainers.whole_checkpoints import WholeCheckpoints


class nnUNetTrainerSpineSegDiffControl(FiniteLosses, WholeCheckpoints, StudyRuns, nnUNetTrainer):
    """SpineSegDiff without x_t, timesteps and the second encoder: same plan, loss, optimiser, steps and augmentation.

    The result is a plain model of nnU-Net, predicted with nnU-Net's own mirroring. Of the configuration's `diffusion`
    block it takes `learning_rate` and `dice_weight`. For 2D and 3D configurations.
    """

    epochs = 810
    precision = "auto"

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ):
        planned = PlansManager(plans).get_configuration(configuration)
        self.settings_of_training = Settings().updated(planned.configuration.get("diffusion")).training
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.epochs
        self.initial_lr = self.settings_of_training.learning_rate
        self.weight_decay = WEIGHT_DECAY
        self.enable_deep_supervision = False

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> torch.nn.Module:
        """The plan's network without deep supervision, whose layers see no gradient: DDP must not wait for one."""
        network = nnUNetTrainer.build_network_architecture(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, False
        )
        seg_layers = getattr(getattr(network, "decoder", None), "seg_layers", [])
        for layer in seg_layers[:-1]:
            layer.requires_grad_(False)
        return network

    def configure_optimizers(self):
        """AdamW at the configured learning rate with nnU-Net's polynomial decay, as SpineSegDiff."""
        return adamw(self)

    def train_step(self, batch: dict) -> dict:
        """As nnU-Net, in the number format that SpineSegDiff trains in on this processor."""
        with autocast(self.precision, self.device):
            return super().train_step(batch)

    def validation_step(self, batch: dict) -> dict:
        """As nnU-Net, in the number format of training."""
        with autocast(self.precision, self.device):
            return super().validation_step(batch)

    def _build_loss(self) -> torch.nn.Module:
        return MSEDiceBCELoss.planned(self, self.settings_of_training.dice_weight)
