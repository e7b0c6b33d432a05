"""`segment --bids`: a BIDS data set in, a derivative out, whose names are those that BIDS' own schema allows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from bidsschematools.rules import regexify_filename_rules
from bidsschematools.schema import load_schema

from helpers.segment_samples import (
    dataset_json,
    one_thread,  # noqa: F401
    phantom,
    predict_by_threshold,
    same_geometry,
    write_model,
    write_threshold_model,
)
from nnunetv2_diffusion import cli
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.scans.bids import BidsName, find_bids_scans
from nnunetv2_diffusion.scans.formats.bids_files import BidsFiles
from nnunetv2_diffusion.scans.found import Segmentation
from nnunetv2_diffusion.scans.page.results import read_results

NAMES = (
    "sub-01/anat/sub-01_T1w.nii.gz",
    "sub-01/anat/sub-01_T2w.nii.gz",
    "sub-02/ses-a/anat/sub-02_ses-a_acq-sag_run-2_T2w.nii.gz",
    "sub-03/anat/sub-03_T1w.nii",
)
STRAY = ("derivatives/other/sub-01/anat/sub-01_desc-x_T2w.nii.gz", "sub-01/anat/sub-09_T2w.nii.gz", "sourcedata/a.mha")
UNNAMED = ("dataset_description.json", "README.md", ".bidsignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_model(tmp_path_factory.mktemp("results"))


@pytest.fixture(autouse=True)
def known_labels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_mri" not in request.fixturenames:
        monkeypatch.setattr(DiffusionNetwork, "predict", predict_by_threshold)


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    root, scan = tmp_path / "bids", phantom(np.eye(3), (6, 52, 60), (4.0, 1.0, 1.0))[0]
    for name in (*NAMES, *STRAY):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(scan, str(root / name))
    description = {"Name": "Lumbar", "BIDSVersion": "1.10.0", "DatasetDOI": "doi:10.5281/zenodo.1"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    return root


@pytest.fixture(scope="module")
def allowed() -> list[re.Pattern]:
    """The names of derivatives that BIDS' schema allows, from the root of the data set."""
    schema = load_schema()
    return [re.compile(rule["regex"]) for rule in regexify_filename_rules(schema.rules.files.deriv, schema, level=2)]


def run(*arguments: object) -> int:
    return cli.main(["segment", *map(str, arguments)])


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_derivative_data_set(folder, data_set, allowed, tmp_path, capsys):
    before = files(data_set)
    assert run(data_set, "--bids", "--model", f"T1={folder}", f"T2={folder}", "--save-probabilities") == 0
    said = capsys.readouterr().out.splitlines()
    assert any("left out, since its name or folder is not as in BIDS: sub-01/anat/sub-09_T2w.nii.gz" in s for s in said)
    out = data_set / "derivatives" / "spinesegdiff"
    written = files(out)
    assert files(data_set) - before == {f"derivatives/spinesegdiff/{name}" for name in written}
    ignored = [re.escape(line).replace(r"\*", ".*") for line in (out / ".bidsignore").read_text().split()]
    known = {name for name in written if not any(re.fullmatch(rule, Path(name).name) for rule in ignored)}
    assert [name for name in known - {*UNNAMED} if not any(rule.fullmatch(name) for rule in allowed)] == []
    starts = ["sub-01/anat/sub-01_space-T1w", "sub-01/anat/sub-01_space-T2w", "sub-03/anat/sub-03_space-T1w"]
    starts.append("sub-02/ses-a/anat/sub-02_ses-a_acq-sag_run-2_space-T2w")
    images = ("structures_dseg", "structures_probseg", "uncertainty_probseg")
    expected = {f"{s}_desc-{i}{e}" for s in starts for i in images for e in (".nii.gz", ".json")}
    assert known - {*UNNAMED} == expected | {f"{start}_desc-structures_dseg.tsv" for start in starts}
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"][0]["Name"] == "spinesegdiff"
    assert description["SourceDatasets"] == [{"DOI": "doi:10.5281/zenodo.1"}]
    assert (out / description["DatasetLinks"]["raw"]).resolve() == data_set.resolve()
    for name in written:
        if name.endswith((".nii.gz", "_dseg.json")):
            sidecar = json.loads((out / name.replace(".nii.gz", ".json")).read_text())
            (origin,) = sidecar["Sources"]
            assert sidecar["SpatialReference"] == origin and origin.removeprefix("bids:raw:") in NAMES
    mask = sitk.ReadImage(str(out / f"{starts[0]}_desc-structures_dseg.nii.gz"))
    assert same_geometry(mask, sitk.ReadImage(str(data_set / NAMES[0])))
    table = pd.read_csv(out / f"{starts[0]}_desc-structures_dseg.tsv", sep="\t")
    assert list(table.columns) == ["index", "name", "color"] and set(table["index"]) >= set(
        np.unique(sitk.GetArrayFromImage(mask)).tolist()
    ) - {0}
    probabilities = json.loads((out / f"{starts[0]}_desc-structures_probseg.json").read_text())
    assert probabilities["LabelMap"] == ["background", "spinal_canal", "vertebrae", "discs"]


