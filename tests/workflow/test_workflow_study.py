"""A study's folder: what is written down, renewed and refused, in this process."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers.stub_commands import fake_spider
from nnunetv2_diffusion.workflow.configuration import PAPER
from nnunetv2_diffusion.workflow.provenance import environment, write_provenance
from nnunetv2_diffusion.workflow.study import make_study, open_study


def test_a_study_of_phantoms(tmp_path: Path):
    grid, lacking = make_study(tmp_path / "study", None)
    assert lacking == []
    assert open_study(tmp_path / "study") == grid
    assert len(grid.trainings) == 12
    assert {path.name for path in (tmp_path / "study").iterdir()} == {
        *("config.yaml", "study.json", "splits", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"),
    }


def test_an_edited_configuration_counts(tmp_path: Path):
    spider = fake_spider(tmp_path / "SPIDER")
    make_study(tmp_path / "study", spider)
    path = tmp_path / "study" / "config.yaml"
    assert path.read_text(encoding="utf-8") == PAPER.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace("[T1w, T2w, T1wT2w]", "[T2w]"), encoding="utf-8")
    grid, _ = make_study(tmp_path / "study", spider)
    assert len(grid.trainings) == len(open_study(tmp_path / "study").trainings) == 45


def test_half_of_spider_is_told(tmp_path: Path):
    spider = fake_spider(tmp_path / "SPIDER", patients=109)
    _, lacking = make_study(tmp_path / "study", spider)
    assert lacking == [
        f"{spider} holds 109 of SPIDER's 218 patients: the tables will not be the paper's; spinesegdiff download "
        "brings the rest"
    ]
    assert make_study(tmp_path / "whole", fake_spider(tmp_path / "all", patients=218))[1] == []


def test_a_missing_modality_is_left_out(tmp_path: Path):
    spider = fake_spider(tmp_path / "SPIDER", patients=218, series=("t1",))
    grid, lacking = make_study(tmp_path / "study", spider)
    assert [sentence.partition(": ")[2] for sentence in lacking] == [
        f"{modality} is left out; download the rest" for modality in ("T2w", "T1wT2w")
    ]
    assert {modality for modality, _ in open_study(tmp_path / "study").datasets.values()} == {"T1w"}
    assert grid.left_out == ("T2w", "T1wT2w")


def test_nothing_left(tmp_path: Path):
    config = yaml.safe_load(PAPER.read_text(encoding="utf-8")) | {"modalities": ["T2w"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    spider = fake_spider(tmp_path / "SPIDER", series=("t1",))
    with pytest.raises(ValueError, match="holds no scan of T2w; there is nothing to train on"):
        make_study(tmp_path / "study", spider, config=tmp_path / "config.yaml")


def test_a_study_that_was_not_made(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"study\.json does not exist; run spinesegdiff reproduce"):
        open_study(tmp_path)


def test_what_made_a_study(tmp_path: Path):
    spider = fake_spider(tmp_path / "SPIDER", patients=1)
    (spider / "images" / "1_t1.mha").write_bytes(b"abc")
    study = tmp_path / "study"
    grid, _ = make_study(study, spider)
    write_provenance(study, grid)
    sums = pd.read_csv(study / "data.csv").set_index("file")["sha256"]
    # FIPS 180-2's own example, and the sum of nothing
    assert sums["images/1_t1.mha"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sums["masks/1_t1.mha"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (study / "environment.txt").read_text(encoding="utf-8") == environment()
    assert f"pytest=={pytest.__version__}" in environment().splitlines()
    assert (pd.read_csv(study / "progress.csv")["state"] == "waiting").all()
    (spider / "images" / "1_t1.mha").write_bytes(b"")
    write_provenance(study, grid)
    assert pd.read_csv(study / "data.csv")["sha256"].nunique() == 1, "read again where a size has changed"
