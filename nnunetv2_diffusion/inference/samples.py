"""A case's samples as whole masks: label maps on the image's grid, written as one with a dimension more."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.inference.maps import PreparedCase, on_image_grid
from nnunetv2_diffusion.nnunet_names import samples_file
from nnunetv2_diffusion.sampling.ensembles import probabilities_to_logits


@dataclass
class SampleMasks:
    """Takes in a case's samples fold by fold and keeps nothing of them but label maps, a byte a voxel.

    Attributes:
        case: whose they are; nnU-Net's properties of it lead back to the image's grid.
        plans, configuration, labels: nnU-Net's managers.
        masks: label maps on the image's grid, sample by sample, and fold after fold.
    """

    case: PreparedCase
    plans: PlansManager
    configuration: ConfigurationManager
    labels: LabelManager
    masks: list[np.ndarray] = field(default_factory=list)

    def add(self, probabilities: torch.Tensor) -> None:
        """A fold's samples, [S * K, z, y, x] on the preprocessed grid: each goes nnU-Net's own way to a mask."""
        for sample in probabilities.split(self.labels.num_segmentation_heads):
            logits = probabilities_to_logits(sample.float(), self.labels.has_regions)
            managers = self.plans, self.configuration, self.labels
            mask = convert_predicted_logits_to_segmentation_with_correct_shape(
                logits, *managers, self.case.properties, num_threads_torch=torch.get_num_threads()
            )
            self.masks.append(np.asarray(mask))

    def write(self) -> None:
        """Write all of them, whole or not at all."""
        images = [on_image_grid(mask, self.case.properties) for mask in self.masks]
        output = Path(self.case.output)
        write_image(sitk.JoinSeries(images), samples_file(output.parent, output.name))
