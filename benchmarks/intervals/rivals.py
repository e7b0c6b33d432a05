"""Every rival's masks of the tested images: what each takes for the distribution of right answers.

`samples` are drawn by one fold of SpineSegDiff, `samples_folds` as many in all by all folds. Of the control:
`folds`, one mask a fold; `mirrorings`, one mask a mirroring of one fold; `pixels`, each pixel drawn by itself from the
softmax of all folds and mirrorings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.inference.maps import PreparedCase, on_image_grid
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.inference.samples import SampleMasks
from nnunetv2_diffusion.nnunet_names import samples_file

SAMPLES, SAMPLES_FOLDS, FOLDS, MIRRORINGS, PIXELS = RIVALS = (
    "samples",
    "samples_folds",
    "folds",
    "mirrorings",
    "pixels",
)
OF_DIFFUSION, OF_CONTROL = (SAMPLES, SAMPLES_FOLDS), (FOLDS, MIRRORINGS, PIXELS)
AXES = (2, 3)  # of [C, z, h, w], which nnU-Net mirrors


@dataclass(frozen=True)
class Tested:
    """Images to predict, and where the rivals' masks go: a folder of each in `output`."""

    images: Path
    output: Path
    cases: Sequence[str]
    device: str
    samples: int
    seed: int = 0

    def missing(self, rivals: Sequence[str]) -> list[str]:
        """The cases of which a rival's masks are not there."""
        return [case for case in self.cases if not all(self.is_written(rival, case) for rival in rivals)]

    def is_written(self, rival: str, case: str) -> bool:
        """Whether a rival's mask of a case and its samples are there."""
        folder = self.output / rival
        return (folder / f"{case}.nii.gz").is_file() and samples_file(folder, case).is_file()


def predict_diffusion(tested: Tested, model: Path, folds: Sequence[int], seconds: dict[str, float]) -> None:
    """The masks of OF_DIFFUSION; `seconds` is told how long a slice took, each fold drawing all samples."""
    predictor = DiffusionPredictor(
        {"samples": tested.samples},
        runtime=Runtime(tested.device),
        perform_everything_on_device=False,
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(model, list(folds))
    heads = predictor.label_manager.num_segmentation_heads
    for case in tested.missing(OF_DIFFUSION):
        prepared = _prepared(predictor, tested, case)
        drawn: list[torch.Tensor] = []
        logits, _ = predictor.predict(prepared.data, drawn.append)
        fused = predictor.label_manager.apply_inference_nonlin(logits.float())
        each = -(-tested.samples // len(drawn))
        shared = torch.cat([fold[: each * heads] for fold in drawn])[: tested.samples * heads]
        _write(predictor, prepared, tested, SAMPLES, fused, drawn[0].float())
        _write(predictor, prepared, tested, SAMPLES_FOLDS, fused, shared.float())
    if predictor.slices:
        seconds[SAMPLES_FOLDS] = predictor.seconds / predictor.slices
        seconds[SAMPLES] = seconds[SAMPLES_FOLDS] / len(folds)


def predict_control(tested: Tested, model: Path, folds: Sequence[int], seconds: dict[str, float]) -> None:
    """The masks of OF_CONTROL; `seconds` is told how long a slice took."""
    predictor = DiffusionPredictor(
        runtime=Runtime(tested.device), use_mirroring=False, perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(model, list(folds))
    generator = torch.Generator().manual_seed(tested.seed)
    for case in tested.missing(OF_CONTROL):
        prepared = _prepared(predictor, tested, case)
        logits = torch.stack(list(_members(predictor, prepared.data)))  # [folds, mirrorings, K, z, h, w]
        probabilities = predictor.label_manager.apply_inference_nonlin
        fused = probabilities(logits.mean(dim=(0, 1)))
        drawn = [draw_pixels(fused, generator) for _ in range(tested.samples)]
        folds_own = [probabilities(one) for one in logits.mean(dim=1)]
        _write(predictor, prepared, tested, FOLDS, fused, torch.cat(folds_own))
        _write(predictor, prepared, tested, MIRRORINGS, fused, torch.cat([probabilities(one) for one in logits[0]]))
        _write(predictor, prepared, tested, PIXELS, fused, torch.cat(drawn))
    if predictor.slices:
        views = 2 ** len(AXES)
        whole = predictor.seconds / predictor.slices * len(folds) * views
        seconds |= {FOLDS: whole, PIXELS: whole, MIRRORINGS: whole / len(folds)}


def draw_pixels(probabilities: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A mask [K, z, h, w], one-hot, each pixel drawn by itself from probabilities of that shape."""
    heads = probabilities.shape[0]
    flat = probabilities.float().reshape(heads, -1).T.clamp(min=1e-6)
    labels = torch.multinomial(flat, 1, generator=generator)[:, 0]
    return torch.nn.functional.one_hot(labels, heads).T.reshape(probabilities.shape).float()


def _members(predictor: DiffusionPredictor, data: torch.Tensor) -> Iterator[torch.Tensor]:
    """Of each fold the logits [mirrorings, K, z, h, w], of which nnU-Net takes the mean."""
    parameters = predictor.list_of_parameters
    for one in parameters:
        predictor.network.load_state_dict(one)
        predictor.list_of_parameters = [one]
        views = []
        for flips in itertools.chain.from_iterable(itertools.combinations(AXES, n) for n in range(len(AXES) + 1)):
            logits, _ = predictor.predict(torch.flip(data, flips))
            views.append(torch.flip(logits.float(), flips))
        yield torch.stack(views)
    predictor.list_of_parameters = parameters


def _prepared(predictor: nnUNetPredictor, tested: Tested, case: str) -> PreparedCase:
    """A tested image as nnU-Net's own preprocessing makes it."""
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    image = tested.images / f"{case}_0000.nii.gz"
    arguments = predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    data, _, properties = preprocessor.run_case([str(image)], None, *arguments)
    return PreparedCase(torch.from_numpy(data).float(), properties, case)


def _write(
    predictor: nnUNetPredictor,
    prepared: PreparedCase,
    tested: Tested,
    rival: str,
    fused: torch.Tensor,
    samples: torch.Tensor,
) -> None:
    """A rival's mask, of the fused probabilities [K, z, h, w], and its samples, [S * K, z, h, w]."""
    output = tested.output / rival / prepared.output
    case = replace(prepared, output=str(output))
    managers = predictor.plans_manager, predictor.configuration_manager, predictor.label_manager
    masks, mask = SampleMasks(case, *managers), SampleMasks(case, *managers)
    masks.add(samples)
    masks.write()
    mask.add(fused.float())
    write_image(on_image_grid(mask.masks[0], case.properties), Path(f"{output}.nii.gz"))
