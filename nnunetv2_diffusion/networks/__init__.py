"""The planned U-Net as a denoiser, the auxiliary image encoder, and the module that nnU-Net sees."""

from nnunetv2_diffusion.networks.denoiser import Denoiser
from nnunetv2_diffusion.networks.diffusion_network import DiffusionNetwork, NoisedImage, PreSegmentationNetwork

__all__ = ["Denoiser", "DiffusionNetwork", "NoisedImage", "PreSegmentationNetwork"]
