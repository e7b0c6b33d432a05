"""SpineSegDiff: diffusion-based segmentation of lumbar spine MRI as an extension of nnU-Net v2."""

from pathlib import Path

# In a source checkout `dataset_conversion` stands beside this folder; installed, it lies inside it.
_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "dataset_conversion" / "Dataset501_SPIDER.py").is_file():
    __path__.append(str(_CHECKOUT))
