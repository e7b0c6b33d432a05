"""The report's section on a study: from its three files, by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from nnunetv2_diffusion.report.page import TEMPLATES
from nnunetv2_diffusion.report.section import Context
from nnunetv2_diffusion.report.sections import study
from nnunetv2_diffusion.report.studies import COLUMNS, read_study

ROWS = [
    ("convert-502", "convert", "finished in part", 1, 1.0, "a", "logs/convert-502.log", "3 of 4 cases"),
    ("train-502-nnunet-0", "train", "finished", 1, 9.0, "a", "logs/x.log", ""),
    ("train-502-nnunet-1", "train", "failed", 2, 9.0, "b", "logs/y.log", "RuntimeError: <bad>"),
    ("train-502-nnunet-2", "train", "running", 1, 9.0, "b", "logs/z.log", ""),
    ("report", "report", "running", 1, 0.1, "a", "", ""),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pd.DataFrame(ROWS, columns=list(COLUMNS)).to_csv(tmp_path / "progress.csv", index=False)
    (tmp_path / "environment.txt").write_text("# Python 3.11 on x\nnnunetv2==2.8.1\nother==1\n", encoding="utf-8")
    (tmp_path / "data.csv").write_text("file,bytes,sha256\nimages/1_t1.mha,3,ab\n", encoding="utf-8")
    return tmp_path


def test_section(folder: Path):
    about = read_study(folder)
    made = study.section(Context(results=None, scores=None, study=about))
    assert (made.variables["jobs"], made.variables["finished"]) == (4, 2)
    train = made.variables["rows"][1]
    assert (train["rule"], train["jobs"], train["finished"]) == ("train", 3, 1)
    assert train["others"] == {"running": "train-502-nnunet-2", "failed": "train-502-nnunet-1"}
    assert [row["job"] for row in made.variables["told"]] == ["convert-502", "train-502-nnunet-1"]
    assert made.variables["software"] == {"": "Python 3.11 on x", "nnunetv2": "2.8.1"}
    wanted = hashlib.sha256(b"images/1_t1.mha ab\n").hexdigest()
    assert made.variables["data"] == {"files": 1, "sha256": wanted}
    assert made.tables["study"]["job"].tolist() == [row[0] for row in ROWS]


def test_page(folder: Path):
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = study.section(Context(results=None, scores=None, study=read_study(folder)))
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template(made.template).render(**made.variables)
    assert "2 of 4 jobs are finished" in page
    assert "RuntimeError: &lt;bad&gt; (logs/y.log)" in page


def test_no_study():
    assert study.section(Context(results=None, scores=None)) is None


@pytest.mark.parametrize("name", ["progress.csv", "environment.txt", "data.csv"])
def test_a_missing_file(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} does not exist; run spinesegdiff reproduce"):
        read_study(folder)


def test_a_damaged_file(folder: Path):
    (folder / "progress.csv").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"progress\.csv"):
        read_study(folder)
