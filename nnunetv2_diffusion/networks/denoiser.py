"""The plan's own 2D U-Net as denoiser, and the auxiliary image encoder of the same plan (paper, appendix A.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn
from torch.utils.checkpoint import checkpoint

from nnunetv2_diffusion.networks.timestep_embedding import StageModulation, TimestepEmbedding


class Denoiser(nn.Module):
    """Predicts K maps from [image, x_t] and the timestep.

    Every encoder and decoder stage is modulated by the timestep embedding; every encoder stage adds the features that
    the auxiliary encoder found in the image alone (Xing et al. 2023), where there is one.

    Args:
        configuration: the plan's configuration; PlainConvUNet and ResidualEncoderUNet in 2D.
        image_channels: channels of the image that conditions the denoiser.
        heads: K, channels of x_t and of the prediction.
        auxiliary_encoder: build the second encoder.
        checkpoint_activations: of a stage keep what goes into it alone, and compute it again in the backward pass
            (Chen et al. 2016): gradients stay the same.

    Raises:
        ValueError: a 3D configuration, or an architecture without encoder and decoder stages.
    """

    def __init__(
        self,
        configuration: ConfigurationManager,
        image_channels: int,
        heads: int,
        auxiliary_encoder: bool = True,
        checkpoint_activations: bool = False,
    ):
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        unet = _planned_unet(configuration, image_channels + heads, heads)
        self.encoder, self.decoder = unet.encoder, unet.decoder
        # The decoder keeps a second reference to the encoder, which would list every weight twice in checkpoints, and
        # segmentation layers for deep supervision, which would never see a gradient (an error under DDP).
        self.decoder.encoder = None
        self.decoder.seg_layers = nn.ModuleList([self.decoder.seg_layers[-1]])
        self.image_encoder = _planned_unet(configuration, image_channels, heads).encoder if auxiliary_encoder else None
        widths = list(unet.encoder.output_channels)
        self.timestep_embedding = TimestepEmbedding()
        dimension = self.timestep_embedding.dimension
        self.encoder_modulations = nn.ModuleList(StageModulation(dimension, width) for width in widths)
        self.decoder_modulations = nn.ModuleList(StageModulation(dimension, width) for width in widths[-2::-1])

    def encode_image(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The auxiliary encoder's features of [B, C, H, W], one tensor a stage; an empty list where there is none.

        They depend on the image alone: compute them once and hand them to every step and every sample.
        """
        if self.image_encoder is None:
            return []
        if not self._checkpoints:
            return self.image_encoder(image)
        features = [_stem(self.image_encoder, image)]
        for stage in self.image_encoder.stages:
            features.append(self._stage(stage, features[-1]))
        return features[1:]

    def forward(
        self,
        image: torch.Tensor,
        x_t: torch.Tensor,
        timestep: torch.Tensor,
        image_features: Sequence[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Predict [B, K, H, W] from image [B, C, H, W], x_t [B, K, H, W], timestep [B] and the image's features."""
        if image_features is None:
            image_features = self.encode_image(image)
        embedding = self.timestep_embedding(timestep)
        skips = self._encode(torch.cat([image, x_t], dim=1), embedding, image_features)
        return self._decode(skips, embedding)

    @property
    def _checkpoints(self) -> bool:
        return self.checkpoint_activations and self.training and torch.is_grad_enabled()

    def _stage(self, function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        return checkpoint(function, *inputs, use_reentrant=False) if self._checkpoints else function(*inputs)

    def _encode(
        self, x: torch.Tensor, embedding: torch.Tensor, image_features: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        x = _stem(self.encoder, x)
        skips = []
        for i, (stage, modulation) in enumerate(zip(self.encoder.stages, self.encoder_modulations, strict=True)):

            def modulated(
                x: torch.Tensor, features: torch.Tensor | None = None, *, stage=stage, modulation=modulation
            ) -> torch.Tensor:
                x = modulation(stage(x), embedding)
                return x if features is None else x + features

            x = self._stage(modulated, x, *image_features[i : i + 1])
            skips.append(x)
        return skips

    def _decode(self, skips: list[torch.Tensor], embedding: torch.Tensor) -> torch.Tensor:
        decoder = self.decoder
        x = skips[-1]
        stages = zip(decoder.transpconvs, decoder.stages, self.decoder_modulations, skips[-2::-1], strict=True)
        for upsample, stage, modulation, skip in stages:

            def modulated(
                x: torch.Tensor, skip: torch.Tensor, *, upsample=upsample, stage=stage, modulation=modulation
            ) -> torch.Tensor:
                return modulation(stage(torch.cat([upsample(x), skip], dim=1)), embedding)

            x = self._stage(modulated, x, skip)
        return decoder.seg_layers[-1](x)


def _stem(encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What comes before a residual encoder's stages; a plain one has none."""
    stem = getattr(encoder, "stem", None)
    return x if stem is None else stem(x)


def _planned_unet(configuration: ConfigurationManager, input_channels: int, heads: int) -> nn.Module:
    """nnU-Net's own network of the plan without deep supervision."""
    dimensions = len(configuration.patch_size)
    if dimensions != 2:
        raise ValueError(
            f"SpineSegDiff is two-dimensional, but this configuration plans patches of {dimensions} dimensions "
            f"({configuration.patch_size}); choose a 2d configuration"
        )
    unet = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        input_channels,
        heads,
        allow_init=True,
        deep_supervision=False,
    )
    parts = ("encoder.stages", "decoder.stages", "decoder.transpconvs", "decoder.seg_layers")
    modules = dict(unet.named_modules())
    missing = [part for part in parts if part not in modules]
    if missing:
        raise ValueError(
            f"{configuration.network_arch_class_name} has no {', '.join(missing)}; "
            "the denoiser needs a PlainConvUNet or ResidualEncoderUNet plan"
        )
    return unet
