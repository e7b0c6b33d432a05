"""DICOM in: the stacks of images in a folder, by their geometry; which of them to segment; its voxels without a tag."""

from nnunetv2_diffusion.scans.dicom.choice import choose_series
from nnunetv2_diffusion.scans.dicom.folders import DICOM_SUFFIXES, dangling_links
from nnunetv2_diffusion.scans.dicom.identifiers import names_a_patient
from nnunetv2_diffusion.scans.dicom.index import indexed_files, is_index
from nnunetv2_diffusion.scans.dicom.reading import read_series
from nnunetv2_diffusion.scans.dicom.series import Series, find_series, series_of_file

__all__ = [
    "DICOM_SUFFIXES",
    "Series",
    "choose_series",
    "dangling_links",
    "find_series",
    "indexed_files",
    "is_index",
    "names_a_patient",
    "read_series",
    "series_of_file",
]
