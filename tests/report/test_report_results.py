"""Reading nnU-Net's folders: what is there, what is missing, and what cannot be."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from nnunetv2_diffusion.nnunet_names import ModelName, parse_stage
from nnunetv2_diffusion.report.datasets import Dataset
from nnunetv2_diffusion.report.names import family, modality_name, model_name
from nnunetv2_diffusion.report.results import read_results
from nnunetv2_diffusion.scoring.cases import score_cases
from nnunetv2_diffusion.scoring.labels import LabelScheme
from nnunetv2_diffusion.scoring.tables import summarise_structures

T1W = "Dataset501_SPIDER_T1w"
OURS, NNUNET = "nnUNetTrainerSpineSegDiff__nnUNetPlans__2d", "nnUNetTrainer__nnUNetPlans__2d"


def read(root, datasets=(501, 503)):
    return read_results(datasets, root / "nnUNet_results", root / "nnUNet_preprocessed", root / "nnUNet_raw")


def test_everything_there(spine_folders):
    results = read(spine_folders)
    assert results.trainings["model"].tolist() == ["SpineSegDiff", "SpineSegDiff", "nnU-Net", "nnU-Net"]
    assert results.trainings["modality"].tolist() == ["T1w", "T1w + T2w"] * 2
    assert results.trainings["cases"].tolist() == [10, 20] * 2
    assert (results.folds["found"] == results.folds["expected"]).all()
    oblique = results.cases.loc[results.cases["oblique"], "case"].unique()
    assert sorted(oblique) == ["SPIDER_001_t1", "SPIDER_001_t2"]
    assert results.trainings["seconds_per_slice"].tolist()[:2] == pytest.approx([0.8, 0.8])
    assert results.notes == []


def test_dice_is_nnunets_own(spine_folders):
    """Against nnU-Net's compute_metrics on the same files."""
    evaluate = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions")
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    results = read(spine_folders, [501])
    scores = score_cases(results.cases, results.labels, progress=False).structures
    dice = scores.set_index(["model", "case", "structure"])["dice"]
    for row in results.cases.iloc[::7].to_dict("records"):
        files = str(row["reference"]), str(row["prediction"])
        theirs = evaluate.compute_metrics(*files, SimpleITKIO(), [1, 2, 3])["metrics"]
        for value, name in enumerate(("spinal_canal", "vertebrae", "discs"), start=1):
            assert dice[row["model"], row["case"], name] == pytest.approx(theirs[value]["Dice"])


def test_missing_and_partial_folds_are_told(spine_folders):
    folder = spine_folders / "nnUNet_results" / T1W / OURS
    shutil.rmtree(folder / "fold_2")
    shutil.rmtree(folder / "fold_4" / "validation")
    next((folder / "fold_0" / "validation").glob("*.nii.gz")).unlink()
    about = read(spine_folders).trainings.iloc[0]
    assert about["missing_folds"] == "2, 4" and about["partial_folds"] == "0 (1 of 2 cases)" and about["cases"] == 5


def test_a_training_without_validation_is_listed(spine_folders):
    (spine_folders / "nnUNet_results" / T1W / "nnUNetTrainerIISDM__nnUNetPlans__2d" / "fold_0").mkdir(parents=True)
    trainings = read(spine_folders).trainings.set_index(["model", "modality"])
    row = trainings.loc[("IISDM", "T1w")]
    assert row["cases"] == 0 and row["missing_folds"] == "0, 1, 2, 3, 4"


def test_a_dataset_without_results_is_a_note(spine_folders):
    assert read(spine_folders, [501, 502]).notes == ["Dataset 502 has no trained model in the results folder."]


def test_cases_csv_tells_patient_and_oblique(spine_folders):
    table = pd.DataFrame({"case": ["SPIDER_004_t1"], "patient": [77], "series": ["t1"], "oblique": ["yes"]})
    table.to_csv(spine_folders / "nnUNet_raw" / T1W / "cases.csv", index=False)
    cases = read(spine_folders, [501]).cases.drop_duplicates("case").set_index("case")
    assert cases.loc["SPIDER_004_t1", ["patient", "oblique"]].tolist() == ["77", True]
    assert cases.loc["SPIDER_005_t1", ["patient", "oblique"]].tolist() == ["5", False]


def test_patients_in_two_folds_are_told(spine_folders):
    path = spine_folders / "nnUNet_preprocessed" / "Dataset503_SPIDER_T1wT2w" / "splits_final.json"
    splits = json.loads(path.read_text())
    splits[0]["val"].remove("SPIDER_001_t2")
    splits[1]["val"].append("SPIDER_001_t2")
    path.write_text(json.dumps(splits))
    for model in (OURS, NNUNET):
        folder = spine_folders / "nnUNet_results" / "Dataset503_SPIDER_T1wT2w" / model
        source = folder / "fold_0" / "validation" / "SPIDER_001_t2.nii.gz"
        source.rename(folder / "fold_1" / "validation" / source.name)
    assert "1 patients of Dataset503_SPIDER_T1wT2w are in more than one fold" in read(spine_folders).notes[0]


