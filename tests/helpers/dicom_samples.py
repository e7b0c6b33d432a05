"""DICOM files made from a volume with pydicom: classic slices and enhanced multi-frame files, changed at will."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage
from scipy.spatial.transform import Rotation

from helpers.segment_samples import same_geometry
from nnunetv2_diffusion.scans.dicom import choose_series, find_series, read_series

ROOT = "1.2.826.0.1.3680043.2.1125.77"
Change = Callable[[Dataset, int], object]
SAGITTAL = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
OBLIQUE = Rotation.from_euler("xyz", (6, -9, 12), degrees=True).as_matrix() @ SAGITTAL


def noise_volume(
    size: Sequence[int] = (11, 9, 7),
    direction: np.ndarray = SAGITTAL,
    spacing: Sequence[float] = (0.5, 0.75, 4.0),
    origin: Sequence[float] = (12.5, -31.25, 58.75),
    seed: int = 0,
) -> sitk.Image:
    """Signed 16-bit noise, so that no slice is taken for another."""
    array = np.random.default_rng(seed).integers(-300, 3000, size=size[::-1]).astype(np.int16)
    volume = sitk.GetImageFromArray(array)
    volume.SetSpacing(spacing)
    volume.SetOrigin(origin)
    volume.SetDirection(np.asarray(direction).ravel().tolist())
    return volume


def position(volume: sitk.Image, k: float) -> list[float]:
    """Of the first pixel of slice k."""
    return [float(x) for x in volume.TransformContinuousIndexToPhysicalPoint((0, 0, float(k)))]


def orientation(volume: sitk.Image) -> list[float]:
    """Directions of a row and of a column."""
    direction = np.reshape(volume.GetDirection(), (3, 3))
    return [float(x) for x in (*direction[:, 0], *direction[:, 1])]


def bare_header(volume: sitk.Image, instance: str, sop_class: str = MRImageStorage) -> Dataset:
    """Identity, series and pixel description; neither place nor pixels."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = sop_class
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.3.{instance}"
    header.StudyInstanceUID, header.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.2"
    header.PatientName, header.PatientID = "Mustermann^Erika", "PATID4711"
    header.Modality, header.SeriesNumber, header.SeriesDescription = "MR", 6, "T2 TSE SAG"
    header.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    header.Columns, header.Rows = volume.GetSize()[:2]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    return header


def classic(volume: sitk.Image, k: int) -> Dataset:
    """Slice k as an MR image of its own."""
    x_spacing, y_spacing, z_spacing = volume.GetSpacing()
    header = bare_header(volume, str(k))
    header.InstanceNumber, header.EchoTime, header.RepetitionTime = k + 1, 100, 3000
    header.ImagePositionPatient, header.ImageOrientationPatient = position(volume, k), orientation(volume)
    header.PixelSpacing, header.SpacingBetweenSlices = [y_spacing, x_spacing], z_spacing
    header.SliceThickness = 0.8 * z_spacing
    header.PixelData = sitk.GetArrayFromImage(volume)[k].astype("<i2").tobytes()
    return header


def setting(**values: object) -> Change:
    """A change that sets attributes; a function is called with the slice's number; None deletes."""

    def change(header: Dataset, k: int) -> None:
        for keyword, value in values.items():
            value = value(k) if callable(value) else value
            if value is None:
                del header[keyword]
            else:
                setattr(header, keyword, value)

    return change


def write_series(
    folder: Path,
    volume: sitk.Image,
    *changes: Change,
    slices: Iterable[int] | None = None,
    name: Callable[[int], str] = "{:03d}.dcm".format,
) -> Path:
    """A series of classic images, one file a slice; `name` may lead into subfolders. Returns the folder."""
    for k in range(volume.GetSize()[2]) if slices is None else slices:
        header = classic(volume, k)
        for change in changes:
            change(header, k)
        file = folder / name(k)
        file.parent.mkdir(parents=True, exist_ok=True)
        header.save_as(file, enforce_file_format=True)
    return folder


def write_enhanced(file: Path, volume: sitk.Image, frames: Sequence[int], *changes: Change) -> Path:
    """One enhanced multi-frame file; `changes` are made to the functional group of each frame, by its place in it."""
    header = bare_header(volume, "0", EnhancedMRImageStorage)
    header.NumberOfFrames, header.RepetitionTime = len(frames), 3000
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [*volume.GetSpacing()[1::-1]], 3.0
    plane.ImageOrientationPatient = orientation(volume)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    header.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for place, k in enumerate(frames):
        group, plane = Dataset(), Dataset()
        plane.ImagePositionPatient = position(volume, k)
        group.PlanePositionSequence = [plane]
        for change in changes:
            change(group, place)
        groups.append(group)
    header.PerFrameFunctionalGroupsSequence = groups
    header.PixelData = sitk.GetArrayFromImage(volume)[list(frames)].astype("<i2").tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(file, enforce_file_format=True)
    return file


def read_best(folder: Path) -> tuple[sitk.Image, list[str]]:
    """The volume that is chosen in a folder, and its warnings."""
    chosen, _ = choose_series(find_series(folder), None)
    assert len(chosen) == 1
    return read_series(chosen[0])


def same_volume(found: sitk.Image, expected: sitk.Image, tolerance: float = 1e-6) -> bool:
    """Equal voxels on one grid."""
    arrays = sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected)
    return same_geometry(found, expected, tolerance) and np.array_equal(*arrays)


def gdcm_volume(folder: Path) -> sitk.Image:
    """As GDCM sorts and reads a clean series."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()
