"""Maps of what the members of a plain nnU-Net's ensemble answer: its folds, or the mirrorings of a single fold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_diffusion.sampling.ensembles import total_entropy


@dataclass
class MemberMaps:
    """Takes in a case's members one by one and keeps sums of their probabilities alone.

    Each goes nnU-Net's own way to probabilities on the image's grid, those that `nnUNetv2_predict --save_probabilities`
    writes with that fold alone; so the maps are what anybody can compute of such files.

    Attributes:
        properties: nnU-Net's of the case.
        plans, configuration, labels: nnU-Net's managers.
        number: of members so far.
    """

    properties: dict[str, Any]
    plans: PlansManager
    configuration: ConfigurationManager
    labels: LabelManager
    number: int = 0
    _sums: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, logits: torch.Tensor) -> None:
        """More members, [N * K, z, y, x] on the preprocessed grid."""
        for member in logits.split(self.labels.num_segmentation_heads):
            managers = self.plans, self.configuration, self.labels
            _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
                member, *managers, self.properties, True, torch.get_num_threads()
            )
            # the slices first, as the entropy takes the heads
            found = torch.from_numpy(np.ascontiguousarray(probabilities)).movedim(0, 1)
            self._add("mean", found)
            self._add("square", found.square().mean(dim=1))
            self._add("entropy", total_entropy(found, self.labels.has_regions))
            self.number += 1

    def _add(self, name: str, values: torch.Tensor) -> None:
        self._sums[name] = self._sums[name].add_(values) if name in self._sums else values.clone()

    def maps(self) -> dict[str, np.ndarray]:
        """float32 [slices, rows, columns] on the image's grid.

        uncertainty: the entropy of the mean probabilities, in [0, 1]; variance: over the members, mean over the heads;
        mutual_information: that entropy less the mean of the members' own (Houlsby et al. 2011), in [0, 1].
        """
        mean, square, entropy = (self._sums[name] / self.number for name in ("mean", "square", "entropy"))
        uncertainty = total_entropy(mean, self.labels.has_regions).clamp(0, 1)
        found = {
            "uncertainty": uncertainty,
            "variance": (square - mean.square().mean(dim=1)).clamp(min=0),
            "mutual_information": (uncertainty - entropy).clamp(min=0),
        }
        return {name: values.numpy() for name, values in found.items()}