def test_missed_structures_follow_the_rule():
    """A structure in one mask only counts as missed; one in neither mask is left out."""
    rows = pd.DataFrame(
        {
            "model": "m",
            "case": ["a", "b", "c"],
            "structure": "discs",
            "dice": [0.8, 0.0, float("nan")],
            "hd95": [1.0, 50.0, float("nan")],
            "assd": [0.5, 50.0, float("nan")],
            "reference_voxels": [9, 9, 0],
            "predicted_voxels": [8, 0, 0],
        }
    )
    row = summarise_structures(rows, ["model"]).set_index("structure").loc["discs"]
    assert (row["cases"], row["scored"], row["missed"]) == (3, 2, 1)
    assert row["dice_mean"] == pytest.approx(0.4) and row["hd95_mean"] == pytest.approx(25.5)


def foreign_case(folder):
    source = next((folder / "fold_1" / "validation").glob("*.nii.gz"))
    source.rename(source.with_name("BRATS_001.nii.gz"))
    return "is no case of Dataset501_SPIDER_T1w; results of different datasets are mixed"


def foreign_labels(folder):
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    return "names other labels than Dataset501_SPIDER_T1w has; results of different datasets are mixed"


def case_of_another_fold(folder):
    source = next((folder / "fold_1" / "validation").glob("*.nii.gz"))
    shutil.copy(source, folder / "fold_2" / "validation" / source.name)
    return "lies in fold 2, but splits_final.json of Dataset501_SPIDER_T1w does not validate"


def case_in_two_folds(folder):
    for home in ("nnUNet_preprocessed", "nnUNet_raw"):
        (folder.parents[2] / home / T1W / "splits_final.json").unlink(missing_ok=True)
    case_of_another_fold(folder)
    return "is in two folds of"


@pytest.mark.parametrize("spoil", [foreign_case, foreign_labels, case_of_another_fold, case_in_two_folds])
def test_results_that_cannot_be(spine_folders, spoil):
    expected = spoil(spine_folders / "nnUNet_results" / T1W / OURS)
    with pytest.raises(ValueError, match=expected):
        read(spine_folders)


def test_names_of_models_and_modalities():
    assert model_name(ModelName("nnUNetTrainer", "nnUNetPlans", "2d")) == "nnU-Net"
    assert (
        model_name(ModelName("nnUNetTrainerSpineSegDiff_20epochs", "nnUNetPlans", "2d")) == "SpineSegDiff (20 epochs)"
    )
    stage = ModelName("nnUNetTrainerSpineSegDiffPreSeg", "nnUNetPlans", "2d_small_preseg_T30")
    assert model_name(stage) == "SpineSegDiff, pre-segmentation T = 30 (2d_small)"
    assert parse_stage(stage.configuration) == ("2d_small", 30) and parse_stage("2d_spinesegdiff") is None
    paper, control = (
        ModelName(f"nnUNetTrainerSpineSegDiff{kind}", "nnUNetPlans", "2d") for kind in ("Paper", "Control")
    )
    assert model_name(paper) == "SpineSegDiff (Paper)" and family(paper.trainer) == "SpineSegDiff"
    assert model_name(control) == family(control.trainer) == "U-Net trained as SpineSegDiff"
    assert family("nnUNetTrainerIISDM_5epochs") == "IISDM" and family("MyTrainer") == "MyTrainer"
    assert modality_name("Dataset513_SPIDER_T1wT2w_3D") == "T1w + T2w, 3D"
    assert modality_name("Dataset004_Hippocampus") == "Hippocampus"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"seconds_per_slice": 0.', "is no valid JSON"),
        ("[0.8]", "should hold a dict, not a list"),
        ("{}", 'holds no number "seconds_per_slice"'),
        ('{"seconds_per_slice": NaN}', 'holds no number "seconds_per_slice"'),
    ],
)
def test_a_damaged_timing_is_a_note(spine_folders, content, expected):
    """It says which file, and the other folds still give the seconds a slice."""
    path = spine_folders / "nnUNet_results" / T1W / OURS / "fold_2" / "validation_uncertainty" / "timing.json"
    path.write_text(content)
    results = read(spine_folders, [501])
    seconds = results.trainings.set_index("model").loc["SpineSegDiff", "seconds_per_slice"]
    assert seconds == pytest.approx(0.8)
    (note,) = results.notes
    assert note.startswith(f"{path} ") and expected in note and note.endswith("`spinesegdiff validate` has run again.")


def test_names_that_are_no_dataset(spine_folders):
    with pytest.raises(ValueError, match="a dataset is named by its number, such as 502, or as DatasetXXX_NAME"):
        read(spine_folders, ["SPIDER"])
    (spine_folders / "nnUNet_results" / "Dataset501_other").mkdir()
    with pytest.raises(ValueError, match="the number 501 is taken by several datasets"):
        read(spine_folders, [501])


@pytest.mark.parametrize(
    ("case", "patient", "oblique"),
    [
        ("SPIDER_007_t2__rater1", "7", False),
        ("SPIDER_001_t1__A", "1", True),
        ("own__A", "own", False),
        ("own", "own", False),
    ],
)
def test_raters_cases_are_of_one_patient(case, patient, oblique):
    dataset = Dataset("D", LabelScheme({"x": (1,)}), ".nii.gz", {}, None, None, pd.DataFrame())
    assert dataset.describe_case(case) == {"case": case, "patient": patient, "oblique": oblique}
