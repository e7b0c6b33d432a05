"""The gallery's cases, slices and run lengths, before any browser sees them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
import SimpleITK
from PIL import Image

from nnunetv2_diffusion.imaging.volumes import Volume, read_volume
from nnunetv2_diffusion.report.results import read_results
from nnunetv2_diffusion.report.sections.gallery import gallery_data, run_lengths, select_cases
from nnunetv2_diffusion.report.slices import choose_slice
from nnunetv2_diffusion.scoring.cases import score_cases


def decoded(text: str) -> list[int]:
    data, values, at = base64.b64decode(text), [], 0
    while at < len(data):
        value, length, shift = data[at], 0, 0
        at += 1
        while True:
            length |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if not data[at - 1] & 128:
                break
        values += [value] * length
    return values


def test_run_lengths_come_back():
    rng = np.random.default_rng(0)
    for picture in (rng.integers(0, 3, (40, 30)), np.zeros((200, 200)), np.arange(256).reshape(16, 16)):
        assert decoded(run_lengths(picture)) == picture.reshape(-1).astype(int).tolist()


def test_worst_median_and_best_of_each_dataset():
    rows = [(dataset, f"{dataset}{i:02d}", i / 20) for dataset in "AB" for i in range(20)] + [("C", "C00", 0.5)]
    table = pd.DataFrame(rows, columns=["dataset", "case", "dice"])
    chosen = select_cases(table, 19)
    assert chosen[chosen["dataset"] == "A"]["case"].tolist() == ["A00", "A01", "A02", "A09", "A10", "A18", "A19"]
    assert chosen[chosen["dataset"] == "A"]["group"].tolist() == ["worst"] * 3 + ["median"] * 2 + ["best"] * 2
    assert chosen["dataset"].value_counts().to_dict() == {"A": 7, "B": 6, "C": 1}
    everything = select_cases(table, 900)
    assert len(everything) == 41 and not everything.duplicated(["dataset", "case"]).any()


def test_slices_stand_upright_whatever_the_orientation(real_mri):
    """A real scan, turned to other axis orders, gives the same sagittal picture: superior first, anterior left."""
    path = real_mri / "spider_layout" / "masks" / "1_t2.mha"
    image = SimpleITK.ReadImage(str(path))
    pictures = []
    for code in ("PIR", "LPS", "RAS", "SRP", "AIL"):
        turned = SimpleITK.DICOMOrient(image, code)
        volume = Volume(path, SimpleITK.GetArrayFromImage(turned), turned.GetSpacing()[::-1], code)
        pictures.append(choose_slice(volume, [], None).cut(volume))
    assert all(np.array_equal(pictures[0], picture) for picture in pictures[1:])
    rows = np.indices(pictures[0].shape)[0]
    lowest_vertebra = pictures[0] == pictures[0][pictures[0] > 0].min()
    assert rows[lowest_vertebra].mean() > rows[pictures[0] > 0].mean(), "label 1 is the lowest vertebra"


def test_large_pictures_are_thinned():
    array = np.zeros((900, 500), dtype=np.uint8)
    array[10:890, 20:480] = 1
    volume = Volume("flat.png", array, (1.0, 1.0), None)
    assert choose_slice(volume, [], None).cut(volume).shape == (294, 154)


def test_entries_carry_what_the_files_hold(spine_folders):
    folders = [spine_folders / name for name in ("nnUNet_results", "nnUNet_preprocessed", "nnUNet_raw")]
    results = read_results([501], *folders)
    scores = score_cases(results.cases, results.labels, progress=False)
    chosen = select_cases(scores.structures, 3)
    data = gallery_data(chosen, results.cases, results.labels, scores.structures, scores.uncertainty, progress=False)
    assert data["models"] == ["SpineSegDiff", "nnU-Net"] and len(data["cases"]) == 3
    entry = data["cases"][0]
    shape = entry["height"], entry["width"]
    row = results.cases[results.cases["case"] == entry["case"]].iloc[0]
    reference, mask = (read_volume(row[name]).array[::-1, ::-1, 0] for name in ("reference", "prediction"))
    assert shape == reference.shape and entry["aspect"] == 1
    assert decoded(entry["reference"]) == reference.reshape(-1).tolist()
    assert decoded(entry["predictions"][0]["mask"]) == mask.reshape(-1).tolist()
    levels = np.reshape(decoded(entry["predictions"][0]["uncertainty"]), shape)
    doubt = read_volume(row["uncertainty"]).array[::-1, ::-1, 0].clip(0, data["vmax"])
    assert abs(levels / 31 * data["vmax"] - doubt).max() <= data["vmax"] / 62 + 1e-6
    assert entry["predictions"][1]["uncertainty"] is None and entry["predictions"][1]["mean_uncertainty"] is None
    picture = Image.open(io.BytesIO(base64.b64decode(entry["image"].partition(",")[2])))
    image = read_volume(row["image"]).array[::-1, ::-1, 0]
    assert np.corrcoef(np.asarray(picture, float).ravel(), image.ravel())[0, 1] > 0.98
    dice = scores.structures.set_index(["model", "case", "structure"])["dice"]["nnU-Net"][entry["case"]]
    assert entry["predictions"][1]["dice"] == pytest.approx(dice.to_dict(), abs=1e-4)
