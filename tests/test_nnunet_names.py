"""Names of floor 0: composing and parsing are each other's inverse, and doubtful ones are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nnunetv2_diffusion import nnunet_names
from nnunetv2_diffusion.nnunet_names import ModelName


def test_a_model_folder_is_named_as_nnunet_names_it():
    name = ModelName("nnUNetTrainer", "nnUNetPlans", "2d")
    assert str(name) == "nnUNetTrainer__nnUNetPlans__2d"
    assert ModelName.of_folder(Path("/results/Dataset502_X") / str(name)) == name


@pytest.mark.parametrize("name", ["nnUNetTrainer", "a__b", "a__b__c__d", "a____c"])
def test_other_folders_are_no_models(name: str):
    with pytest.raises(ValueError, match="<trainer>__<plans>__<configuration>"):
        ModelName.of_folder(name)


def test_folds_in_their_order(tmp_path: Path):
    for fold in (0, 2, 10, "all"):
        (tmp_path / f"fold_{fold}").mkdir()
        if fold != 2:
            (tmp_path / f"fold_{fold}" / "checkpoint_final.pth").touch()
    assert nnunet_names.fold_folder(tmp_path, 10).is_dir()
    assert nnunet_names.folds_with(tmp_path) == ["0", "2", "10", "all"]
    assert nnunet_names.folds_with(tmp_path, nnunet_names.CHECKPOINT) == ["0", "10", "all"]
    assert nnunet_names.numbered_folds_with(tmp_path, nnunet_names.CHECKPOINT) == [0, 10]
    assert nnunet_names.folds_with(tmp_path / "nowhere") == []


@pytest.mark.parametrize(("baseline", "timesteps"), [("2d", 30), ("2d_small", 1000)])
def test_stages(baseline: str, timesteps: int):
    stage = nnunet_names.stage_name(baseline, timesteps)
    assert stage == f"{baseline}_preseg_T{timesteps}"
    assert nnunet_names.parse_stage(stage) == (baseline, timesteps)
    assert nnunet_names.default_trainer(stage) == "nnUNetTrainerSpineSegDiffPreSeg"


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres", "2d_preseg_T", "_preseg_T30", "2d_preseg_T30_x"])
def test_other_configurations_are_no_stages(configuration: str):
    assert nnunet_names.parse_stage(configuration) is None
    assert nnunet_names.default_trainer(configuration) == "nnUNetTrainerSpineSegDiff"


def test_a_dataset_by_number_and_by_name(tmp_path: Path):
    folder = tmp_path / "Dataset007_Spine"
    folder.mkdir()
    (tmp_path / "Dataset008_File").touch()
    for dataset in (7, "7", "007", "Dataset007_Spine"):
        assert nnunet_names.dataset_folder(dataset, tmp_path) == folder
    for dataset in (8, 9, "Dataset009_None"):
        assert nnunet_names.dataset_folder(dataset, tmp_path) is None
    assert nnunet_names.dataset_number(folder.name) == 7
    assert nnunet_names.dataset_name(7, "Spine") == folder.name
    assert nnunet_names.dataset_number("Spine") is None


def test_a_number_of_two_datasets_and_what_names_none(tmp_path: Path):
    for name in ("Dataset007_A", "Dataset007_B"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="Dataset007_A, Dataset007_B; give the full name"):
        nnunet_names.dataset_folder(7, tmp_path)
    for dataset in ("Spine", "../etc", "-7", ""):
        with pytest.raises(ValueError, match="by its number, such as 502"):
            nnunet_names.dataset_folder(dataset, tmp_path)


def test_folders_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("nnUNet_raw", raising=False)
    assert nnunet_names.optional_nnunet_folder("nnUNet_raw") is None
    with pytest.raises(ValueError, match="nnUNet_raw is not set"):
        nnunet_names.nnunet_folder("nnUNet_raw")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "nowhere"))
    assert nnunet_names.optional_nnunet_folder("nnUNet_raw") is None
    with pytest.raises(FileNotFoundError, match="is no folder"):
        nnunet_names.nnunet_folder("nnUNet_raw")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert nnunet_names.nnunet_folder("nnUNet_raw") == nnunet_names.optional_nnunet_folder("nnUNet_raw") == tmp_path


def test_our_trainers_beside_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("nnUNet_extTrainer", "/other")
    for _ in range(2):
        nnunet_names.make_trainers_known()
    assert os.environ["nnUNet_extTrainer"].split(os.pathsep) == ["/other", str(nnunet_names.EXTENSION)]
    assert (nnunet_names.EXTENSION / "spinesegdiff_trainers.py").is_file()


@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_channels_under_both_of_their_keys(key: str):
    assert nnunet_names.channel_names({key: {"0": "T1", "1": "T2"}}) == ["T1", "T2"]


@pytest.mark.parametrize("description", [{}, {"channel_names": {}}, {"modality": "MRI"}])
def test_a_description_without_channels(description: dict):
    with pytest.raises(ValueError, match=r"dataset\.json names no channels"):
        nnunet_names.channel_names(description)


@pytest.mark.parametrize(("image", "rater"), [("SPIDER_001_t2", "rater2"), ("a__b", "c"), ("scan_", "A")])
def test_raters(image: str, rater: str):
    case = nnunet_names.rater_case(image, rater)
    assert case == f"{image}__{rater}"
    assert nnunet_names.split_rater(case) == (image, rater)


@pytest.mark.parametrize("case", ["SPIDER_001_t2", "a_b", "__a", "a__", "__"])
def test_other_cases_name_no_rater(case: str):
    assert nnunet_names.split_rater(case) == (case, None)


@pytest.mark.parametrize("rater", ["", "a__b"])
def test_names_that_no_rater_can_have(rater: str):
    with pytest.raises(ValueError, match="a rater cannot be called"):
        nnunet_names.rater_case("image", rater)


def test_samples_lie_in_a_folder_of_their_own(tmp_path: Path):
    assert nnunet_names.samples_file(tmp_path, "case") == tmp_path / "samples" / "case_samples.nii.gz"


def test_a_raters_file():
    assert nnunet_names.rated_file_name("1_t2.mha", "A") == "1_t2__A.mha"
    assert nnunet_names.rated_file_name("case.nii.gz", "A") == "case__A.nii.gz"
