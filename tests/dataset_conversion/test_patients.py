"""Lists of patients on the command line."""

from __future__ import annotations

import pytest

from nnunetv2_diffusion.dataset_conversion.patients import parse_patients, pick_patients
from nnunetv2_diffusion.spider import Series


class TestPatients:
    def test_numbers_and_ranges(self):
        assert parse_patients("1, 2,100-103") == ({1, 2}, {1, 2, 100, 101, 102, 103})
        assert parse_patients("7-7") == (set(), {7})

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
