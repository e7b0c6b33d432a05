"""`spinesegdiff evaluate` with several references a case, and with samples."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.scoring.case_distributions import case_distribution
from nnunetv2_diffusion.scoring.folders import evaluate_folders
from nnunetv2_diffusion.scoring.labels import LabelScheme

NAMES = {"background": 0, "left_lung": 1, "heart": 2}
LABELS = LabelScheme({"left_lung": (1,), "heart": (2,)})
CASES = ("case0", "case1")


def mask(shift: int = 0) -> np.ndarray:
    array = np.zeros((2, 30, 30), dtype=np.uint8)
    array[:, 5:15, 5 + shift : 15 + shift] = 1
    array[:, 20:26, 20:26] = 2
    return array


def write(array: np.ndarray, path, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)) -> None:
    """A label map [z, y, x], or samples [S, z, y, x]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volumes = []
    for one in array if array.ndim == 4 else array[None]:
        volume = sitk.GetImageFromArray(one)
        volume.SetSpacing((1.0, 1.0, 4.0))
        volume.SetDirection(direction)
        volumes.append(volume)
    sitk.WriteImage(sitk.JoinSeries(volumes) if array.ndim == 4 else volumes[0], str(path))


@pytest.fixture
def folders(tmp_path):
    """Two cases: rater A shifts by the case's number, rater B by 2 more; the prediction is case 0's of A."""
    for number, case in enumerate(CASES):
        write(mask(number), tmp_path / "A" / f"{case}.nii.gz")
        write(mask(number + 2), tmp_path / "B" / f"{case}.nii.gz")
        write(mask(), tmp_path / "pred" / f"{case}.nii.gz")
    (tmp_path / "pred" / "dataset.json").write_text(json.dumps({"labels": NAMES, "file_ending": ".nii.gz"}))
    return tmp_path


def samples_of(number: int) -> np.ndarray:
    return np.stack([mask(number), mask(number + 1), mask(number + 2)])


def write_samples(folders, cases=CASES) -> None:
    for number, case in enumerate(cases):
        write(samples_of(number), folders / "pred" / "samples" / f"{case}_samples.nii.gz")


def test_a_folder_a_rater(folders):
    result = evaluate_folders([folders / "A", folders / "B"], folders / "pred", progress=False)
    table = result.scores.structures.set_index(["case", "rater", "structure"])["dice"]
    assert table.xs("left_lung", level="structure").to_dict() == pytest.approx(
        {("case0", "A"): 1, ("case0", "B"): 0.8, ("case1", "A"): 0.9, ("case1", "B"): 0.7}
    )
    summary = result.summary.set_index("structure").loc["left_lung"]
    assert summary["cases"] == summary["scored"] == 2
    assert summary["dice_mean"] == pytest.approx(0.85)
    assert summary["dice_std"] == pytest.approx(np.std([0.9, 0.8], ddof=1))
    row = result.distributions.set_index("case").loc["case1"]
    expected = case_distribution(mask()[None], np.stack([mask(1), mask(3)]), LABELS, mask())
    assert row.to_dict() == pytest.approx(expected, nan_ok=True)


def test_raters_in_one_folder(folders):
    for rater in "AB":
        for case in CASES:
            (folders / rater / f"{case}.nii.gz").rename(folders / f"{case}__{rater}.nii.gz")
    (folders / "both").mkdir()
    for path in folders.glob("*.nii.gz"):
        path.rename(folders / "both" / path.name)
    write(mask(), folders / "both" / "other__A.nii.gz")
    result = evaluate_folders(folders / "both", folders / "pred", progress=False)
    assert sorted(set(zip(result.scores.structures["case"], result.scores.structures["rater"], strict=True))) == [
        (case, rater) for case in CASES for rater in "AB"
    ]
    assert result.not_predicted == ["other__A"]
    assert result.distributions["references"].tolist() == [2, 2]


def test_command_with_samples(folders, capsys):
    write_samples(folders)
    out = folders / "out"
    raters = [str(folders / rater) for rater in "AB"]
    assert main(["evaluate", "-ref", *raters, "-pred", str(folders / "pred"), "-o", str(out), "-np", "1"]) == 0
    printed = capsys.readouterr().out
    assert "2 cases" in printed and "Distributions of 2 cases (3 samples, 2 references each)" in printed
    assert "risk-coverage curve" in printed
    table = pd.read_csv(out / "distributions.csv").set_index("case")
    for number, case in enumerate(CASES):
        references = np.stack([mask(number), mask(number + 2)])
        expected = case_distribution(samples_of(number), references, LABELS, mask())
        assert table.loc[case].to_dict() == pytest.approx(expected, rel=1e-5)
    assert "rater" in pd.read_csv(out / "cases.csv").columns


def test_samples_with_one_reference(folders):
    without = evaluate_folders(folders / "A", folders / "pred", progress=False)
    assert without.distributions.empty
    write_samples(folders)
    result = evaluate_folders(folders / "A", folders / "pred", progress=False)
    pd.testing.assert_frame_equal(result.scores.structures, without.scores.structures)
    row = result.distributions.iloc[0]
    assert row["ged"] == pytest.approx(2 * row["energy_score"])
    assert np.isnan(row["rater_diversity"])


