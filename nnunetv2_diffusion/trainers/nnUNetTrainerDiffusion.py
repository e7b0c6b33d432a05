"""What the diffusion trainers share: settings from the plans, AdamW, noised batches, one denoising step a batch.

nnU-Net's own training loop, train step, validation step, loaders, checkpoints and final validation run unchanged: a
batch's image becomes a `NoisedImage`, which nnU-Net moves to the device and hands to the network like any tensor.
"""

from __future__ import annotations

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch._dynamo import OptimizedModule

from nnunetv2_diffusion.diffusion import log_snr_density, q_sample, to_x_start
from nnunetv2_diffusion.networks import Denoiser, DiffusionNetwork, NoisedImage
from nnunetv2_diffusion.sampling.precision import computes_in
from nnunetv2_diffusion.settings import Settings
from nnunetv2_diffusion.trainers.finite_losses import FiniteLosses
from nnunetv2_diffusion.trainers.losses import MaskTarget
from nnunetv2_diffusion.trainers.optimiser import WEIGHT_DECAY, adamw
from nnunetv2_diffusion.trainers.pretrained_weights import let_pretrained_weights_fit_in_part
from nnunetv2_diffusion.trainers.study_runs import StudyRuns
from nnunetv2_diffusion.trainers.whole_checkpoints import WholeCheckpoints


