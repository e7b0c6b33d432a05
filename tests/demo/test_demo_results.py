"""The demo's table and pictures from small files of which every number is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from nnunetv2_diffusion.demo.models import DemoModel, chosen_models
from nnunetv2_diffusion.demo.pictures import draw_case, draw_samples, save_png
from nnunetv2_diffusion.demo.table import as_text, collect
from nnunetv2_diffusion.scoring.labels import label_scheme

LABELS = label_scheme({"background": 0, "spinal_canal": 1, "vertebrae": 2, "discs": 3})
FIRST, SECOND = DemoModel("First", "A"), DemoModel("Second", "B", refines="First")


def write_results(folder: Path, model: DemoModel, dice: list[float], seconds: float, evaluations: float) -> None:
    """Two cases: the canal scores `dice`, the discs 0.1 less."""
    scores, predictions = folder / "scores" / model.slug, folder / "predictions" / model.slug
    scores.mkdir(parents=True)
    predictions.mkdir(parents=True)
    rows = [
        {"case": case, "structure": structure, "dice": value - offset}
        for case, value in zip("ab", dice, strict=True)
        for structure, offset in (("spinal_canal", 0.0), ("discs", 0.1))
    ]
    pd.DataFrame(rows).to_csv(scores / "cases.csv", index=False)
    timing = {"seconds_per_slice": seconds, "network_evaluations_per_slice": evaluations}
    (predictions / "timing.json").write_text(json.dumps(timing))


def write_slice(path: Path, array: np.ndarray) -> Path:
    image = sitk.GetImageFromArray(array[..., None])
    image.SetSpacing((4.0, 2.0, 2.0))
    sitk.WriteImage(image, str(path))
    return path


def test_table_has_means_deviations_and_costs(tmp_path: Path) -> None:
    write_results(tmp_path, FIRST, [0.9, 0.8], 0.5, 4)
    write_results(tmp_path, SECOND, [0.7, 0.9], 0.25, 15)
    table = collect([FIRST, SECOND], tmp_path / "scores", tmp_path / "predictions")
    assert table["Model"].tolist() == ["First", "Second"]
    assert table["Spinal canal"].tolist() == pytest.approx([0.85, 0.8])
    assert table["Spinal canal SD"].tolist() == pytest.approx([np.std([0.9, 0.8], ddof=1), np.std([0.7, 0.9], ddof=1)])
    assert table["Discs"].tolist() == pytest.approx([0.75, 0.7])
    assert table["mDICE"].tolist() == pytest.approx([0.8, 0.75])
    # What refines the first model's masks also costs what they cost.
    assert table["Seconds a slice"].tolist() == pytest.approx([0.5, 0.75])
    assert table["Evaluations a slice"].tolist() == pytest.approx([4, 19])
    text = as_text(table).splitlines()
    assert "0.850 ± 0.071" in text[1] and text[1].split()[-1] == "4" and text[2].split()[-1] == "19"


def test_one_case_alone_has_no_deviation(tmp_path: Path) -> None:
    (tmp_path / "scores" / FIRST.slug).mkdir(parents=True)
    (tmp_path / "predictions" / FIRST.slug).mkdir(parents=True)
    (tmp_path / "scores" / FIRST.slug / "cases.csv").write_text("case,structure,dice\na,discs,0.5\n")
    timing = tmp_path / "predictions" / FIRST.slug / "timing.json"
    timing.write_text('{"seconds_per_slice": 1, "network_evaluations_per_slice": 4}')
    header, row = as_text(collect([FIRST], tmp_path / "scores", tmp_path / "predictions")).splitlines()
    assert header.split()[:3] == ["Model", "Discs", "mDICE"] and row.split() == ["First", "0.500", "0.500", "1.00", "4"]
    timing.write_text("{")
    with pytest.raises(ValueError, match=r"timing\.json is no valid JSON"):
        collect([FIRST], tmp_path / "scores", tmp_path / "predictions")


def test_slugs_are_file_names_and_differ() -> None:
    slugs = [model.slug for model in chosen_models(True)]
    assert slugs == ["nnu_net", "iisdm", "spinesegdiff", "spinesegdiff_pre_segmentation"]


def test_pictures_show_image_masks_and_uncertainty(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((56, 40), np.uint8)
    mask[5:50, 24:30], mask[5:20, 8:20], mask[22:26, 8:20] = 1, 2, 3
    image = write_slice(tmp_path / "image.nii.gz", rng.normal(mask * 50.0, 10).astype(np.float32))
    reference = write_slice(tmp_path / "mask.nii.gz", mask)
    other = write_slice(tmp_path / "other.nii.gz", np.roll(mask, 2, axis=0))
    doubt = write_slice(tmp_path / "doubt.nii.gz", rng.random(mask.shape).astype(np.float32))
    figure = draw_case(image, reference, {"A": reference, "B": other}, {"A": doubt, "B": doubt}, LABELS, "case")
    titles = [axis.get_title(loc="left") or axis.get_title() for axis in figure.axes]
    assert titles[:4] == ["Image", "Reference", "A", "B"]
    assert sum(title == "Uncertainty" for title in titles) == 2
    outlines = [len(axis.collections) for axis in figure.axes[:4]]
    assert outlines == [0, 3, 3, 3]
    save_png(figure, tmp_path / "pictures" / "case.png")
    assert imread(tmp_path / "pictures" / "case.png").std() > 0.05
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["case.png"]

    samples = draw_samples(image, reference, {"A": [reference, other], "B": [other, other]}, LABELS, "samples")
    assert [len(axis.collections) for axis in samples.axes] == [3] * 6
