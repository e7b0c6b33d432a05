"""Table 3 from SPIDER's own gradings, patients and discs, and gradings that do not read."""

from __future__ import annotations

import pandas as pd
import pytest

from helpers.spine_tree import write_gradings
from nnunetv2_diffusion.report.gradings import patient_flags, prevalence, read_gradings


def test_table_3_of_spider(real_mri):
    gradings = read_gradings(real_mri / "spider_metadata")
    table = prevalence(gradings).set_index("pathology")
    assert len(patient_flags(gradings)) == 218
    patients = table["patients"].to_dict()
    assert {name: patients[name] for name in table.index[:6]} == {
        "Spondylolisthesis": 39,
        "Disc herniation": 65,
        "Modic changes": 149,
        "Endplate changes": 177,
        "Disc narrowing": 193,
        "Disc bulging": 200,
    }
    assert table.loc[["Spondylolisthesis", "Disc herniation"], "discs"].tolist() == [42, 72]
    assert table.loc[["Spondylolisthesis", "Disc herniation"], "paper"].tolist() == [42, 72]
    assert table.loc["Modic changes", "patients_percent"] == pytest.approx(68.35, abs=0.01)


def test_pfirrmann_threshold(tmp_path):
    gradings = read_gradings(write_gradings(tmp_path / "radiological_gradings.csv", range(1, 21)))
    worst = gradings.groupby("Patient")["Pfirrman grade"].max()
    for grade in (2, 3, 5):
        flagged = patient_flags(gradings, grade)["Disc degeneration"]
        assert flagged.to_dict() == (worst >= grade).to_dict()
    with pytest.raises(ValueError, match="must lie between 2 and 5, not 6"):
        patient_flags(gradings, 6)


def test_gradings_that_do_not_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"radiological_gradings\.csv"):
        read_gradings(tmp_path)
    path = write_gradings(tmp_path / "radiological_gradings.csv", range(1, 4))
    table = pd.read_csv(path)
    table.drop(columns=["Modic", "Disc bulging"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match="has no column Modic, Disc bulging"):
        read_gradings(path)
    table.astype({"Modic": object}).assign(Modic=["none", *table["Modic"][1:]]).to_csv(path, index=False)
    with pytest.raises(ValueError, match="line 2: Modic is 'none', no number"):
        read_gradings(path)