def test_resume_page_and_verdicts(folder, data_set, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(data_set, out, "--bids", "--model", folder) == 0  # trained on T2w
    said = capsys.readouterr().out.splitlines()
    assert "left out, since the model was trained on T2: 1 images" in said
    names = {"sub-01_T2w", "sub-02_ses-a_acq-sag_run-2_T2w", "sub-03_T1w"}
    results, remarks = read_results(out)
    assert {result.name for result in results} == names and remarks == []
    assert all((out / result.picture).is_file() and (out / result.json).is_file() for result in results)
    (other,) = (result for result in results if result.name == "sub-03_T1w")
    assert other.warnings == ["its name says T1, but the model was trained on T2"]
    assert '"./sub-01/anat/sub-01_space-T2w.png"' in (out / "index.html").read_text(encoding="utf-8")
    assert run(data_set, out, "--bids", "--model", folder) == 0
    assert "3 of 3 scans were finished already" in capsys.readouterr().out
    identity = next(result.identity for result in results if result.name == "sub-01_T2w")
    verdicts = tmp_path / "verdicts.csv"
    verdicts.write_text(f"scan,verdict,comment,result\nsub-01_T2w,reject,,{identity}\n")
    (out / "sub-01" / "anat" / "sub-01_space-T2w.png").unlink()
    assert run(data_set, out, "--bids", "--model", folder, "--exclude", verdicts) == 0
    assert {result.name for result in read_results(out, ["sub-01_T2w"])[0]} == names - {"sub-01_T2w"}
    assert set(pd.read_csv(out / "summary.csv")["scan"]) == names - {"sub-01_T2w"}
    assert run(data_set, out, "--bids", "--model", folder) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if ": " in line][-1] == "sub-01_T2w"


def test_levels_have_a_table_of_their_own(tmp_path):
    levels = sitk.GetImageFromArray(np.array([[[0, 100, 1, 202]]], np.uint8))
    (tmp_path / "sub-1" / "anat").mkdir(parents=True)
    sitk.WriteImage(levels, str(tmp_path / "sub-1" / "anat" / "sub-1_T2w.nii.gz"))
    (source,), _ = find_bids_scans(tmp_path)
    mask, stage = sitk.GetImageFromArray(np.array([[[0, 1, 2, 3]]], np.uint8)), tmp_path / "stage"
    stage.mkdir()
    found = Segmentation(mask, mask, None, {}, None, levels)
    written = BidsFiles(root=tmp_path).write_images(
        found, source, {"spinal_canal": 1, "vertebrae": 2, "discs": 3}, stage
    )
    assert {path.name for path in stage.iterdir()} == set(written)
    table = pd.read_csv(stage / "sub-1_space-T2w_desc-levels_dseg.tsv", sep="\t")
    assert table[["index", "name"]].values.tolist() == [[100, "spinal canal"], [1, "L5"], [202, "L4/L5"]]


@pytest.mark.parametrize(
    ("path", "derived"),
    [
        ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01_space-T1w"),
        ("x/sub-01/ses-2/anat/sub-01_ses-2_rec-a_chunk-3_T2w.nii", "sub-01_ses-2_rec-a_space-T2w_chunk-3"),
        ("sub-01/anat/sub-02_T1w.nii.gz", None),
        ("sub-01/anat/sub-01_ses-2_T1w.nii.gz", None),
        ("sub-01/anat/sub-01_run-1_run-2_T1w.nii.gz", None),
        ("sub-01/anat/sub-01_FLAIR.nii.gz", None),
    ],
)
def test_names(path, derived):
    name = BidsName.of(Path("data") / path)
    assert (name and name.derived) == derived


def test_flags_and_folders_that_do_not_fit(folder, data_set, tmp_path, capsys):
    for arguments, message in (
        ((data_set, "--bids", "--model", folder, "--format", "mha"), "--bids takes no --format"),
        ((data_set, "--bids", "--model", folder, "--watch"), "--bids takes no --format, --series or --watch"),
        ((data_set, "--model", folder), "name a folder for the results"),
        ((data_set, data_set, "--bids", "--model", folder), "is another data set by its dataset_description.json"),
        ((tmp_path / "nothing", "--bids", "--model", folder), "expected sub-*/[ses-*/]anat/*_T1w.nii.gz"),
    ):
        assert run(*arguments) == 2
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line)
        assert message in line
    assert json.loads((data_set / "dataset_description.json").read_text())["Name"] == "Lumbar"


def test_a_real_scan(real_mri, tmp_path):
    """A real patient's, by a network with random weights: the derivative's images lie on the scan's own grid."""
    model = write_model(tmp_path, patch=(160, 160), description=dataset_json(160, 2.5))
    scan = tmp_path / "bids" / "sub-102" / "anat" / "sub-102_T2w.nii.gz"
    scan.parent.mkdir(parents=True)
    sitk.WriteImage(sitk.ReadImage(str(real_mri / "spider_layout" / "images" / "102_t2.mha")), str(scan))
    assert run(tmp_path / "bids", "--bids", "--model", model, "--samples", 1, "--sampling-steps", 1) == 0
    found = tmp_path / "bids" / "derivatives" / "spinesegdiff" / "sub-102" / "anat"
    for name in ("structures_dseg", "uncertainty_probseg"):
        image = sitk.ReadImage(str(found / f"sub-102_space-T2w_desc-{name}.nii.gz"))
        assert same_geometry(image, sitk.ReadImage(str(scan))) and sitk.GetArrayViewFromImage(image).any()
