"""The published folds in the converter's names, against the files themselves, and the folds of phantoms."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nnunetv2_diffusion.workflow.splits import phantom_splits, read_splits

CONTRASTS = {"T1w": ["t1"], "T2w": ["t2"], "T1wT2w": ["t1", "t2"]}


@pytest.fixture
def published(real_mri: Path) -> Path:
    """The folds of the published code, beside the real MRI."""
    folder = real_mri.parent / "published_splits"
    if not folder.is_dir():
        pytest.skip(f"no published folds: {folder} does not exist")
    return folder


@pytest.mark.parametrize("modality", CONTRASTS)
def test_the_published_folds(published: Path, modality: str):
    theirs = json.loads((published / f"SPIDER_{modality}.json").read_text(encoding="utf-8"))
    everything = {f"SPIDER_{patient:03d}_{c}" for patient in range(1, 300) for c in ("t1", "t2")}
    ours = read_splits(published, modality, everything)
    assert len(ours) == 5
    for fold, split in zip(theirs, ours, strict=True):
        for part, name in (("train", "train"), ("val", "test")):
            if modality == "T1wT2w":
                wanted = {re.sub(r"_\d+$", "", case) for case in fold[name]}
            else:
                wanted = {f"{case}_{CONTRASTS[modality][0]}" for case in fold[name]}
            assert split[part] == sorted(wanted)
    held_out = [case for split in ours for case in split["val"]]
    assert len(held_out) == len(set(held_out)) == {"T1w": 196, "T2w": 212, "T1wT2w": 408}[modality]


def test_cases_that_are_not_there_are_left_out(published: Path):
    ours = read_splits(published, "T1w", {"SPIDER_001_t1", "SPIDER_002_t1"})
    assert {case for split in ours for case in split["val"]} == {"SPIDER_001_t1", "SPIDER_002_t1"}


@pytest.mark.parametrize(
    ("content", "message"),
    [("{}", "list"), ("[1]", "expected"), ('[{"train": ["a"], "test": []}]', "'a' is no case"), ("[{}]", "expected")],
)
def test_other_files(tmp_path: Path, content: str, message: str):
    (tmp_path / "SPIDER_T2w.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_splits(tmp_path, "T2w", set())


def test_no_file(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"SPIDER_T2w\.json does not exist; name the folder that holds it"):
        read_splits(tmp_path, "T2w", set())


def test_two_folds_of_phantoms():
    splits = phantom_splits(5, "T1wT2w", 2)
    assert splits[0]["val"] == ["SPIDER_002_t1", "SPIDER_002_t2", "SPIDER_004_t1", "SPIDER_004_t2"]
    assert splits[1]["train"] == splits[0]["val"]
    assert splits[1]["val"] == splits[0]["train"]


def test_one_fold_of_phantoms_leaves_patients_to_train_on():
    split = phantom_splits(5, "T2w", 1)[0]
    assert split["val"] == ["SPIDER_002_t2", "SPIDER_004_t2"]
    assert split["train"] == ["SPIDER_001_t2", "SPIDER_003_t2", "SPIDER_005_t2"]
