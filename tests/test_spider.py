"""SPIDER's facts against its own overview, and names that parse as they are composed."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from nnunetv2_diffusion import spider
from nnunetv2_diffusion.spider import MODALITIES, Series, list_series, select_cases


def test_series_of_the_overview(real_mri: Path):
    names = pd.read_csv(real_mri / "spider_metadata" / spider.OVERVIEW_FILE)["new_file_name"]
    kinds = names.str.partition("_")[2]
    assert set(kinds) == {series for candidates in spider.SERIES_OF_CONTRAST.values() for series in candidates}
    patients = names.str.partition("_")[0].astype(int)
    assert set(patients) >= spider.OBLIQUE_PATIENTS


def test_the_oblique_scans_are_eighteen(real_mri: Path):
    names = set(pd.read_csv(real_mri / "spider_metadata" / spider.OVERVIEW_FILE)["new_file_name"])
    assert len(names & {f"{patient}_{series}" for patient in spider.OBLIQUE_PATIENTS for series in ("t1", "t2")}) == 18


def test_names_are_those_published(real_mri: Path):
    overview = set(pd.read_csv(real_mri / "spider_metadata" / spider.OVERVIEW_FILE)["new_file_name"])
    cases = spider.select_cases({(int(name.split("_")[0]), name.split("_", 1)[1]) for name in overview})
    assert len(cases) > 400 and {case.name for case in cases} <= overview
    layout = real_mri / "spider_layout"
    published = {path.name for folder in (spider.IMAGES, spider.MASKS) for path in (layout / folder).glob("*.mha")}
    assert {case.file_name for case in spider.select_cases(spider.list_series(layout))} == published


def test_values_of_structures_do_not_overlap():
    values = [value for ranges in spider.VALUES.values() for one in ranges for value in one]
    assert len(values) == len(set(values)) == 1 + 1 + 25 + 25 + 25
    assert spider.VALUES.keys() == spider.LABELS.keys()
    assert (*spider.LABELS,) == ("background", *spider.STRUCTURES)


@pytest.mark.parametrize(("patient", "contrast"), [(1, "t1"), (41, "t2"), (1041, "t2")])
def test_cases(patient: int, contrast: str):
    assert spider.parse_case(spider.case_name(patient, contrast)) == (patient, contrast)


@pytest.mark.parametrize("case", ["SPIDER_001_t3", "case_1", "SPIDER_x_t1", "SPIDER_001_t2_0000"])
def test_other_names_are_no_cases(case: str):
    assert spider.parse_case(case) is None


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
