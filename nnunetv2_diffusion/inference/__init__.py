"""nnU-Net's prediction with sampling settings and uncertainty maps."""
