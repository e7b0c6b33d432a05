"""The report on what nnU-Net and our commands really leave behind: trainings, their validation, and its maps."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from helpers.nnunet_samples import TinyProject
from nnunetv2_diffusion.cli import main


def test_report_reads_trainings_their_folds_and_their_maps(tiny: TinyProject, tmp_path: Path):
    pytest.importorskip("jinja2")
    number = tiny.dataset(1, "labels")
    diffusion = tiny.model(1, "labels", fold=0)
    plain = tiny.model(1, "labels", fold=0, trainer="TinyPlainTrainer")
    assert main(["validate", "-d", str(number), "-c", "2d", "-tr", diffusion.name.split("__")[0], "-f", "0"]) == 0
    assert main(["report", "-d", str(number), "-o", str(tmp_path), "-np", "1"]) == 0

    table = pd.read_csv(tmp_path / "table1.csv")
    cases = pd.read_csv(tmp_path / "cases.csv")
    for folder in (diffusion, plain):
        summary = json.loads((folder / "fold_0" / "validation" / "summary.json").read_text())
        # other tests may have trained further folds of the shared model
        trained = cases[(cases["trainer"] == folder.name.split("__")[0]) & (cases["fold"] == 0)]
        for structure, label in (("vertebra", "1"), ("disc", "2")):
            ours = trained.loc[trained["structure"] == structure, "dice"].mean()
            assert ours == pytest.approx(summary["mean"][label]["Dice"], abs=1e-6)
    assert len(table) > 0
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert diffusion.name.split("__")[0] in page
    assert "missing" in page
