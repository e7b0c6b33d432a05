"""SpineSegDiff after pre-segmentation (paper, section 3.1): refines nnU-Net's own prediction, partly noised."""

from __future__ import annotations

from pathlib import Path

import torch
from nnunetv2.paths import nnUNet_results
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunetv2_diffusion.networks import PreSegmentationNetwork
from nnunetv2_diffusion.nnunet_names import ModelName, next_stage_folder, stage_name
from nnunetv2_diffusion.settings import Settings
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff
from nnunetv2_diffusion.trainers.pre_segmentations import check_pre_segmentations


class nnUNetTrainerSpineSegDiffPreSeg(nnUNetTrainerSpineSegDiff):
    """A cascade in nnU-Net's sense: x_t is the baseline's out-of-fold mask noised, the target the true mask.

    Trains the configurations that `spinesegdiff plan --timesteps` adds; their `pre_segmentation` block names the
    baseline's trainer, and their `diffusion` block the schedule. nnU-Net's augmentation of the previous stage's mask
    stays.
    """

    settings = Settings()
    network_class = PreSegmentationNetwork

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ):
        planned = PlansManager(plans).get_configuration(configuration)
        block = pre_segmentation_block(planned)
        if self.configured_settings(planned).training.recycling > 0:
            raise ValueError(
                f"configuration {configuration!r} sets recycling, but a pre-segmentation stage noises the baseline's "
                "mask in every step; remove the setting from its diffusion block"
            )
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.folder_with_segs_from_previous_stage is not None:
            baseline = ModelName(
                block["previous_trainer"],
                self.plans_manager.plans_name,
                self.configuration_manager.previous_stage_name,
            )
            folder = Path(nnUNet_results) / self.plans_manager.dataset_name / str(baseline)
            self.folder_with_segs_from_previous_stage = str(next_stage_folder(folder, configuration))

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """The denoiser of the plan over the image alone; the appended mask channels become x_t."""
        block = pre_segmentation_block(configuration_manager)
        image_channels = num_input_channels - len(block["foreground_labels"])
        settings = cls.configured_settings(configuration_manager)
        denoiser = cls.build_denoiser(configuration_manager, image_channels, num_output_channels, settings)
        return cls.network_class(denoiser, settings, image_channels, block["heads"], block["foreground_labels"])

    def x_start(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mask that is noised, [B, K, H, W] in [-1, 1]: the pre-segmentation."""
        return self.diffusion_network.pre_segmentation(image)

    def on_train_start(self) -> None:
        """As nnU-Net, after a look at every pre-segmentation that will be read."""
        if not self.was_initialized:
            self.initialize()
        check_pre_segmentations(
            Path(self.folder_with_segs_from_previous_stage),
            Path(self.preprocessed_dataset_folder),
            self.plans_manager,
            self.configuration_manager,
            self.label_manager,
            sorted({case for cases in self.do_split() for case in cases}),
        )
        super().on_train_start()


def pre_segmentation_block(configuration_manager: ConfigurationManager) -> dict:
    """The configuration's `pre_segmentation` block.

    Raises:
        ValueError: it has none, so it is no stage that `spinesegdiff plan` wrote.
    """
    block = configuration_manager.configuration.get("pre_segmentation")
    if block is None:
        raise ValueError(
            "this configuration is no pre-segmentation stage; train one of those that "
            f"`spinesegdiff plan -d DATASET --timesteps 30` adds, e.g. {stage_name('2d', 30)}"
        )
    return block
