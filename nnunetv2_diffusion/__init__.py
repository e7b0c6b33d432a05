"""SpineSegDiff: diffusion-based segmentation of lumbar spine MRI as an extension of nnU-Net v2."""
