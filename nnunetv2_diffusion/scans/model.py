"""A trained model ready to segment slices: loaded once from its folder, with its baseline where it refines one."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

from nnunetv2_diffusion.inference.identity import model_hash
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.previous_stage import baseline_folder
from nnunetv2_diffusion.inference.runtime import Runtime, choose_device, use_processors
from nnunetv2_diffusion.inference.trained_models import find_folds
from nnunetv2_diffusion.nnunet_names import CHECKPOINT, CONVERSION, channel_names
from nnunetv2_diffusion.sampling.ensembles import probabilities_to_logits
from nnunetv2_diffusion.scoring.labels import label_scheme
from nnunetv2_diffusion.scoring.overlaps import Overlaps, overlaps_of

# nnU-Net's arrays are (z, y, x); a sagittal slice of a volume in RAS+ orientation lies across x.
SAGITTAL_FIRST = 2


@dataclass(frozen=True)
class PredictedSlice:
    """Slice `position` of an array on the model's grid: probabilities [K, z, y], mask [z, y], uncertainty [z, y].

    `disagreement` holds the maps DISAGREEMENT, [z, y] each, of a model that was loaded with them, and `samples` the
    probabilities of every sample where they were asked for, fold after fold, [S, K, z, y]. `overlaps` compares the
    samples of a model that draws some, on its own pixels.
    """

    position: int
    probabilities: np.ndarray
    mask: np.ndarray
    uncertainty: np.ndarray
    disagreement: tuple[np.ndarray, ...] = ()
    samples: np.ndarray | None = None
    overlaps: Overlaps | None = None


@dataclass(frozen=True)
class SegmentationModel:
    """A trained model; make it with `load_model`.

    Attributes:
        predictor: nnU-Net's, with the network and its settings.
        folder: the model's.
        folds: those that are averaged.
        checkpoint: file name.
        spacing: (height, width) of the model's pixels in mm.
        size: (height, width) in pixels that training images were cropped or padded to; None where they were not.
        whole_volume: nnU-Net normalised whole volumes in training, not single slices.
        baseline: the model whose masks this one refines.
    """

    predictor: DiffusionPredictor
    folder: Path
    folds: list[int | str]
    checkpoint: str
    spacing: tuple[float, float]
    size: tuple[int, int] | None
    whole_volume: bool
    baseline: SegmentationModel | None

    @property
    def labels(self) -> dict[str, int | list[int]]:
        """Structures by name with their label (a list for a region), without background and ignore label."""
        names = self.predictor.dataset_json["labels"]
        return {name: label for name, label in names.items() if name not in ("background", "ignore")}

    @cached_property
    def hash(self) -> str:
        """What tells this model from another, whatever folder it lies in; see `identity.model_hash`."""
        predictor = self.predictor
        return model_hash(
            trainer=predictor.trainer_name,
            configuration=predictor.configuration_name,
            plans=predictor.plans_manager.plans,
            dataset_json=predictor.dataset_json,
            parameters=predictor.list_of_parameters,
            baseline=None if self.baseline is None else self.baseline.hash,
        )

    @property
    def draws_samples(self) -> bool:
        """Whether it answers with samples; a plain nnU-Net does not."""
        return self.predictor.diffusion_network is not None

    def remarks(self) -> list[str]:
        """A warning where the model folder does not say how its images were prepared."""
        if CONVERSION in self.predictor.dataset_json:
            return []
        return ["the model was not trained on images of `spinesegdiff convert`: their preparation is assumed"]

    def predict(
        self, array: np.ndarray, spacing: Sequence[float], positions: Sequence[int], samples: bool = False
    ) -> Iterator[PredictedSlice]:
        """Segment slices of an array on the model's grid.

        Args:
            array: float32 [z, y, x] in RAS+ orientation, intensities 0 to 255, sagittal slices along x.
            spacing: mm, (z, y, x).
            positions: along x, of the slices to segment.
            samples: whether to keep every sample; for a model that samples.
        """
        previous = None
        if self.baseline is not None:
            # as nnU-Net's reader gives masks; it marks what lies outside of the image by -1
            previous = np.zeros(array.shape, dtype=np.float32)
            for found in self.baseline.predict(array, spacing, positions):
                previous[..., found.position] = found.mask
        prepared = self._preprocessed(array, previous, spacing, positions)
        properties = []

        def data() -> Iterator[torch.Tensor]:
            for slice_data, slice_properties in prepared:
                properties.append(slice_properties)
                yield slice_data

        drawn: list[torch.Tensor] = []
        plainly = not self.draws_samples and self.predictor.compared is not None
        predicted = self.predictor.predict_slices(data(), drawn.append if plainly or self.draws_samples else None)
        for number, (logits, maps) in enumerate(predicted):
            members = drawn.pop() if drawn else None
            found = self._on_grid(positions[number], logits, maps, members if plainly else None, properties[number])
            if self.draws_samples:
                found = replace(found, overlaps=self._overlaps(members))
            yield replace(found, samples=self._samples_on_grid(members, properties[number])) if samples else found

    def _preprocessed(
        self, array: np.ndarray, previous: np.ndarray | None, spacing: Sequence[float], positions: Sequence[int]
    ) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
        """nnU-Net's data [C, 1, h, w] and properties of each slice."""
        if self.whole_volume:
            data, properties = self._preprocess(array, previous, spacing)
            yield from (_slice_of_volume(data, properties, position) for position in positions)
            return
        for position in positions:
            window = (..., slice(position, position + 1))
            yield self._preprocess(array[window], None if previous is None else previous[window], spacing)

    def _preprocess(
        self, array: np.ndarray, previous: np.ndarray | None, spacing: Sequence[float]
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """nnU-Net's own preprocessing, the mask of the previous stage appended as nnU-Net does for cascades."""
        predictor = self.predictor
        adapter = PreprocessAdapterFromNpy(
            [array[None]],
            [None if previous is None else previous[None]],
            [{"spacing": list(spacing)}],
            None,
            predictor.plans_manager,
            predictor.dataset_json,
            predictor.configuration_manager,
        )
        item = next(adapter)
        return item["data"].float(), item["data_properties"]

    def _on_grid(
        self,
        position: int,
        logits: torch.Tensor,
        maps: torch.Tensor,
        members: torch.Tensor | None,
        properties: dict[str, Any],
    ) -> PredictedSlice:
        """Undo nnU-Net's resampling, cropping and transposition."""
        mask, probabilities = self._exported(logits, properties)
        taken = None
        if members is not None:
            taken = self.predictor.new_member_maps(properties)
            taken.add(members)
        uncertainty, *disagreement = self.predictor.maps_on_image_grid(maps, taken, properties)[..., 0]
        return PredictedSlice(position, probabilities[..., 0], mask[..., 0], uncertainty, tuple(disagreement))

    def _samples_on_grid(self, samples: torch.Tensor, properties: dict[str, Any]) -> np.ndarray:
        """Samples [S * K, 1, h, w] likewise: probabilities [S, K, z, y]."""
        labels = self.predictor.label_manager
        each = samples.float().split(labels.num_segmentation_heads)
        logits = (probabilities_to_logits(sample, labels.has_regions) for sample in each)
        return np.stack([self._exported(one, properties)[1][..., 0] for one in logits])

    def _overlaps(self, samples: torch.Tensor) -> Overlaps:
        """How far samples [S * K, 1, h, w] agree as masks on the model's own pixels."""
        labels = self.predictor.label_manager
        each = samples.float().split(labels.num_segmentation_heads)
        masks = [np.asarray(labels.convert_probabilities_to_segmentation(sample)) for sample in each]
        return overlaps_of(np.stack(masks), label_scheme(self.predictor.dataset_json["labels"]))

    def _exported(self, logits: torch.Tensor, properties: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Mask and probabilities as nnU-Net's export makes them of logits."""
        predictor = self.predictor
        managers = predictor.plans_manager, predictor.configuration_manager, predictor.label_manager
        return convert_predicted_logits_to_segmentation_with_correct_shape(
            logits, *managers, properties, True, torch.get_num_threads()
        )


def _slice_of_volume(data: torch.Tensor, properties: dict[str, Any], position: int) -> tuple[torch.Tensor, dict]:
    """A slice of a preprocessed volume [C, n, h, w], as if cropped alone; zeros where it was cropped off."""
    first, last = properties["bbox_used_for_cropping"][0]
    inside = (
        data[:, position - first : position - first + 1] if first <= position < last else torch.zeros_like(data[:, :1])
    )
    own = {
        "shape_before_cropping": (1, *properties["shape_before_cropping"][1:]),
        "bbox_used_for_cropping": [[0, 1], *properties["bbox_used_for_cropping"][1:]],
        "shape_after_cropping_and_before_resampling": (
            1,
            *properties["shape_after_cropping_and_before_resampling"][1:],
        ),
    }
    return inside, {**properties, **own}


def load_model(
    folder: str | Path,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = CHECKPOINT,
    sampling: Mapping[str, Any] | None = None,
    runtime: Runtime | None = None,
    disagreement: bool = False,
) -> SegmentationModel:
    """Load a trained model, once for many scans; no environment variable of nnU-Net is needed.

    Args:
        folder: nnU-Net's folder of a trained model, wherever it was copied to.
        folds: numbers or "all"; None for all that are there (see `trained_models.find_folds`).
        checkpoint: file name in each fold's folder.
        sampling: settings in place of the model's own (names of `Sampling`).
        runtime: where and in which portions to compute; None takes the GPU where there is one.
        disagreement: also make the maps of variance and mutual information.

    Raises:
        FileNotFoundError: no model there, or its baseline is missing.
        ValueError: a model that cannot segment sagittal slices of one scan, or a checkpoint or setting that is refused.
    """
    folder, runtime = Path(folder).resolve(), runtime or Runtime()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: expected the folder of a trained model")
    folds = find_folds(folder, checkpoint, folds)
    use_processors(choose_device(runtime.device))
    # nnU-Net prints which folders it searches for trainers
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = DiffusionPredictor(sampling, runtime=runtime, perform_everything_on_device=False, allow_tqdm=False)
        predictor.disagreement = disagreement  # made, and written here: not by the plan's writer of images
        predictor.initialize_from_trained_model_folder(folder, folds, checkpoint)
    _check_sagittal(predictor, folder)
    baseline = None
    if predictor.configuration_manager.previous_stage_name is not None:
        baseline = load_model(baseline_folder(folder, predictor.configuration_name), runtime=runtime)
    conversion = predictor.dataset_json.get(CONVERSION, {})
    spacing = conversion.get("spacing") or predictor.configuration_manager.spacing
    size = conversion.get("size")
    return SegmentationModel(
        predictor,
        folder,
        folds,
        checkpoint,
        (float(spacing[0]), float(spacing[1])),
        (int(size[0]), int(size[1])) if isinstance(size, list) else None,
        conversion.get("dimension") == "3d",
        baseline,
    )


def _check_sagittal(predictor: DiffusionPredictor, folder: Path) -> None:
    """ValueError where the model does not take one channel of sagittal slices."""
    configuration, plans = predictor.configuration_manager, predictor.plans_manager
    if len(configuration.patch_size) != 2 or plans.transpose_forward[0] != SAGITTAL_FIRST:
        raise ValueError(
            f"{folder} does not segment sagittal slices of volumes in RAS+ orientation, as `spinesegdiff convert` "
            "writes them; use nnUNetv2_predict for it"
        )
    channels = channel_names(predictor.dataset_json)
    if len(channels) != 1:
        raise ValueError(f"{folder} needs {len(channels)} images a case ({', '.join(channels)}), not one scan")
