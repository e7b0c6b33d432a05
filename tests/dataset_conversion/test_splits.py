"""Folds: by patient, level in all three data sets at once, the same for the same patients, and checked when given."""

from __future__ import annotations

import itertools
import json
import shutil

import pytest

from nnunetv2_diffusion.dataset_conversion.splits import assign_folds, make_splits, read_splits, split_by_image, without
from nnunetv2_diffusion.spider import MODALITIES, Series, list_series, select_cases

GROUPS = (frozenset({"t1", "t2"}), frozenset({"t2"}), frozenset({"t1"}))


def spread(folds, patients, num_folds=5):
    counts = [sum(folds[patient] == fold for patient in patients) for fold in range(num_folds)]
    return max(counts) - min(counts)


def cases_of(*patients: int) -> list[Series]:
    return [Series(patient, contrast, contrast) for patient in patients for contrast in ("t1", "t2")]


class TestAssignFolds:
    @pytest.mark.parametrize("num_both", range(11))
    def test_level_for_t1_t2_and_all_whatever_the_numbers(self, num_both):
        for numbers in itertools.product([num_both], range(11), range(11)):
            patients = iter(range(100))
            contrasts = {next(patients): group for group, n in zip(GROUPS, numbers, strict=True) for _ in range(n)}
            folds = assign_folds(contrasts)
            assert spread(folds, contrasts) <= 1, numbers
            for contrast in ("t1", "t2"):
                assert spread(folds, [patient for patient, has in contrasts.items() if contrast in has]) <= 1, numbers

    def test_depends_on_patients_and_seed_alone(self):
        contrasts = {patient: GROUPS[patient % 3] for patient in range(40)}
        backwards = dict(reversed(contrasts.items()))
        assert assign_folds(contrasts) == assign_folds(backwards)
        assert assign_folds(contrasts) != assign_folds(contrasts, seed=1)

    def test_is_what_it_was(self):
        """Folds must never change between versions: published results refer to them."""
        folds = assign_folds({patient: GROUPS[0] for patient in range(1, 11)})
        assert folds == {1: 0, 2: 1, 3: 4, 4: 2, 5: 0, 6: 3, 7: 4, 8: 1, 9: 2, 10: 3}


class TestMakeSplits:
    @pytest.fixture(scope="class")
    def published(self, real_mri, tmp_path_factory):
        root = tmp_path_factory.mktemp("SPIDER")
        (root / "images").mkdir()
        shutil.copy(real_mri / "spider_metadata" / "overview.csv", root)
        cases = select_cases(list_series(root))
        chosen = {name: [case for case in cases if case.contrast in MODALITIES[name]] for name in MODALITIES}
        return cases, chosen, {name: make_splits(cases, chosen[name]) for name in MODALITIES}

    def test_every_case_is_validated_once_and_trained_on_otherwise(self, published):
        _, chosen, splits = published
        for name in MODALITIES:
            names = sorted(case.case for case in chosen[name])
            assert len(splits[name]) == 5
            assert sorted(case for split in splits[name] for case in split["val"]) == names
            for split in splits[name]:
                assert sorted(split["train"] + split["val"]) == names

    def test_level_to_within_one_patient_in_all_three(self, published):
        _, _, splits = published
        for name in MODALITIES:
            sizes = [len({case[:10] for case in split["val"]}) for split in splits[name]]
            assert max(sizes) - min(sizes) <= 1

    def test_a_patient_has_one_fold_in_all_three(self, published):
        _, _, splits = published
        folds: dict[str, set[int]] = {}
        for name in MODALITIES:
            for fold, split in enumerate(splits[name]):
                for case in split["val"]:
                    folds.setdefault(case[:10], set()).add(fold)
        assert len(folds) == 218
        assert all(len(of_patient) == 1 for of_patient in folds.values())

    def test_a_case_that_failed_leaves_the_folds_of_the_others(self, published):
        cases, chosen, splits = published
        failed = chosen["T2w"][17]
        fewer = make_splits(cases, [case for case in chosen["T2w"] if case != failed])
        assert fewer == without(splits["T2w"], [failed.case])

    @pytest.mark.parametrize(("patients", "num_folds"), [(1, 0), (2, 2), (4, 4), (5, 5), (6, 5)])
    def test_few_patients(self, patients, num_folds):
        cases = cases_of(*range(patients))
        splits = make_splits(cases, cases)
        assert len(splits) == num_folds
        assert all(split["train"] and split["val"] for split in splits)

    def test_no_fold_stays_empty_where_few_patients_have_the_contrast(self):
        cases = [case for case in cases_of(*range(12)) if case.contrast == "t2" or case.patient in (0, 5, 7)]
        splits = make_splits(cases, [case for case in cases if case.contrast == "t1"])
        assert sorted(len(split["val"]) for split in splits) == [1, 1, 1]


class TestGivenSplits:
    def write(self, tmp_path, content):
        path = tmp_path / "splits.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def test_good(self, tmp_path):
        content = [{"train": ["SPIDER_001_t1", "SPIDER_001_t2"], "val": ["SPIDER_002_t1"]}]
        assert read_splits(self.write(tmp_path, content), cases_of(1, 2)) == content

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is not json"),
            ([], "not in the form"),
            ({"train": ["SPIDER_001_t1"], "val": ["SPIDER_002_t1"]}, "not in the form"),
            ([{"train": ["SPIDER_001_t1"]}], "not in the form"),
            ([{"train": ["SPIDER_001_t1"], "val": []}], "not in the form"),
            ([{"train": "SPIDER_001_t1", "val": ["SPIDER_002_t1"]}], "not in the form"),
            ([{"train": [1], "val": ["SPIDER_002_t1"]}], "not in the form"),
            ([{"train": ["SPIDER_009_t1"], "val": ["SPIDER_002_t1"]}], "fold 0 what is no case.*SPIDER_009_t1"),
            ([{"train": ["SPIDER_001_t1"], "val": ["SPIDER_001_t2"]}], "parts patient 1 in fold 0"),
        ],
    )
    def test_bad(self, tmp_path, content, message):
        with pytest.raises(ValueError, match=message):
            read_splits(self.write(tmp_path, content), cases_of(1, 2))

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_splits(tmp_path / "none.json", cases_of(1))


def test_images_of_several_raters_are_dealt_evenly_into_five_folds():
    cases = [f"image{number:02}__{rater}" for number in range(12) for rater in "ab"]
    splits = split_by_image(cases)
    assert sorted(case for split in splits for case in split["val"]) == cases
    assert sorted(len(split["val"]) for split in splits) == [4, 4, 4, 6, 6]
    assert all(sorted(split["train"] + split["val"]) == cases for split in splits)
