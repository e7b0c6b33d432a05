"""Adds configurations (the paper's widths, pre-segmentation stages, the paper's baselines) to an nnU-Net plans file."""
