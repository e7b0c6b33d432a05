"""What SpineSegDiff's samples and their rivals know of the true distribution: energy distances and frequencies.

The rivals are what a network without diffusion can give: its mask, its masks of the mirrored image, its softmax drawn
pixel by pixel and, where several folds are trained, the folds' masks. How often a method counts an option in is the
share over samples and cases; a mask counts it in where it labels more than half of the area between the two outlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from nnunetv2_diffusion.demo.cohort import CONTRAST
from nnunetv2_diffusion.demo.mirrorings import read_mirrored
from nnunetv2_diffusion.demo.rater_steps import EVERY_MASK, MIRRORED, RATER_SAMPLES, RaterDemo, control_folder
from nnunetv2_diffusion.demo.steps import DATASET, PREDICTIONS
from nnunetv2_diffusion.imaging.volumes import Volume, read_volume
from nnunetv2_diffusion.nnunet_names import DATASET_FILE, rater_case, samples_file
from nnunetv2_diffusion.phantoms.raters import SHARES, Convention, every_convention, probability
from nnunetv2_diffusion.scoring.known_distributions import known_distribution, option_shares
from nnunetv2_diffusion.scoring.labels import LabelScheme, read_labels
from nnunetv2_diffusion.scoring.sample_folders import read_samples

ENDING = ".nii.gz"
METHOD, CASE, FREQUENCY = "method", "case", "share_"
SAMPLES, MASK, MIRRORINGS, PIXELS = (
    "SpineSegDiff, samples",
    "Control, its mask",
    "Control, mirrorings",
    "Control, softmax pixel by pixel",
)
FOLDS = "Control, folds"
SAMPLED = (SAMPLES, PIXELS)


@dataclass(frozen=True)
class RatedCase:
    """An unseen patient: the image's case and, by the conventions' names, all masks that raters may draw.

    Attributes:
        case: its name.
        first: one of the masks, whose grid is everybody's.
        masks: convention -> label map.
    """

    case: str
    first: Volume
    masks: dict[str, np.ndarray]

    def outlines(self, option: str) -> tuple[np.ndarray, np.ndarray]:
        """The label maps that count an option in and leave it out; the other options are those of `Convention`."""
        usual = {name: getattr(Convention(), name) for name in SHARES}
        names = {convention: name for name, convention in every_convention().items()}
        counted_in, left_out = (Convention(**{**usual, option: choice}) for choice in (True, False))
        return self.masks[names[counted_in]], self.masks[names[left_out]]


def unseen_cases(demo: RaterDemo) -> list[str]:
    """The unseen patients' cases, in order."""
    images = demo.unseen_folder / "imagesTr"
    return sorted(path.name.removesuffix(f"_0000{ENDING}") for path in images.glob(f"*_0000{ENDING}"))


def read_case(demo: RaterDemo, case: str) -> RatedCase:
    """All masks of an unseen patient.

    Raises:
        FileNotFoundError: one is missing.
    """
    folder = demo.folder / EVERY_MASK / DATASET / "labelsTr"
    volumes = {name: read_volume(folder / f"{rater_case(case, name)}{ENDING}") for name in every_convention()}
    return RatedCase(case, next(iter(volumes.values())), {name: one.array for name, one in volumes.items()})


def masks_of_methods(demo: RaterDemo, rated: RatedCase, labels: LabelScheme) -> dict[str, np.ndarray]:
    """Method -> its label maps [S, ...] of a case."""
    case, predictions = rated.case, demo.folder / PREDICTIONS
    folds = [read_volume(demo.folder / control_folder(fold) / f"{case}{ENDING}").array for fold in demo.control_folds]
    samples = read_samples(samples_file(predictions / demo.sampling_model.slug, case), rated.first, labels)
    found = {
        SAMPLES: samples,
        MASK: folds[0][None],
        MIRRORINGS: read_mirrored(predictions / MIRRORED, case),
        PIXELS: draw_pixels(demo.folder / control_folder(demo.control_folds[0]) / f"{case}.npz", demo.seed),
    }
    return found | ({FOLDS: np.stack(folds)} if len(folds) > 1 else {})


def draw_pixels(probabilities: Path, seed: int) -> np.ndarray:
    """As many label maps as there are samples, each pixel drawn by its own probabilities, whatever the others show.

    Args:
        probabilities: nnU-Net's `<case>.npz` of labels that compete: [K, ...].
        seed: of the draws.
    """
    with np.load(probabilities) as archive:
        cumulative = np.cumsum(archive["probabilities"], axis=0, dtype=np.float64)
    drawn = np.random.default_rng(seed).random((RATER_SAMPLES, *cumulative.shape[1:]))
    return (drawn[:, None] * cumulative[-1] >= cumulative[:-1]).sum(axis=1).astype(np.uint8)


def measure_cases(demo: RaterDemo) -> pd.DataFrame:
    """A row a method and case: the measures of `known_distribution`, and share_<option>; empty where it is not shown.

    Raises:
        FileNotFoundError, ValueError: a file of a step is missing or damaged.
    """
    labels = read_labels(demo.unseen_folder / DATASET_FILE)
    probabilities = [probability(convention) for convention in every_convention().values()]
    rows = []
    for case in tqdm(unseen_cases(demo), desc="distributions", unit="case", disable=None):
        rated = read_case(demo, case)
        references = np.stack(list(rated.masks.values()))
        for method, masks in masks_of_methods(demo, rated, labels).items():
            row = known_distribution(masks, references, probabilities, labels, sampled=method in SAMPLED)
            shares = {f"{FREQUENCY}{option}": option_shares(masks, *rated.outlines(option)) for option in SHARES}
            rows.append({METHOD: method, CASE: case, **row, **shares})
    return pd.DataFrame(rows)


def summarise(cases: pd.DataFrame) -> pd.DataFrame:
    """A row a method: means over cases, and largest_error, of the frequencies of the options from the known ones."""
    table = cases.drop(columns=CASE).groupby(METHOD, sort=False).mean().reset_index()
    errors = [(table[f"{FREQUENCY}{option}"] - share).abs() for option, share in SHARES.items()]
    return table.assign(largest_error=pd.concat(errors, axis=1).max(axis=1))


def training_shares(conventions: pd.DataFrame) -> dict[str, float]:
    """How often the raters of the training patients counted each option in: they are few, so not quite as known.

    Args:
        conventions: `raters.csv` of the phantoms.
    """
    shown = conventions[conventions["scan"].str.endswith(f"_{CONTRAST}")]
    return {option: float(shown[option].mean()) for option in SHARES}


def as_text(table: pd.DataFrame) -> str:
    """The table for a terminal."""
    columns = {"masks": "Masks", "ged": "GED", "ged_unbiased": "unbiased", "matched_iou": "Matched IoU"}
    columns |= {"diversity": "Diversity"}
    shown = pd.DataFrame({"Method": table[METHOD]})
    for name, heading in columns.items():
        shown[heading] = table[name].map(("{:.0f}" if name == "masks" else "{:.3f}").format)
    for option in SHARES:
        shown[option] = table[f"{FREQUENCY}{option}"].map("{:.2f}".format)
    return shown.to_string(index=False)
