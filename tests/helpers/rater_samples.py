"""What the steps of the demo with several raters leave, by hand: eight masks of a case, samples, probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_diffusion.demo.rater_steps import RaterDemo, control_folder
from nnunetv2_diffusion.phantoms.raters import SHARES, every_convention

DATASET = "Dataset502_SPIDER_T2w"
LABELS = {"background": 0, "spinal_canal": 1, "vertebrae": 2, "discs": 3}
# An area of twelve pixels for each option, in the order of SHARES, and the label that it is given where it counts.
AREAS = {"endplates": ((slice(4, 5), slice(8, 20)), 2), "bulge": ((slice(20, 26), slice(20, 22)), 3)}
AREAS["epidural_fat"] = ((slice(5, 17), slice(30, 31)), 1)


def drawn_mask(**options: bool) -> np.ndarray:
    """[rows, columns] of a vertebra, a disc and the canal, with what is counted in."""
    mask = np.zeros((48, 40), np.uint8)
    mask[5:46, 24:30], mask[5:20, 8:20], mask[20:26, 8:20] = 1, 2, 3
    for option, (area, label) in AREAS.items():
        if options[option]:
            mask[area] = label
    return mask


def every_mask() -> dict[str, np.ndarray]:
    """Convention's name -> mask."""
    return {
        name: drawn_mask(**{option: getattr(one, option) for option in SHARES})
        for name, one in every_convention().items()
    }


def write_slices(path: Path, array: np.ndarray) -> None:
    """A slice [rows, columns], or samples of it [S, rows, columns], as the converter's images lie."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if array.ndim == 2:
        sitk.WriteImage(_image(array), str(path))
    else:
        sitk.WriteImage(sitk.JoinSeries([_image(one) for one in array]), str(path))


def _image(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array[..., None])
    image.SetSpacing((4.0, 2.0, 2.0))
    return image


def write_results(demo: RaterDemo, samples: Sequence[np.ndarray]) -> None:
    """The results of all steps for every unseen patient: the control answers with the mask that counts nothing in, and
    gives every label of an option's area its known probability."""
    unseen, folder = demo.unseen_folder, demo.folder
    plain = drawn_mask(**dict.fromkeys(SHARES, False))
    probabilities = np.eye(4, dtype=np.float32)[plain].transpose(2, 0, 1)[..., None]
    for option, (area, label) in AREAS.items():
        probabilities[(slice(None), *area)] = 0
        probabilities[(0, *area)], probabilities[(label, *area)] = 1 - SHARES[option], SHARES[option]
    for patient in demo.unseen:
        case = f"SPIDER_{patient:03d}_t2"
        write_slices(unseen / "imagesTr" / f"{case}_0000.nii.gz", plain.astype(np.float32))
        for name, mask in every_mask().items():
            write_slices(folder / "every_mask" / DATASET / "labelsTr" / f"{case}__{name}.nii.gz", mask)
        write_slices(folder / "predictions/spinesegdiff/samples" / f"{case}_samples.nii.gz", np.stack(samples))
        for fold in demo.control_folds:
            write_slices(folder / control_folder(fold) / f"{case}.nii.gz", plain)
            np.savez(folder / control_folder(fold) / f"{case}.npz", probabilities=probabilities)
        for number, axes in enumerate([(), (0,), (1,), (0, 1)]):
            write_slices(folder / "predictions/mirrored" / f"{case}_mirrored{number}.nii.gz", np.flip(plain, axes))
    (unseen / "dataset.json").write_text(json.dumps({"labels": LABELS}))
    (folder / "phantoms").mkdir(exist_ok=True)
    rows = ["scan,rater,endplates,bulge,epidural_fat", "1_t1,rater1,1,1,1", "1_t2,rater1,1,0,0", "1_t2,rater2,0,0,0"]
    (folder / "phantoms" / "raters.csv").write_text("\n".join(rows) + "\n")
