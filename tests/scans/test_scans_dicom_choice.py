"""Which stack is taken: by the model's contrast, plane and kind of image; and no word of a patient about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from helpers.dicom_samples import SAGITTAL, noise_volume, setting, write_series
from helpers.segment_samples import (
    dataset_json,
    one_thread,  # noqa: F401
    plans,
    predict_by_threshold,
    write_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.nnunet_names import CONVERSION
from nnunetv2_diffusion.scans.dicom import choose_series, find_series, names_a_patient
from nnunetv2_diffusion.scans.sources import find_scans, trained_contrasts


def add(study: Path, number: int, description: str, slices: int = 5, direction: np.ndarray = SAGITTAL, **tags) -> None:
    """A series of its own in a study."""
    write_series(
        study,
        noise_volume((11, 9, slices), direction, seed=number),
        setting(
            SeriesInstanceUID=f"1.2.8.{number}",
            SOPInstanceUID=lambda k: f"1.2.9.{number}.{k}",
            SeriesNumber=number,
            SeriesDescription=description,
            **tags,
        ),
        name=f"{number}_{{}}.dcm".format,
    )


@pytest.mark.parametrize(
    ("modality", "expected"),
    [("T1w", ("T1",)), ("T2w", ("T2",)), ("T1wT2w", ("T1", "T2")), (None, None), (7, None), ("PD", None)],
)
def test_contrasts_of_a_model(modality, expected):
    assert trained_contrasts({CONVERSION: {"modality": modality}}) == expected
    assert trained_contrasts({}) is None and trained_contrasts({CONVERSION: None}) is None


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    add(folder, 1, "T2 TSE SAG", slices=5)
    add(folder, 2, "T1 TSE SAG", slices=4)
    add(folder, 3, "T1 TSE TRA", slices=9, direction=np.eye(3))
    add(folder, 4, "T1 FAT SAT SAG", slices=7)
    return folder


@pytest.mark.parametrize(
    ("contrasts", "number"), [(None, "1"), (("T1", "T2"), "1"), (("T2",), "1"), (("T1",), "2")], ids=str
)
def test_the_contrast_of_the_model_is_taken(study, contrasts, number):
    chosen, remarks = choose_series(find_series(study), None, contrasts)
    assert [s.number for s in chosen] == [number] and chosen[0].warnings == ()
    assert remarks[0] == f"4 series in {study}:" and remarks[-1] == f"  segmenting {number}; choose with --series"


def test_another_contrast_is_a_warning(study):
    chosen, _ = choose_series(find_series(study), "1", ("T1",))
    assert chosen[0].warnings == ("the series is T2 weighted, but the model was trained on T1 images",)
    only_axial_fits = [s for s in find_series(study) if s.number in ("1", "3")]
    chosen, _ = choose_series(only_axial_fits, None, ("T1",))
    assert chosen[0].number == "1" and len(chosen[0].warnings) == 1


@pytest.mark.parametrize("modality", ["T1w", "T2w"])
def test_segment_takes_what_the_model_was_trained_on(study, tmp_path, monkeypatch, modality):
    monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)
    description = dataset_json(64, 1.0)
    description[CONVERSION]["modality"] = modality
    model = write_model(
        tmp_path / "model", plans_file=plans((64, 64), 1.0, "NoNormalization"), size=64, description=description
    )
    assert cli.main(["segment", str(study), str(tmp_path / "out"), "--model", str(model)]) == 0
    assert sitk.ReadImage(str(tmp_path / "out" / "study.mha")).GetSize()[2] == {"T1w": 4, "T2w": 5}[modality]
    assert json.loads((tmp_path / "out" / "study.json").read_text())["warnings"] == []
    arguments = ["segment", str(study), str(tmp_path / "other"), "--model", str(model)]
    other = {"T1w": "1", "T2w": "2"}[modality]
    assert cli.main([*arguments, "--series", other]) == 0
    warnings = json.loads((tmp_path / "other" / "study.json").read_text())["warnings"]
    assert len(warnings) == 1 and f"trained on {modality[:2]} images" in warnings[0]


@pytest.mark.parametrize(
    ("description", "tags"),
    [
        ("T2 TSE SAG", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "PHASE"]}),
        ("T2 TSE SAG", {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "WATER"]}),
        ("T2 TSE SAG", {"Modality": "CT"}),
        ("T2 TSE SAG", {"ImagePositionPatient": None}),
        ("T2 STIR SAG", {}),
    ],
)
def test_images_that_are_not_taken_however_many(tmp_path, description, tags):
    add(tmp_path, 1, "T2 TSE SAG", slices=5)
    add(tmp_path, 2, description, slices=9, **tags)
    assert [s.number for s in choose_series(find_series(tmp_path), None)[0]] == ["1"]


def test_echo_decides_where_echoes_share_a_description(tmp_path):
    """Proton density and T2 in one series: the description cannot be true of both."""
    add(tmp_path, 1, "PD+T2 SAG", slices=5, EchoTime=lambda k: 100 if k < 2 else 15)
    assert [(len(s.slices), s.contrast) for s in find_series(tmp_path)] == [(3, ""), (2, "T2")]


class TestNobodyIsNamed:
    @pytest.fixture
    def named(self, tmp_path: Path) -> Path:
        """Echoes and a stray slice, with the patient's name wherever a technician can type."""
        folder = tmp_path / "scans"
        for number, (echo, slices) in enumerate(((100, 5), (12, 5), (100, 1))):
            write_series(
                folder,
                noise_volume((11, 9, slices), SAGITTAL if slices > 1 else np.eye(3), seed=number),
                setting(
                    SOPInstanceUID=lambda k, n=number: f"1.2.9.{n}.{k}",
                    SeriesDescription="T2 SAG MUSTERMANN, Erika 4711\x1b[31m\nPATID4711",
                    ImageType=["ORIGINAL", "PRIMARY", f"MUSTERMANN{number}"],
                    StackID="PATID4711",
                    EchoTime=echo,
                ),
                name=f"{number}_{{}}.dcm".format,
            )
        return folder

    def test_in_remarks_and_errors(self, named):
        sources, remarks = find_scans(named)
        with pytest.raises(ValueError, match="none of the series") as caught:
            find_scans(named, "77")
        said = [str(caught.value), *remarks, *sources[0].read().warnings, *map(str, find_series(named))]
        assert len(said) > 8
        for text in said:
            assert not [w for w in ("mustermann", "erika", "patid", "\x1b", "\n") if w in text.lower()], text
        assert remarks[1].startswith("  6.1: T2 SAG …, … 4711 [31m … (sagittal, echo time 12, ")

    def test_in_what_is_written(self, named, tmp_path, monkeypatch):
        """Warnings in the json are words and numbers of ours: no description, no image type, no number of a series."""
        monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)
        model = write_model(tmp_path / "model", plans_file=plans((64, 64), 1.0, "NoNormalization"), size=64)
        assert cli.main(["segment", str(named), str(tmp_path / "out"), "--model", str(model)]) == 0
        warnings = json.loads((tmp_path / "out" / "scans.json").read_text())["warnings"]
        assert warnings == [
            "of the DICOM series 5 sagittal T2 images (echo time 100) are segmented, and not 5 sagittal images (echo "
            "time 12); 1 axial T2 images (echo time 100)"
        ]
        for file in (tmp_path / "out").iterdir():
            content = file.read_bytes()
            assert not [w for w in (b"MUSTERMANN", b"Mustermann", b"PATID", b"SAG") if w in content], file.name

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("mri_Mustermann", True),
            ("mustermann", True),
            ("x_patid4711_y", True),
            ("Erika", True),
            ("Li", True),
            ("scan_li_2", True),
            ("lifting", False),
            ("study", False),
        ],
    )
    def test_in_names_of_files(self, tmp_path, name, told):
        patient = setting(PatientName="Mustermann^Erika^Li")
        series = find_series(write_series(tmp_path / "s", noise_volume(), patient))[0]
        assert names_a_patient(name, series) == told
        sources, _ = find_scans(write_series(tmp_path / name, noise_volume(), patient))
        assert (sources[0].name == "dicom") == told

    def test_pydicom_is_kept_from_repeating_values(self, tmp_path, recwarn, caplog, capfd):
        """Its warnings about odd values quote them."""
        odd = setting(PatientBirthDate="Mustermann", AccessionNumber="Mustermann" * 9)
        folder = write_series(tmp_path / "s", noise_volume())
        for file in folder.iterdir():
            header = pydicom.dcmread(file)
            with pydicom.config.disable_value_validation():
                odd(header, 0)
                header.save_as(file)
        recwarn.clear()
        caplog.clear()
        capfd.readouterr()
        find_scans(folder)[0][0].read()
        assert not list(recwarn) and not caplog.records and "Mustermann" not in "".join(capfd.readouterr())
