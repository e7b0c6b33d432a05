"""The facts about SPIDER: series, cases, oblique scans, label values, patient lists."""

from __future__ import annotations

import csv
import shutil
from collections import Counter

import numpy as np
import pytest
import SimpleITK as sitk

from nnunetv2_diffusion.dataset_conversion.spider_files import (
    MODALITIES,
    Series,
    list_series,
    parse_patients,
    pick_patients,
    select_cases,
)
from nnunetv2_diffusion.dataset_conversion.spider_labels import spider_to_labels


@pytest.fixture(scope="module")
def published_cases(real_mri, tmp_path_factory) -> list[Series]:
    """All cases that SPIDER's own overview.csv promises."""
    root = tmp_path_factory.mktemp("SPIDER")
    (root / "images").mkdir()
    shutil.copy(real_mri / "spider_metadata" / "overview.csv", root)
    return select_cases(list_series(root))


def of_modality(cases, modality):
    return [case for case in cases if case.contrast in MODALITIES[modality]]


class TestPublishedMetadata:
    @pytest.mark.parametrize(
        ("modality", "cases", "patients"), [("T1w", 196, 196), ("T2w", 212, 212), ("T1wT2w", 408, 218)]
    )
    def test_numbers_of_cases_and_patients(self, published_cases, modality, cases, patients):
        chosen = of_modality(published_cases, modality)
        assert len(chosen) == len({case.case for case in chosen}) == cases
        assert len({case.patient for case in chosen}) == patients

    def test_t2_space_stands_in_for_two_patients(self, published_cases):
        assert [case.patient for case in published_cases if case.series == "t2_SPACE"] == [41, 141]
        assert {case.case for case in published_cases} >= {"SPIDER_041_t2", "SPIDER_141_t2"}

    def test_the_18_oblique_scans(self, published_cases):
        oblique = [(case.patient, case.series) for case in published_cases if case.oblique]
        patients = (1, 50, 58, 130, 133, 152, 160, 186, 251)
        assert sorted(oblique) == sorted((patient, series) for patient in patients for series in ("t1", "t2"))

    def test_against_a_plain_count_of_the_csv(self, published_cases, real_mri):
        with (real_mri / "spider_metadata" / "overview.csv").open(encoding="utf-8") as stream:
            names = [row[0].split("_", 1) for row in csv.reader(stream)][1:]
        counts = Counter(series for _, series in names)
        assert counts == {"t1": 196, "t2": 210, "t2_SPACE": 41}
        has_t2 = {int(patient) for patient, series in names if series.startswith("t2")}
        assert {case.patient for case in published_cases if case.contrast == "t2"} == has_t2


class TestSeries:
    def test_names(self):
        assert Series(7, "t1", "t1").case == "SPIDER_007_t1"
        assert Series(41, "t2", "t2_SPACE").case == "SPIDER_041_t2"
        assert Series(41, "t2", "t2_SPACE").file_name == "41_t2_SPACE.mha"

    def test_t2_is_preferred_to_t2_space(self):
        assert select_cases({(3, "t2"), (3, "t2_SPACE"), (3, "t1")}) == [Series(3, "t1", "t1"), Series(3, "t2", "t2")]

    def test_a_series_counts_by_image_mask_or_overview(self, tmp_path):
        for name in ("images/1_t1.mha", "masks/2_t2.mha", "images/notes.mha", "images/._1_t2.mha"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        assert list_series(tmp_path) == {(1, "t1"), (2, "t2")}
        (tmp_path / "overview.csv").write_text("new_file_name,sex\n3_t1,F\n41_t2_SPACE,M\n")
        assert list_series(tmp_path) == {(1, "t1"), (2, "t2"), (3, "t1"), (41, "t2_SPACE")}

    def test_another_csv(self, tmp_path):
        (tmp_path / "images").mkdir()
        (tmp_path / "overview.csv").write_text("name,sex\n3_t1,F\n")
        with pytest.raises(ValueError, match="no column new_file_name"):
            list_series(tmp_path)


class TestPatients:
    def test_numbers_and_ranges(self):
        assert parse_patients("1, 2,100-103") == ({1, 2}, {1, 2, 100, 101, 102, 103})

    @pytest.mark.parametrize("text", ["", "1,,2", "a", "5-3", "1-", "-4", "1;2", "1.5", "1-2-3"])
    def test_malformed(self, text):
        with pytest.raises(ValueError, match="is malformed at"):
            parse_patients(text)

    def test_ranges_may_have_gaps_but_named_patients_must_exist(self):
        cases = [Series(patient, "t2", "t2") for patient in (1, 4, 9)]
        assert [case.patient for case in pick_patients(cases, "1,2-8")] == [1, 4]
        assert pick_patients(cases, None) == cases
        with pytest.raises(ValueError, match="names patient 2, whom the data do not hold"):
            pick_patients(cases, "1,2")
        with pytest.raises(ValueError, match="patients 1 to 9"):
            pick_patients(cases, "20-30")


class TestLabels:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
    def test_every_value_of_spider(self, dtype):
        values = [0, *range(1, 26), 100, *range(101, 126), *range(201, 226)]
        expected = [0] + [2] * 25 + [1] + [2] * 25 + [3] * 25
        mask = sitk.GetImageFromArray(np.array(values, dtype=dtype).reshape(1, 7, 11))
        mask.SetOrigin((3, 4, 5))
        labels = spider_to_labels(mask)
        assert sitk.GetArrayFromImage(labels).ravel().tolist() == expected
        assert labels.GetPixelID() == sitk.sitkUInt8
        assert labels.GetOrigin() == (3, 4, 5)

    @pytest.mark.parametrize("value", [26, 99, 126, 200, 226, 255, 256, 300, -1, 1.5, float("nan"), float("inf")])
    def test_foreign_values(self, value):
        dtype = np.float32 if isinstance(value, float) else np.int16
        mask = sitk.GetImageFromArray(np.array([0, 1, value], dtype=dtype).reshape(1, 1, 3))
        with pytest.raises(ValueError, match=f"the value {value:g}, which is not SPIDER's"):
            spider_to_labels(mask)
