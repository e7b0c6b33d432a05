"""`segment --format dicom-seg`: segmentation and parametric map as pydicom, highdicom and dciodvfy read them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from helpers.dicom_samples import OBLIQUE, ROOT, noise_volume, setting, write_enhanced, write_series
from helpers.segment_samples import (
    LABELS,
    dataset_json,
    one_thread,  # noqa: F401
    phantom,
    predict_by_threshold,
    write_model,
    write_threshold_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.imaging.palette import structure_colours
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.scans.dicom import choose_series, find_series
from nnunetv2_diffusion.scans.formats.dicom_objects import write_map, write_segments
from nnunetv2_diffusion.scans.found import Segmentation

STRUCTURES = {name: label for name, label in LABELS.items() if label}
PLACE = setting(FrameOfReferenceUID=f"{ROOT}.9", StudyDate="20240102", StudyTime="101112", StudyID="7")
REPORT = {
    "versions": {"nnunetv2-diffusion": "0.1.0"},
    "model": {"hash": "ab" * 32, "trainer": "nnUNetTrainerSpineSegDiff", "folds": [0], "seed": 3, "settings": None},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_model(tmp_path_factory.mktemp("results"))


@pytest.fixture
def known_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)


def run(*arguments: object) -> int:
    return cli.main(["segment", *map(str, arguments)])


def placed(made: Dataset, frame: Dataset, volume: sitk.Image) -> int:
    """The slice of a volume that a frame lies on, by position, directions and spacing."""
    direction = np.reshape(volume.GetDirection(), (3, 3))
    shared = made.SharedFunctionalGroupsSequence[0]
    turned = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    assert np.allclose(turned, [*direction[:, 0], *direction[:, 1]], atol=1e-6)
    assert np.allclose(shared.PixelMeasuresSequence[0].PixelSpacing, volume.GetSpacing()[1::-1])
    point = [float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient]
    index = volume.TransformPhysicalPointToContinuousIndex(point)
    assert np.allclose(index, [0, 0, round(index[2])], atol=1e-4)
    return round(index[2])


def voxels_of(made: Dataset, volume: sitk.Image) -> np.ndarray:
    """Frames put where they say that they lie: a label map of segment numbers, or a map, [z, y, x]."""
    is_map = made.SOPClassUID == pydicom.uid.ParametricMapStorage
    frames = made.pixel_array.reshape(-1, made.Rows, made.Columns)
    found = np.zeros(volume.GetSize()[::-1], np.float32 if is_map else np.uint8)
    for frame, plane in zip(made.PerFrameFunctionalGroupsSequence, frames, strict=True):
        number = 1 if is_map else frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[placed(made, frame, volume)] += (plane * number).astype(found.dtype)
    return found


def references(made: Dataset) -> list[tuple[str, int | None]]:
    """Instance and frame number that each frame was derived from."""
    found = []
    for frame in made.PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        found.append((str(source.ReferencedSOPInstanceUID), source.get("ReferencedFrameNumber")))
    return found


def faults(*files: Path) -> list[str]:
    """What dciodvfy calls an error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    said = [
        subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, encoding="utf-8", errors="replace")
        for file in files
    ]
    assert all(one.stderr.strip() for one in said)  # it names the object at least
    return [line for one in said for line in (one.stdout + one.stderr).splitlines() if line.startswith(("Error", "Ab"))]


def made_of(volume: sitk.Image, levels: bool = False) -> Segmentation:
    """A mask and map of random voxels; nothing in the first two slices."""
    mask = (sitk.GetArrayFromImage(volume) % 4).astype(np.uint8)
    mask[:2] = 0
    numbered = np.array([0, 100, 2, 201], np.uint8)[mask]
    images = [sitk.GetImageFromArray(array) for array in (mask, (mask / 8).astype(np.float32), numbered)]
    for image in images:
        image.CopyInformation(volume)
    return Segmentation(images[0], images[1], None, REPORT, None, images[2] if levels else None)


def write(found: Segmentation, series_folder: Path, out: Path) -> tuple[Dataset, Dataset]:
    """Segmentation and map of the series in a folder, as pydicom reads them."""
    (series,), _ = choose_series(find_series(series_folder), None)
    out.mkdir()
    write_segments(found, series, STRUCTURES, out / "scan.seg.dcm")
    write_map(found, series, out / "scan_uncertainty.dcm")
    return pydicom.dcmread(out / "scan.seg.dcm"), pydicom.dcmread(out / "scan_uncertainty.dcm")


