"""`spinesegdiff ablate`: Table 2 from the results folders, with what is missing in it."""

from __future__ import annotations

import pandas as pd
import pytest

from helpers.spine_tree import MODELS, build_tree, some_patients
from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.report.results import read_results
from nnunetv2_diffusion.scoring.cases import score_cases

DATASET = "Dataset503_SPIDER_T1wT2w"


@pytest.fixture
def stages(tmp_path, monkeypatch):
    environment = build_tree(tmp_path, some_patients(6), (DATASET,), (MODELS[1], MODELS[3]), size=64)
    for name, folder in environment.items():
        monkeypatch.setenv(name, folder)
    return tmp_path


def test_table_2(stages, capsys):
    out = stages / "out"
    assert main(["ablate", "-d", "503", "--timesteps", "0", "30", "100", "-o", str(out)]) == 0
    table = pd.read_csv(out / "ablation.csv", index_col=0)
    assert table.columns.tolist() == ["T = 0", "T = 30", "T = 100"]
    assert table.loc["Discs", "T = 100"] == "no results" and table.loc["Missing folds", "T = 100"] == "all"
    assert not table.isna().drop(index="Seconds a slice").any(axis=None)
    assert table.loc["Discs (paper)"].tolist() == ["0.84 ± 0.05", "0.89 ± 0.05", "0.89 ± 0.06"]
    assert pd.isna(table.loc["Seconds a slice", "T = 0"]) and float(table.loc["Seconds a slice", "T = 30"]) == 0.9
    printed = capsys.readouterr().out
    assert "No results yet for T = 100." in printed and "Seconds a slice are not known for T = 0" in printed
    assert all((out / name).stat().st_size > 1000 for name in ("ablation.png", "ablation.pdf"))

    results = read_results([503], stages / "nnUNet_results", stages / "nnUNet_preprocessed")
    scored = score_cases(results.cases, results.labels, progress=False).structures
    mine = scored[~scored["oblique"].astype(bool) & (scored["structure"] == "discs")]
    for model, column in (("nnU-Net", "T = 0"), ("SpineSegDiff, pre-segmentation T = 30", "T = 30")):
        dice = mine.loc[mine["model"] == model, "dice"]
        assert len(dice) == 10, "six patients with two scans each, less the two oblique scans of patient 1"
        assert table.loc["Discs", column] == f"{dice.mean():.3f} ± {dice.std():.3f}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--timesteps", "0", "300"], "T = 300: there is no configuration 2d_preseg_T300"),
        (["--timesteps", "-1", "30"], "T must be 0 (nnU-Net itself) or more, not -1"),
        (["--timesteps", "30", "-p", "other"], "no validated fold of dataset 503"),
        (["--timesteps", "100"], "no validated fold of dataset 503"),
    ],
)
def test_bad_input(stages, capsys, arguments, expected):
    assert main(["ablate", "-d", "503", *arguments, "-o", str(stages / "out")]) == 2
    assert expected in capsys.readouterr().err.splitlines()[-1]
    assert not (stages / "out").exists()