def test_old_output_is_as_it_was(folders):
    out = folders / "out"
    assert main(["evaluate", "-ref", str(folders / "A"), "-pred", str(folders / "pred"), "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["cases.csv", "summary.csv"]
    assert "rater" not in pd.read_csv(out / "cases.csv").columns


def test_cases_of_one_image_are_one_distribution(folders):
    """A data set expanded by raters: predictions and references of the same names, one image each."""
    for rater, shift in (("A", 0), ("B", 2)):
        write(mask(shift), folders / "ref" / f"scan__{rater}.nii.gz")
        write(mask(), folders / "expanded" / f"scan__{rater}.nii.gz")
        write(samples_of(0), folders / "expanded" / "samples" / f"scan__{rater}_samples.nii.gz")
    result = evaluate_folders(
        folders / "ref", folders / "expanded", dataset_json=folders / "pred" / "dataset.json", progress=False
    )
    assert result.scores.structures["case"].nunique() == 2
    row = result.distributions.set_index("case").loc["scan"]
    expected = case_distribution(samples_of(0), np.stack([mask(), mask(2)]), LABELS, mask())
    assert row.to_dict() == pytest.approx(expected)


def test_maps_count_once_a_case(folders):
    for case in CASES:
        uncertain = sitk.GetImageFromArray(np.random.default_rng(0).random((2, 30, 30), np.float32))
        uncertain.SetSpacing((1.0, 1.0, 4.0))
        (folders / "pred" / "uncertainty").mkdir(exist_ok=True)
        sitk.WriteImage(uncertain, str(folders / "pred" / "uncertainty" / f"{case}_uncertainty.nii.gz"))
    result = evaluate_folders([folders / "A", folders / "B"], folders / "pred", progress=False)
    assert len(result.scores.uncertainty) == 4
    assert result.uncertainty["maps"].item() == 2
    assert result.uncertainty["image_aurc"].item() == pytest.approx(result.scores.uncertainty["image_aurc"].mean())


def test_planes(folders):
    """2-D masks have samples of three dimensions, or of four with a single slice."""
    reference = sitk.GetImageFromArray(mask()[0])
    for number, samples in enumerate((samples_of(0)[:, 0], samples_of(0)[:, :1])):
        home = folders / f"planes{number}"
        for name in ("ref", "pred"):
            (home / name).mkdir(parents=True)
            sitk.WriteImage(reference, str(home / name / "flat.nii.gz"))
        (home / "pred" / "samples").mkdir()
        stacked = samples if samples.ndim == 3 else samples[:, 0]
        image = sitk.JoinSeries([sitk.GetImageFromArray(one) for one in stacked])
        if samples.ndim == 4:
            image = sitk.JoinSeries([sitk.GetImageFromArray(one) for one in samples])
        sitk.WriteImage(image, str(home / "pred" / "samples" / "flat_samples.nii.gz"))
        result = evaluate_folders(
            home / "ref", home / "pred", dataset_json=folders / "pred" / "dataset.json", progress=False
        )
        assert result.distributions["samples"].item() == 3


def samples_missing(folders):
    write_samples(folders, CASES[:1])
    return "holds no samples of 1 of 2 cases, the first being case1"


def samples_of_another_shape(folders):
    write_samples(folders)
    write(samples_of(0)[:, :, 1:], folders / "pred" / "samples" / "case1_samples.nii.gz")
    return "case1_samples.nii.gz has shape (2, 29, 30), but"


def samples_of_another_orientation(folders):
    write_samples(folders)
    write(samples_of(0), folders / "pred" / "samples" / "case1_samples.nii.gz", (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return "case1_samples.nii.gz has orientation RAS, but"


def samples_of_other_labels(folders):
    write_samples(folders)
    write(samples_of(0) * 5, folders / "pred" / "samples" / "case1_samples.nii.gz")
    return "case1_samples.nii.gz holds the values 5, 10, which dataset.json does not name"


@pytest.mark.parametrize(
    "spoil", [samples_missing, samples_of_another_shape, samples_of_another_orientation, samples_of_other_labels]
)
def test_bad_samples(folders, spoil):
    message = spoil(folders)
    with pytest.raises(ValueError) as caught:
        evaluate_folders([folders / "A", folders / "B"], folders / "pred", processes=1, progress=False)
    assert message in str(caught.value)


def test_bad_raters(folders):
    write(mask(), folders / "other" / "A" / "case0.nii.gz")
    with pytest.raises(ValueError, match="name the raters, so their last parts must differ"):
        evaluate_folders([folders / "A", folders / "other" / "A"], folders / "pred", progress=False)
    (folders / "A" / "case1.nii.gz").unlink()
    (folders / "B" / "case1.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 masks in .*pred have no reference in .*A, .*B"):
        evaluate_folders([folders / "A", folders / "B"], folders / "pred", progress=False)


def test_a_case_that_one_rater_left_out(folders):
    (folders / "B" / "case1.nii.gz").unlink()
    result = evaluate_folders([folders / "A", folders / "B"], folders / "pred", progress=False)
    assert result.distributions["references"].tolist() == [2, 1]