class nnUNetTrainerDiffusion(FiniteLosses, WholeCheckpoints, StudyRuns, nnUNetTrainer):
    """Base of the diffusion trainers; train with one of its subclasses."""

    settings = Settings()
    network_class = DiffusionNetwork
    auxiliary_encoder = True
    epochs = 1000
    precision = "auto"

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008
    ):
        # Before nnU-Net makes the results folder.
        planned = PlansManager(plans).get_configuration(configuration)
        dimensions = len(planned.patch_size)
        if dimensions != 2:
            raise ValueError(
                f"{type(self).__name__} trains two-dimensional configurations, but {configuration!r} of plans "
                f"{plans['plans_name']!r} has {dimensions} dimensions; use a 2d configuration"
            )
        self.settings_of_training = self.configured_settings(planned).training
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.epochs
        self.initial_lr = self.settings_of_training.learning_rate
        self.weight_decay = WEIGHT_DECAY
        self.enable_deep_supervision = False

    @classmethod
    def configured_settings(cls, configuration_manager: ConfigurationManager) -> Settings:
        """The trainer's settings with the configuration's `diffusion` block in place.

        Raises:
            ValueError: the block is not valid, asks for a prediction that the trainer's loss is not made for, or for a
                start that its network cannot take.
        """
        settings = cls.settings.updated(configuration_manager.configuration.get("diffusion"))
        own, asked = cls.settings.process.prediction, settings.process.prediction
        if asked != own:
            raise ValueError(
                f"{cls.__name__} trains a denoiser that predicts {own}, but the configuration's diffusion block sets "
                f"prediction to {asked}; remove it there, or name the trainer that predicts {asked}"
            )
        cls.network_class.check_start(settings)
        return settings

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """The denoiser of the plan inside the module that nnU-Net sees; called by nnU-Net to train and to predict."""
        settings = cls.configured_settings(configuration_manager)
        denoiser = cls.build_denoiser(configuration_manager, num_input_channels, num_output_channels, settings)
        return cls.network_class(denoiser, settings)

    @classmethod
    def build_denoiser(
        cls, configuration_manager: ConfigurationManager, image_channels: int, heads: int, settings: Settings
    ) -> Denoiser:
        """The plan's denoiser over [image, x_t]."""
        checkpointed = settings.training.checkpoint_activations
        return Denoiser(configuration_manager, image_channels, heads, cls.auxiliary_encoder, checkpointed)

    def initialize(self) -> None:
        """As nnU-Net, but compile the denoiser's step instead of the whole module, whose sampling loop is Python."""
        self.mask_target = MaskTarget(
            self.label_manager.num_segmentation_heads, self.label_manager.has_regions, self.label_manager.ignore_label
        )
        super().initialize()
        network = self.diffusion_network
        network.regions.fill_(self.label_manager.has_regions)
        network.precision = self.precision
        self._follow_process()
        let_pretrained_weights_fit_in_part(self.print_to_log_file)
        if super()._do_i_compile():
            self.print_to_log_file("Using torch.compile for the denoiser...")
            network.denoiser.compile()

    def _do_i_compile(self) -> bool:
        return False

    def _follow_process(self) -> None:
        """Noise as the network's process does; in single precision, since MPS has no other."""
        alphas = self.diffusion_network.alphas_cumprod
        self.alphas_cumprod = alphas.float().to(self.device)
        self.timestep_density = log_snr_density(alphas).float().to(self.device)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """As nnU-Net; training goes on with the process that the weights were trained for so far."""
        super().load_checkpoint(filename_or_checkpoint)
        self._follow_process()

    @property
    def diffusion_network(self) -> DiffusionNetwork:
        """The network without DDP's and torch.compile's wrappers."""
        network = self.network.module if self.is_ddp else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def configure_optimizers(self):
        """AdamW at the configured learning rate (paper, Table 4: 1e-4) with nnU-Net's polynomial decay."""
        return adamw(self)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):  # noqa: N802
        """nnU-Net's augmentation; at prediction each sample has its own mirroring, so nnU-Net must not mirror again."""
        augmentation = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        allowed = augmentation[-1] or ()
        self.diffusion_network.mirror_axes.copy_(torch.tensor([axis in allowed for axis in range(2)]))
        self.inference_allowed_mirroring_axes = None
        return augmentation

    def on_train_start(self) -> None:
        """As nnU-Net; pretrained weights bring the label type of the dataset that they were trained on."""
        super().on_train_start()
        if self.device.type == "cpu":
            self.print_to_log_file(f"The denoiser computes in {computes_in(self.precision, self.device)}.")
        self.diffusion_network.regions.fill_(self.label_manager.has_regions)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """The denoiser has one output, at full resolution."""

    def noised(self, batch: dict, timestep: torch.Tensor) -> tuple[dict, torch.Tensor]:
        """nnU-Net's batch with its image noised, and the noise.

        Args:
            batch: data [B, C, H, W] and target as nnU-Net's loader gives them.
            timestep: [B], whole numbers 0 ... T-1.

        Returns:
            The batch on the device with a `NoisedImage` as its data; ε, [B, K, H, W].
        """
        target = batch["target"].to(self.device, non_blocking=True)
        image = batch["data"].to(self.device, non_blocking=True)
        x_start = self.x_start(image, target)
        noise = torch.randn_like(x_start)
        x_t = q_sample(x_start, noise, self.alphas_cumprod[timestep][:, None, None, None])
        return {**batch, "data": NoisedImage(image, x_t, timestep), "target": target}, noise

    def x_start(self, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The mask that is noised, [B, K, H, W] in [-1, 1]: the true one."""
        return to_x_start(self.mask_target(target)[0])

    def training_target(self, target: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor):
        """What the loss compares the denoiser's prediction with in training: nnU-Net's target."""
        return target

    def draw_timesteps(self, count: int) -> torch.Tensor:
        """The timesteps of a training batch, [count] in 0 ... T-1, drawn as `timestep_density` says."""
        if self.settings_of_training.timestep_density == "log_snr":
            return torch.multinomial(self.timestep_density, count, replacement=True)
        return torch.randint(len(self.alphas_cumprod), (count,), device=self.device)

    def train_step(self, batch: dict) -> dict:
        """One denoising step at timesteps that are drawn anew for every image."""
        timestep = self.draw_timesteps(len(batch["data"]))
        noised, noise = self.noised(batch, timestep)
        return super().train_step({**noised, "target": self.training_target(noised["target"], noise, timestep)})

    def validation_step(self, batch: dict) -> dict:
        """Pseudo Dice of one step from the noisiest timestep: cheap."""
        timestep = torch.full((len(batch["data"]),), len(self.alphas_cumprod) - 1, device=self.device)
        noised, _ = self.noised(batch, timestep)
        return super().validation_step(noised)
