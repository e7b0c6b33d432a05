"""The page's facts: which scans are in doubt and why, the table of all, and verdicts that are read back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from helpers.cohort_samples import HOSTILE, write_result
from helpers.segment_samples import (
    one_thread,  # noqa: F401
    phantom,
    predict_by_threshold,
    write_threshold_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.scans.page.page import write_page
from nnunetv2_diffusion.scans.page.results import kind_of, read_results
from nnunetv2_diffusion.scans.page.verdicts import rejected_scans

HEIGHTS = [25.0, 26.0, 27.0, 28.0, 25.5, 26.5, 27.5, 26.2, 26.8]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Nine plain scans whose L5 differ a little, one whose L4 is far off, one without measurements."""
    for number, height in enumerate(HEIGHTS):
        write_result(tmp_path, f"plain{number}", heights=(height, 30.0))
    write_result(tmp_path, "tall", heights=(26.0, 41.0), levels_doubt=("the sacrum is not seen",))
    write_result(
        tmp_path, "bare", uncertainty=0.4, reasons=("discs: not found", "mean uncertainty in the mask is 0.40")
    )
    return tmp_path


def test_most_in_doubt_first(results: Path):
    found, remarks = read_results(results)
    assert remarks == [] and [result.name for result in found][:3] == ["bare", "tall", "plain0"]
    assert found[0].reasons == ["discs: not found", "mean uncertainty in the mask is 0.40"]
    assert found[1].reasons[0] == "levels in doubt: the sacrum is not seen"
    assert found[1].reasons[1].startswith("L4 vertebra height middle is 41 mm, outside ")
    assert all(result.reasons == [] for result in found[2:])


def test_fences_are_tukeys(results: Path):
    """At L5 the quartiles are NumPy's of the ten heights; the first height beyond 1.5 times their distance is told."""
    for extra, outside in ((-0.01, 0), (0.01, 1)):
        values = [*HEIGHTS, 26.0]
        for height in np.arange(28.0, 40.0, 0.001):  # the last that is inside, of the eleven with itself
            low, high = np.percentile([*values, height], [25, 75])
            if height > high + 1.5 * (high - low):
                break
        write_result(results, "edge", heights=(height + extra, 30.0))
        (edge,) = (result for result in read_results(results)[0] if result.name == "edge")
        assert len(edge.outlying) == outside


def test_summary(results: Path):
    assert write_page(results) == []
    table = pd.read_csv(results / "summary.csv").set_index("scan")
    assert list(table.index) == sorted(table.index) and len(table) == 11
    assert table["pairwise_dice"].isna().all()
    write_result(results, "bare", uncertainty=0.4, reasons=("discs: not found",), pairwise_dice=0.75)
    write_page(results)
    assert pd.read_csv(results / "summary.csv").set_index("scan").loc["bare", "pairwise_dice"] == 0.75
    bare = table.loc["bare"]
    assert bare["review"] and bare["reasons"] == "discs: not found; mean uncertainty in the mask is 0.40"
    assert (bare["uncertainty_mask"], bare["vertebrae_area_mm2"], bare["model"]) == (0.4, 1234.4, "ab" * 32)
    assert (table.loc["tall", "levels_in_doubt"], table.loc["tall", "measurements_outside"]) == (1, 1)


def test_what_is_no_result_is_passed_over_and_what_is_damaged_told(results: Path):
    (results / "other.json").write_text('{"a": 1}')
    (results / "half.json").write_text("{")
    (results / "wrong.json").write_text('{"review_reasons": 3, "files": ["x.png"]}')
    remarks = write_page(results)
    assert len(remarks) == 2 and all("left out of the page" in remark for remark in remarks)
    assert len(pd.read_csv(results / "summary.csv")) == 11


def test_names_are_escaped(tmp_path: Path):
    write_result(tmp_path, HOSTILE, reasons=("</script><script>document.title=2</script>",))
    write_page(tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'onerror="' not in page and page.count("<script") == 2 and page.count("</script>") == 2
    (picture,) = set(re.findall(r'data-picture="([^"]+)"', page))
    assert "%3Cimg%20src" in picture and "%231%2520.png" in picture


def test_no_results_at_all(tmp_path: Path):
    assert write_page(tmp_path) == []
    assert "0 scans" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_kinds():
    assert kind_of("mean uncertainty in the mask is 0.42, above 0.3") == "mean uncertainty in the mask is …, above …"
    assert kind_of("L4 disc height is 3 mm, outside 5 to 9 of the others").startswith("a measurement outside")


class TestVerdicts:
    def test_as_the_page_and_a_spreadsheet_write_them(self, tmp_path: Path):
        file = tmp_path / "verdicts.csv"
        rows = 'a,1,reject,"blurred, twice"\r\n"b ""x""",2,reject,\r\nc,3,accept,\r\nd,4,,look again\r\n'
        file.write_text(f"\ufeffscan,result,verdict,comment\r\n{rows}", encoding="utf-8", newline="")
        assert rejected_scans(file) == {"a", 'b "x"'}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"name,verdict\n", "no columns scan and verdict"),
            (b"", "no columns scan and verdict"),
            (b"scan,verdict\na,rejected\n", "holds the verdict 'rejected'"),
            (b"scan,verdict\n\xff,reject\n", "verdicts.csv"),
        ],
    )
    def test_what_is_none(self, tmp_path: Path, content: bytes, message: str):
        (tmp_path / "verdicts.csv").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            rejected_scans(tmp_path / "verdicts.csv")
        with pytest.raises(FileNotFoundError, match="does not exist"):
            rejected_scans(tmp_path / "nowhere.csv")

    def test_rejected_scans_are_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
        monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)
        model = write_threshold_model(tmp_path / "results")
        scans, out = tmp_path / "scans", tmp_path / "out"
        scans.mkdir()
        for name in ("a", "b", "c"):
            sitk.WriteImage(phantom(np.eye(3), (6, 52, 60), (4.0, 1.0, 1.0))[0], str(scans / f"{name}.mha"))
        (tmp_path / "verdicts.csv").write_text("scan,verdict\nb,reject\n")
        capsys.readouterr()
        command = ["segment", str(scans), str(out), "--model", str(model)]
        assert cli.main([*command, "--exclude", str(tmp_path / "verdicts.csv")]) == 0
        assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["a", "c"]
        assert pd.read_csv(out / "summary.csv")["scan"].tolist() == ["a", "c"]
        assert cli.main(command) == 0
        assert pd.read_csv(out / "summary.csv")["scan"].tolist() == ["a", "b", "c"]
        assert cli.main([*command, "--exclude", str(tmp_path / "none.csv")]) == 2
