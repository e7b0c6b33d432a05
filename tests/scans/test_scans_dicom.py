"""DICOM series: read where they lie, the right one chosen, and nobody's name carried along."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from helpers.segment_samples import (
    CPU,
    IDENTIFIERS,
    dice,
    one_thread,  # noqa: F401
    phantom,
    predict_by_threshold,
    same_geometry,
    write_dicom,
    write_threshold_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.scans import load_model, segment
from nnunetv2_diffusion.scans.dicom import choose_series, find_series
from nnunetv2_diffusion.scans.sources import find_scans

# columns to posterior, rows to inferior, slices to the right, and turned a little
SAGITTAL = np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]])
OBLIQUE = Rotation.from_euler("xyz", (6, -9, 12), degrees=True).as_matrix() @ SAGITTAL
AXIAL = np.eye(3)
CENTRE = (12.5, -31.25, 58.75)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def known_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)


def sagittal(turned: np.ndarray = SAGITTAL) -> tuple[sitk.Image, sitk.Image]:
    return phantom(turned, (52, 60, 7), (1.0, 1.0, 4.0), CENTRE)


@pytest.mark.parametrize("direction", [SAGITTAL, OBLIQUE], ids=["straight", "oblique"])
def test_round_trip(folder, tmp_path, direction):
    image, labels = sagittal(direction)
    series = write_dicom(tmp_path / "mri", image)
    result = segment(series, load_model(folder, runtime=CPU), slices="all")
    # DICOM's decimal strings are written to six digits
    assert same_geometry(result.mask, image, 1e-3)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    assert same_geometry(result.mask, reader.Execute())
    assert min(dice(sitk.GetArrayFromImage(result.mask), sitk.GetArrayFromImage(labels))) > 0.95


def test_command_writes_no_identifier(folder, tmp_path, capsys):
    series = write_dicom(tmp_path / "PATID4711_mri", sagittal()[0])
    output = tmp_path / "out"
    assert cli.main(["segment", str(series), str(output), "--model", str(folder), "--save-probabilities"]) == 0
    written = sorted(path.name for path in output.iterdir())
    # the folder's name holds the patient's number, so it is not used
    assert written == ["dicom.json", "dicom.mha", "dicom.png", "dicom_probabilities.mha", "dicom_uncertainty.mha"]
    words = [part for value in IDENTIFIERS.values() for part in value.split("^")] + ["1.2.826"]
    for file in output.iterdir():
        content = file.read_bytes()
        assert not [word for word in words if word.encode() in content], file.name
        if file.suffix == ".mha":
            keys = sitk.ReadImage(str(file)).GetMetaDataKeys()
            assert not [key for key in keys if "|" in key]
    assert "Mustermann" not in capsys.readouterr().out
    report = json.loads((output / "dicom.json").read_text())
    assert report["input"] == "dicom (DICOM)" and str(tmp_path) not in json.dumps(report)
    mask = sitk.ReadImage(str(output / "dicom.mha"))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    assert same_geometry(mask, reader.Execute())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study as scanners export it: a localizer, axial T2, sagittal STIR, T1 and T2."""
    image = sagittal()[0]
    axial = phantom(AXIAL, (52, 60, 5), (1.0, 1.0, 8.0), CENTRE)[0]
    write_dicom(tmp_path / "study", image[:, :, 2:5], 1, "localizer sag")
    write_dicom(tmp_path / "study", axial, 2, "T2 TSE TRA")
    write_dicom(tmp_path / "study", image, 3, "T2 STIR SAG")
    write_dicom(tmp_path / "study", image, 4, "SAG", **{"0018|0081": "12", "0018|0080": "550"})
    write_dicom(tmp_path / "study", image[:, :, 1:6], 5, "T2 TSE SAG")
    return tmp_path / "study"