class TestObjects:
    @pytest.fixture(scope="class")
    def volume(self) -> sitk.Image:
        return noise_volume(direction=OBLIQUE)

    def test_voxels_places_and_references(self, volume, tmp_path):
        sources = write_series(tmp_path / "series", volume, PLACE, name=lambda k: f"{9 - k}.dcm")
        found = made_of(volume)
        segmentation, uncertainty = write(found, sources, tmp_path / "out")
        mask, values = sitk.GetArrayFromImage(found.mask), sitk.GetArrayFromImage(found.uncertainty)
        assert np.array_equal(voxels_of(segmentation, volume), mask)
        assert np.array_equal(voxels_of(uncertainty, volume), values)
        assert uncertainty.NumberOfFrames == 5 and segmentation.NumberOfFrames == 15  # no empty ones
        originals = {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, sources.iterdir())}
        for made in (segmentation, uncertainty):
            assert made.PatientID == "PATID4711" and made.StudyInstanceUID == f"{ROOT}.1"
            assert made.FrameOfReferenceUID == f"{ROOT}.9" and made.SeriesInstanceUID != f"{ROOT}.2"
            for frame, (instance, number) in zip(made.PerFrameFunctionalGroupsSequence, references(made), strict=True):
                point = frame.PlanePositionSequence[0].ImagePositionPatient
                assert np.allclose(point, originals[instance].ImagePositionPatient) and number is None
            (listed,) = made.ReferencedSeriesSequence
            assert listed.SeriesInstanceUID == f"{ROOT}.2"
            named = {one.ReferencedSOPInstanceUID for one in listed.ReferencedInstanceSequence}
            assert {instance for instance, _ in references(made)} <= named <= originals.keys()
        assert find_series(tmp_path / "out") == []  # neither is taken for a scan

    def test_highdicom_reads_them(self, volume, tmp_path):
        write_series(tmp_path / "series", volume, PLACE)
        found = made_of(volume)
        write(found, tmp_path / "series", tmp_path / "out")
        read = hd.seg.segread(tmp_path / "out" / "scan.seg.dcm")
        array = read.get_volume(combine_segments=True).array
        mask = sitk.GetArrayFromImage(found.mask)[2:]
        assert np.array_equal(array, mask) or np.array_equal(array, mask[::-1])
        for number, (name, colour) in enumerate(structure_colours(STRUCTURES).items(), start=1):
            described = read.get_segment_description(number)
            assert described.segment_label == name.replace("_", " ")
            (algorithm,) = described.SegmentationAlgorithmIdentificationSequence
            assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("nnUNetTrainerSpineSegDiff", "0.1.0")
            assert "ab" * 32 in algorithm.AlgorithmParameters
            shown = hd.color.CIELabColor.from_dicom_value(described.RecommendedDisplayCIELabValue).to_rgb(clip=True)
            assert np.abs(np.subtract(shown, list(bytes.fromhex(colour[1:])))).max() <= 2
        types = [one.segmented_property_type for one in map(read.get_segment_description, (1, 2, 3))]
        assert types[:2] == [codes.SCT.VertebralCanal, codes.SCT.Vertebra] and types[2].value == "360499006"

    def test_levels_have_their_own_codes(self, volume, tmp_path):
        write_series(tmp_path / "series", volume, PLACE)
        found = made_of(volume, levels=True)
        segmentation, _ = write(found, tmp_path / "series", tmp_path / "out")
        named = [(one.SegmentLabel, one.SegmentedPropertyTypeCodeSequence[0]) for one in segmentation.SegmentSequence]
        assert [label for label, _ in named] == ["spinal canal", "L4", "L5/S1"]
        meant = (codes.cid6115.VertebralCanal, codes.cid7603.L4Vertebra, codes.cid7604.L5S1Disc)
        assert [code.CodeValue for _, code in named] == [code.value for code in meant]
        assert np.array_equal(voxels_of(segmentation, volume), sitk.GetArrayFromImage(found.mask))

    def test_some_frames_of_a_multi_frame_file(self, volume, tmp_path):
        """Two echoes, one frame each in turn: the references name the frames of the echo that was segmented."""
        order = [k for place in (4, 0, 2, 6, 1, 3, 5) for k in (place, place)]

        def echo(group: Dataset, place: int) -> None:
            group.MREchoSequence = [Dataset()]
            group.MREchoSequence[0].EffectiveEchoTime = 20.0 + 80 * (place % 2)

        file = write_enhanced(tmp_path / "series" / "all.dcm", volume, order, echo)
        whole = pydicom.dcmread(file)
        PLACE(whole, 0)
        whole.save_as(file)
        (series,) = (s for s in find_series(tmp_path / "series") if s.slices[0][0].echo_time == 100)
        found = made_of(volume)
        write_segments(found, series, STRUCTURES, tmp_path / "scan.seg.dcm")
        made = pydicom.dcmread(tmp_path / "scan.seg.dcm")
        assert np.array_equal(voxels_of(made, volume), sitk.GetArrayFromImage(found.mask))
        assert [one.ReferencedSOPClassUID for one in made.SourceImageSequence] == [whole.SOPClassUID]
        for frame, (instance, number) in zip(made.PerFrameFunctionalGroupsSequence, references(made), strict=True):
            assert instance == whole.SOPInstanceUID and number % 2 == 0
            assert order[number - 1] == placed(made, frame, volume)

    def test_valid_by_dciodvfy(self, volume, tmp_path):
        write_series(tmp_path / "series", volume, PLACE)
        write(made_of(volume, levels=True), tmp_path / "series", tmp_path / "out")
        assert faults(*sorted((tmp_path / "out").iterdir())) == []

    def test_an_empty_mask_and_odd_patients(self, volume, tmp_path, recwarn, caplog, capfd):
        """Nothing found is a segmentation without voxels; what DICOM does not know is left out, and no name told."""
        odd = setting(
            PatientName="Mustermann", PatientSex="W", PatientBirthDate="", ReferringPhysicianName=None, StudyTime=""
        )
        write_series(tmp_path / "series", volume, PLACE, setting(ReferringPhysicianName="A^B"), odd)
        found = made_of(volume * 0)
        segmentation, uncertainty = write(found, tmp_path / "series", tmp_path / "out")
        assert not voxels_of(segmentation, volume).any() and not voxels_of(uncertainty, volume).any()
        said = [*capfd.readouterr(), caplog.text, *(str(warning.message) for warning in recwarn)]
        assert segmentation.PatientName == "Mustermann" and not any("Mustermann" in text for text in said)
        assert segmentation.PatientSex == "" and len(segmentation.SegmentSequence) == 3
        assert faults(*sorted((tmp_path / "out").iterdir())) == []


