"""Stored values of single frames. Nothing but the description of the pixels is given to a decoder.

Uncompressed, deflated and run-length coded frames are decoded by pydicom itself; JPEG, JPEG-LS and JPEG 2000 by GDCM,
which SimpleITK brings along; anything else by what pydicom finds installed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder

from nnunetv2_diffusion.scans.dicom.codestreams import check_size
from nnunetv2_diffusion.scans.dicom.deflated import check_deflated
from nnunetv2_diffusion.scans.dicom.headers import quiet_pydicom, transfer_syntax

_DESCRIPTION = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_TAGS = [*_DESCRIPTION, *_PIXELS, "PlanarConfiguration", "NumberOfFrames", "ExtendedOffsetTable"]
_TAGS += ["ExtendedOffsetTableLengths"]
_PYDICOM = (*uid.UncompressedTransferSyntaxes, *uid.RLETransferSyntaxes)
_GDCM = (
    *uid.JPEGTransferSyntaxes,
    *uid.JPEGLSTransferSyntaxes,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
)
_PLUGINS = dict.fromkeys((uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K), "pylibjpeg pylibjpeg-openjpeg")


class PixelFile:
    """A DICOM file whose frames are read one by one.

    Raises:
        ValueError: it cannot be read, or is compressed in a way that no decoder here knows; the message names the way.
    """

    def __init__(self, file: str):
        self._file = file
        with quiet_pydicom():
            try:
                check_deflated(file)
                self._data = pydicom.dcmread(file, force=True, specific_tags=_TAGS)
                self._syntax = transfer_syntax(self._data)
            # pydicom raises all kinds of errors on damaged bytes
            except Exception as error:
                raise ValueError(f"{file} cannot be read: it is damaged or truncated") from error
            self._check_decoder()

    def frame(self, number: int) -> np.ndarray:
        """Stored values of frame `number` (from 0) [rows, columns], before any scaling.

        Raises:
            ValueError: the frame is damaged.
        """
        try:
            with quiet_pydicom():
                values = self._by_gdcm(number) if self._syntax in _GDCM else self._by_pydicom(number)
            return values.reshape(self._data.Rows, self._data.Columns)
        # decoders raise all kinds of errors on damaged bytes
        except Exception as error:
            raise ValueError(f"{self._file} cannot be read: its pixels are damaged or truncated") from error

    def _by_pydicom(self, number: int) -> np.ndarray:
        return get_decoder(self._syntax).as_array(self._data, index=number, raw=True)[0]

    def _by_gdcm(self, number: int) -> np.ndarray:
        """Through a file with this one frame in it and nothing that names anybody: GDCM reads no memory."""
        data = self._data
        compressed = get_frame(
            data.PixelData,
            number,
            number_of_frames=int(data.get("NumberOfFrames") or 1),
            extended_offsets=_extended_offsets(data),
        )
        check_size(compressed, int(data.Rows), int(data.Columns))
        with tempfile.TemporaryDirectory(prefix="spinesegdiff_") as folder, _quiet_itk():
            alone = Path(folder, "frame.dcm")
            _write_alone(data, self._syntax, compressed, alone)
            return sitk.GetArrayFromImage(sitk.ReadImage(str(alone), imageIO="GDCMImageIO"))

    def _check_decoder(self) -> None:
        if self._syntax in (*_PYDICOM, *_GDCM):
            return
        try:
            if get_decoder(self._syntax).is_available:
                return
        except NotImplementedError:
            pass
        plugin = _PLUGINS.get(self._syntax)
        remedy = f"which needs `pip install {plugin}`" if plugin else "which cannot be read here"
        known = self._syntax in uid.AllTransferSyntaxes
        name = self._syntax.name if known else "a transfer syntax that DICOM does not define"
        raise ValueError(f"{self._file} is compressed with {name}, {remedy}; or export it uncompressed")


def _extended_offsets(data: Dataset) -> tuple[bytes, bytes] | None:
    if "ExtendedOffsetTable" in data and "ExtendedOffsetTableLengths" in data:
        return data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths
    return None


def _write_alone(data: Dataset, syntax: uid.UID, compressed: bytes, file: Path) -> None:
    alone = Dataset()
    alone.file_meta = FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = syntax
    alone.SOPClassUID = alone.file_meta.MediaStorageSOPClassUID = uid.MRImageStorage
    alone.SOPInstanceUID = alone.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    for keyword in _DESCRIPTION:
        setattr(alone, keyword, data[keyword].value)
    alone.PixelData = encapsulate([compressed])
    alone["PixelData"].VR = "OB"
    alone.save_as(file, enforce_file_format=True)


@contextmanager
def _quiet_itk() -> Iterator[None]:
    """Without ITK's warnings on the terminal: what is wrong is told of by exceptions."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
