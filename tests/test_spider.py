"""SPIDER's facts against its own overview, and names that parse as they are composed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from nnunetv2_diffusion import spider


def test_series_of_the_overview(real_mri: Path):
    names = pd.read_csv(real_mri / "spider_metadata" / spider.OVERVIEW_FILE)["new_file_name"]
    kinds = names.str.partition("_")[2]
    assert set(kinds) == {series for candidates in spider.SERIES_OF_CONTRAST.values() for series in candidates}
    patients = names.str.partition("_")[0].astype(int)
    assert set(patients) >= spider.OBLIQUE_PATIENTS


def test_the_oblique_scans_are_eighteen(real_mri: Path):
    names = set(pd.read_csv(real_mri / "spider_metadata" / spider.OVERVIEW_FILE)["new_file_name"])
    assert len(names & {f"{patient}_{series}" for patient in spider.OBLIQUE_PATIENTS for series in ("t1", "t2")}) == 18


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
