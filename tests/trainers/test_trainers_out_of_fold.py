"""Is a pre-segmentation its fold's? nnU-Net exports one prediction to two grids; another training's must be told."""

from __future__ import annotations

import json
from pathlib import Path

import blosc2
import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import export_prediction_from_logits, resample_and_save
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import gaussian_filter

from helpers.nnunet_samples import TinyProject
from nnunetv2_diffusion.trainers.pre_segmentations import SAME_PREDICTION, agreement_where_certain

SIZE = (180, 120)  # pixels of 1 mm, the plan's spacing: rows, columns
SPACINGS = (0.6, 1.0, 1.1, 1.5, 2.0)


def logits_of(heads: int, moved: float = 0.0) -> torch.Tensor:
    """A smooth prediction [K, 1, rows, columns] in half precision, of structures about 10 pixels across.

    `moved` is how much of another one is mixed in: a model much like it, with a Dice of 0.99 between them at 0.05.
    """
    fields = np.random.default_rng(1).normal(size=(2, heads, *SIZE))
    own, other = (np.stack([gaussian_filter(channel, 5) for channel in field]) for field in fields)
    return torch.from_numpy(4 * (own / own.std() + moved * other / other.std())[:, None]).half()


class Exported:
    """What nnU-Net's own validation writes of logits: the mask on the image's grid and the one for the next stage."""

    def __init__(self, project: TinyProject, kind: str, spacing: float, folder: Path):
        preprocessed = project.preprocessed(project.dataset(kind=kind))
        self.dataset_json = json.loads((preprocessed / "dataset.json").read_text())
        self.plans = PlansManager(json.loads((preprocessed / "nnUNetPlans.json").read_text()))
        self.configuration = self.plans.get_configuration("2d")
        self.labels = self.plans.get_label_manager(self.dataset_json)
        assert list(self.configuration.spacing) == [1.0, 1.0]
        assert list(self.plans.transpose_forward) == [2, 0, 1]
        shape = tuple(round(size / spacing) for size in SIZE)
        self.properties = {
            "spacing": [spacing, spacing, 4.0],
            "shape_before_cropping": (1, shape[0] + 5, shape[1] + 3),
            "bbox_used_for_cropping": [[0, 1], [2, 2 + shape[0]], [1, 1 + shape[1]]],
            "shape_after_cropping_and_before_resampling": (1, *shape),
            "sitk_stuff": {
                "spacing": (4.0, spacing, spacing),
                "origin": (0.0,) * 3,
                "direction": tuple(np.eye(3).flat),
            },
        }
        self.folder = folder

    def __call__(self, logits: torch.Tensor) -> tuple[np.ndarray, Path]:
        """The next stage's mask, and the file of the validation's."""
        managers = (self.configuration, self.plans, self.dataset_json)
        export_prediction_from_logits(logits, self.properties, *managers, str(self.folder / "case"), False, 1)
        stage = (str(self.folder / "stage"), self.plans, self.configuration, self.properties, self.dataset_json, 1)
        resample_and_save(logits, list(logits.shape[1:]), *stage, nnUNetDatasetBlosc2)
        return blosc2.open(str(self.folder / "stage.b2nd"), mode="r")[:], self.folder / "case.nii.gz"

    def agreement(self, mask: np.ndarray, file: Path) -> float:
        return agreement_where_certain(mask, file, self.properties, self.plans, self.configuration, self.labels)


@pytest.mark.parametrize("kind", ["labels", "regions"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_one_prediction_is_told_from_another_at_every_spacing(
    tiny: TinyProject, tmp_path: Path, spacing: float, kind: str
):
    """The same prediction agrees on every certain pixel, at every spacing. Of others, by their Dice with it:

    | Dice | 0.6 mm | 1.0 mm | 1.1 mm | 1.5 mm | 2.0 mm |
    | ---- | ------ | ------ | ------ | ------ | ------ |
    | 0.99 | 0.993  | 0.969  | 0.997  | 0.997  | 0.996  |
    | 0.98 | 0.972  | 0.936  | 0.982  | 0.978  | 0.981  |
    | 0.96 | 0.919  | 0.876  | 0.932  | 0.929  | 0.930  |
    """
    exported = Exported(tiny, kind, spacing, tmp_path)
    heads = exported.labels.num_segmentation_heads
    others = [exported(logits_of(heads, moved))[0] for moved in (0.05, 0.1, 0.2)]
    mask, file = exported(logits_of(heads))
    assert exported.agreement(mask, file) == 1
    agreements = [exported.agreement(other, file) for other in others]
    assert agreements == sorted(agreements, reverse=True)
    assert agreements[0] < SAME_PREDICTION
    assert agreements[1] < 0.985


def test_what_is_foreground_in_one_mask_alone_counts(tiny: TinyProject, tmp_path: Path):
    exported = Exported(tiny, "labels", 1.0, tmp_path)
    mask, file = exported(logits_of(3))
    assert exported.agreement(np.zeros_like(mask), file) == 0
    assert exported.agreement((mask == 0).astype(mask.dtype), file) == 0