@pytest.mark.usefixtures("known_labels")
class TestCommand:
    @pytest.fixture
    def scans(self, tmp_path: Path) -> Path:
        volume, _ = phantom(np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]]), (60, 52, 6), (1.0, 1.0, 4.0))
        write_series(tmp_path / "scans" / "good", volume, PLACE)
        sitk.WriteImage(volume, str(tmp_path / "scans" / "image.mha"))
        study = setting(StudyInstanceUID=f"{ROOT}.5", SeriesInstanceUID=f"{ROOT}.6", SeriesDescription="T2 again")
        write_series(tmp_path / "scans" / "lost", volume, study)
        return tmp_path / "scans"

    def test_the_same_mask_as_in_images_and_what_cannot_be_is_named(self, folder, scans, tmp_path, capsys):
        out = tmp_path / "out"
        flags = ("--model", folder, "--slices", 3)
        assert run(scans, out, *flags, "--format", "dicom-seg", "--save-probabilities") == 2
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 2 and all("was not segmented" in line for line in errors)
        assert "image.mha" in errors[0] and "needs DICOM images to refer to" in errors[0]
        assert "lost" in errors[1] and "no FrameOfReferenceUID" in errors[1]
        report = json.loads((out / "good.json").read_text())
        files = ["good.seg.dcm", "good_uncertainty.dcm", "good_probabilities.mha", "good.png"]
        assert report["files"] == files
        assert {path.name for path in out.iterdir()} == {*files, "good.json", "index.html", "summary.csv"}
        assert run(scans, out, *flags, "--format", "dicom-seg", "--save-probabilities") == 2
        assert "1 of 3 scans were finished already" in capsys.readouterr().out
        assert run(scans / "good", tmp_path / "plain", *flags) == 0
        plain = sitk.ReadImage(str(tmp_path / "plain" / "good.mha"))
        made = pydicom.dcmread(out / "good.seg.dcm")
        assert made.StudyDate == "20240102"
        assert np.array_equal(voxels_of(made, plain), sitk.GetArrayFromImage(plain))
        map_there = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "plain" / "good_uncertainty.mha")))
        assert np.array_equal(voxels_of(pydicom.dcmread(out / "good_uncertainty.dcm"), plain), map_there)

    def test_without_highdicom(self, folder, scans, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert run(scans, tmp_path / "out", "--model", folder, "--format", "dicom-seg") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith("--format dicom-seg needs highdicom: pip install 'nnunetv2-diffusion[dicom]'")

    def test_other_formats_do_not_load_it(self):
        code = "import sys; import nnunetv2_diffusion.scans.formats.dicom_files; print('highdicom' in sys.modules)"
        assert subprocess.check_output([sys.executable, "-c", code], encoding="utf-8").strip() == "False"


def test_a_real_scan(real_mri, tmp_path):
    """Of a real patient's volume as a DICOM series, by a network with random weights: every voxel in its place."""
    model = write_model(tmp_path, patch=(160, 160), description=dataset_json(160, 2.5))
    scan = sitk.Cast(sitk.ReadImage(str(real_mri / "spider_layout" / "images" / "102_t2.mha")), sitk.sitkInt16)
    write_series(tmp_path / "series", scan, PLACE)
    flags = ("--model", model, "--samples", 1, "--sampling-steps", 1)
    for form in ("dicom-seg", "mha"):
        assert run(tmp_path / "series", tmp_path / form, *flags, "--format", form) == 0
    plain = sitk.ReadImage(str(tmp_path / "mha" / "series.mha"))
    segmentation = pydicom.dcmread(tmp_path / "dicom-seg" / "series.seg.dcm")
    assert np.array_equal(voxels_of(segmentation, plain), sitk.GetArrayFromImage(plain))
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mha" / "series_uncertainty.mha")))
    uncertainty = pydicom.dcmread(tmp_path / "dicom-seg" / "series_uncertainty.dcm")
    assert np.array_equal(voxels_of(uncertainty, plain), values) and values.any()
    assert faults(tmp_path / "dicom-seg" / "series.seg.dcm", tmp_path / "dicom-seg" / "series_uncertainty.dcm") == []
