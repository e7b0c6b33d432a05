"""SPIDER's files -> nnU-Net raw datasets; installed as `nnunetv2_diffusion.dataset_conversion`."""
