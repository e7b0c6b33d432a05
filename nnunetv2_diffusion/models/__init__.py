"""Trained models to hand around: one zip file out of a model folder, and in again on another machine."""

from nnunetv2_diffusion.models.store import installed_model

__all__ = ["installed_model"]