def test_series_are_described(study):
    found = find_series(study)
    assert [(s.number, s.plane, s.contrast, len(s.files)) for s in found] == [
        ("1", "sagittal", "", 3),
        ("2", "axial", "T2", 5),
        ("3", "sagittal", "T2", 7),
        ("4", "sagittal", "T1", 7),
        ("5", "sagittal", "T2", 5),
    ]


def test_sagittal_t2_is_preferred_and_the_choice_said(folder, study, tmp_path, capsys):
    assert cli.main(["segment", str(study), str(tmp_path / "out"), "--model", str(folder)]) == 0
    said = capsys.readouterr().out
    assert all(f"  {number}: " in said for number in range(1, 6)) and "segmenting 5; choose with --series" in said
    assert sitk.ReadImage(str(tmp_path / "out" / "study.mha")).GetSize()[2] == 5


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [("4", ["4"]), ("stir", ["3"]), ("1.2.826.0.1.3680043.2.1125.1.2", ["2"]), ("all", ["1", "2", "3", "4", "5"])],
)
def test_series_picked_by_the_user(study, wanted, numbers):
    chosen, _ = choose_series(find_series(study), wanted)
    assert [series.number for series in chosen] == numbers
    sources, _ = find_scans(study, wanted)
    assert len({source.name for source in sources}) == len(numbers)


def test_series_that_is_not_there(study, tmp_path):
    with pytest.raises(
        ValueError, match=r"--series 77 is none of the series 1: localizer sag \(sagittal, 3 images\); 2"
    ):
        find_scans(study, "77")
    (tmp_path / "files").mkdir()
    sitk.WriteImage(sagittal()[0], str(tmp_path / "files" / "a.mha"))
    with pytest.raises(ValueError, match="no DICOM series"):
        find_scans(tmp_path / "files", "1")
    with pytest.raises(ValueError, match=r"a\.mha is a file"):
        find_scans(tmp_path / "files" / "a.mha", "1")


def test_one_series_of_every_study_below(tmp_path):
    image = sagittal()[0]
    for patient in ("first", "second"):
        write_dicom(tmp_path / "archive" / patient / "t1", image, 1, "T1 SAG", study=f"7{len(patient)}")
        write_dicom(tmp_path / "archive" / patient / "t2", image, 2, "T2 SAG", study=f"7{len(patient)}")
    sitk.WriteImage(image, str(tmp_path / "archive" / "single.nrrd"))
    sources, remarks = find_scans(tmp_path / "archive")
    assert [source.name for source in sources] == ["single", "first_t2", "second_t2"]
    assert sum("choose with --series" in remark for remark in remarks) == 2


def test_one_file_of_a_series(folder, tmp_path):
    """A single DICOM slice is a sagittal slice; a name that is its UID is not repeated."""
    series = write_dicom(tmp_path / "mri", sagittal()[0])
    file = (series / "001_003.dcm").rename(tmp_path / "1.2.826.0.1.3680043.2.1125.1.1.3.dcm")
    sources, _ = find_scans(file)
    assert sources[0].name == "dicom"
    result = segment(file, load_model(folder, runtime=CPU))
    assert result.mask.GetSize() == (52, 60, 1) and sitk.GetArrayFromImage(result.mask).max() == 3


def test_missing_and_damaged_slices(folder, tmp_path):
    series = write_dicom(tmp_path / "mri", sagittal()[0])
    (series / "001_003.dcm").unlink()
    model = load_model(folder, runtime=CPU)
    assert "slices are missing" in segment(series, model).report["warnings"][0]
    damaged = series / "001_004.dcm"
    damaged.write_bytes(damaged.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"slices are missing.*1 files in .* are damaged"):
        segment(series, model)
    with pytest.raises(ValueError, match="cannot be read"):
        segment(damaged, model)
    for file in series.iterdir():
        file.write_bytes(file.read_bytes()[:1500])
    with pytest.raises(FileNotFoundError, match="undamaged DICOM"):
        segment(series, model)
