"""`spinesegdiff measure`: volumes of any orientation, folders with bad files in them, labels of any numbering."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunetv2_diffusion import cli, measures
from nnunetv2_diffusion.anatomy.folder import measure_mask
from nnunetv2_diffusion.anatomy.midsagittal import find_midsagittal
from nnunetv2_diffusion.anatomy.structures import known_values, parse_values
from nnunetv2_diffusion.phantoms.patients import Protocol, make_scan, make_spine
from nnunetv2_diffusion.spider import CANAL, DISCS, LABELS, STRUCTURES, VALUES, VERTEBRAE

PROTOCOL = Protocol(in_plane=1.25, slices=9)


def phantom(patient: int = 3) -> sitk.Image:
    """A mask in SPIDER's numbering."""
    spine, _ = make_spine(patient, 11, PROTOCOL.height)
    return make_scan(spine, patient, "t2", 11, PROTOCOL)[1]


def merged(mask: sitk.Image) -> sitk.Image:
    """The same with the labels of `convert`."""
    voxels = sitk.GetArrayFromImage(mask)
    out = np.zeros_like(voxels)
    for name in STRUCTURES:
        out[np.isin(voxels, [value for span in VALUES[name] for value in span])] = LABELS[name]
    image = sitk.GetImageFromArray(out)
    image.CopyInformation(mask)
    return image


@pytest.fixture(scope="module")
def mask() -> sitk.Image:
    return phantom()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, mask: sitk.Image) -> Path:
    """A good mask, and one of each kind of bad ones."""
    folder = tmp_path_factory.mktemp("masks")
    sitk.WriteImage(mask, str(folder / "good.mha"))
    empty = mask * 0
    sitk.WriteImage(empty, str(folder / "empty.mha"))
    sitk.WriteImage(empty + 77, str(folder / "other_labels.mha"))
    (folder / "damaged.mha").write_text("no image")
    size = [
        int(length * step / new) for length, step, new in zip(mask.GetSize(), mask.GetSpacing(), (1, 5, 1), strict=True)
    ]
    axial = sitk.Resample(mask, size, sitk.Transform(), sitk.sitkNearestNeighbor, mask.GetOrigin(), (1.0, 5.0, 1.0),
                          mask.GetDirection())  # fmt: skip
    sitk.WriteImage(axial, str(folder / "axial.mha"))
    return folder


def test_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["measure", "-i", str(folder), "-o", str(tmp_path)]) == 2
    told = capsys.readouterr()
    lines = {line.split("error: ")[1].split(".mha")[0].rpartition("/")[2]: line for line in told.err.splitlines()}
    assert sorted(lines) == ["axial", "damaged", "empty", "other_labels"]
    assert "axial slices 5.0 mm apart" in lines["axial"]
    assert "no vertebrae" in lines["empty"]
    assert "--structures canal=1 vertebrae=2 discs=3" in lines["other_labels"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.json", "good_levels.mha", "measurements.csv"]
    table = pd.read_csv(tmp_path / "measurements.csv")
    assert tuple(table.columns) == measures.COLUMNS and set(table["scan"]) == {"good"}
    report = json.loads((tmp_path / "good.json").read_text())
    assert len(report["measurements"]) == len(table)
    assert report["levels_doubt"] == [] and report["vertebrae"][:2] == ["L5", "L4"]


def test_levels_lie_on_the_grid_of_the_mask_and_repeat_its_numbers(folder: Path, tmp_path: Path, mask: sitk.Image):
    cli.main(["measure", "-i", str(folder / "good.mha"), "-o", str(tmp_path)])
    levels = sitk.ReadImage(str(tmp_path / "good_levels.mha"))
    assert levels.GetSize() == mask.GetSize() and levels.GetDirection() == mask.GetDirection()
    assert levels.GetOrigin() == mask.GetOrigin() and levels.GetSpacing() == mask.GetSpacing()
    found, truth = sitk.GetArrayFromImage(levels), sitk.GetArrayFromImage(mask)
    index = json.loads((tmp_path / "good.json").read_text())["slice"]
    assert abs(index - PROTOCOL.slices // 2) <= 1
    agree = found[index] % 100 == truth[index] % 100
    assert agree.mean() > 0.999
    for value in np.unique(truth[truth > 0]):  # in all slices, but for where vertebrae touch at their joints
        if not 100 < value < 200:
            assert (found[truth == value] == value).mean() > (0.99 if value >= 100 else 0.93), value


def test_one_body_is_measured_and_its_level_in_doubt(mask: sitk.Image, tmp_path: Path):
    voxels = sitk.GetArrayFromImage(mask)
    voxels[(voxels != 3) & (voxels != 100)] = 0
    image = sitk.GetImageFromArray(voxels)
    image.CopyInformation(mask)
    sitk.WriteImage(image, str(tmp_path / "one.mha"))
    assert cli.main(["measure", "-i", str(tmp_path / "one.mha"), "-o", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "measurements.csv")
    assert table["remark"].str.contains("level in doubt").all()
    assert "one vertebra alone" in json.loads((tmp_path / "out" / "one.json").read_text())["levels_doubt"][-1]
    alone = table[table["measurement"].isin([measures.SLIP, measures.HEIGHT_INDEX, measures.LORDOSIS])]
    assert len(alone) >= 2 and alone["value"].isna().all()


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR"])
def test_orientation_and_numbering_do_not_matter(mask: sitk.Image, orientation: str):
    expected = measure_mask(mask).table
    found = measure_mask(sitk.DICOMOrient(merged(mask), orientation)).table
    pd.testing.assert_frame_equal(found, expected)


def test_names_of_a_dataset_json(mask: sitk.Image, tmp_path: Path):
    voxels = sitk.GetArrayFromImage(merged(mask))
    image = sitk.GetImageFromArray(np.choose(voxels, [0, 9, 5, 7]).astype(np.uint8))
    image.CopyInformation(mask)
    masks = tmp_path / "labelsTr"
    masks.mkdir()
    sitk.WriteImage(image, str(masks / "case.nii.gz"))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, CANAL: 9, VERTEBRAE: 5, DISCS: 7}}))
    assert cli.main(["measure", "-i", str(masks), "-o", str(tmp_path / "out")]) == 0
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    assert cli.main(["measure", "-i", str(masks), "-o", str(tmp_path / "out")]) == 2
    words = ["--structures", "canal=9", "vertebrae=5", "discs=7"]
    assert cli.main(["measure", "-i", str(masks), "-o", str(tmp_path / "out"), *words]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [(["liver=1"], "canal, vertebrae and discs"), (["canal=1"], "vertebrae"), (["vertebrae=x"], "labels as in"),
     (["vertebrae=1", "discs=1"], "no label twice"), (["vertebrae=0"], "background")],
)  # fmt: skip
def test_structures_that_say_nothing(words: list[str], said: str):
    with pytest.raises(ValueError, match=said):
        parse_values(words)


def test_structures_by_ranges():
    assert parse_values(["vertebrae=1-3,101", "discs=7"]) == {VERTEBRAE: (1, 2, 3, 101), DISCS: (7,)}
    assert known_values(np.array([0, 1, 2, 3]))[VERTEBRAE] == (2,)
    assert 25 in known_values(np.array([0, 4, 201]))[VERTEBRAE]


def test_no_masks_and_their_own_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["measure", "-i", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert cli.main(["measure", "-i", str(tmp_path / "nothing"), "-o", str(tmp_path / "out")]) == 2
    assert cli.main(["measure", "-i", str(folder), "-o", str(folder)]) == 2
    assert "choose another output folder" in capsys.readouterr().err


def test_the_middle_is_found_off_the_centre(mask: sitk.Image):
    labels = sitk.GetArrayFromImage(sitk.DICOMOrient(merged(mask), "RAS"))
    structures = {name: labels == LABELS[name] for name in STRUCTURES}
    middle, _ = find_midsagittal(structures)
    shifted = {name: one[..., 2:] for name, one in structures.items()}
    assert find_midsagittal(shifted)[0] == middle - 2


def test_real_crop(real_mri: Path, tmp_path: Path):
    """Canal, L-something and their discs in one volume that ends at both sides: numbered, and in doubt."""
    file = real_mri / "all_structures_crop" / "masks" / "301_t2.mha"
    assert cli.main(["measure", "-i", str(file), "-o", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "301_t2.json").read_text())
    assert report["vertebrae"] == ["L5", "L4", "L3"] and report["discs"] == ["L4/L5", "L3/L4"]
    assert report["levels_doubt"]
    table = pd.read_csv(tmp_path / "measurements.csv")
    width = table[(table["measurement"] == measures.CANAL_WIDTH)]["value"]
    assert width.dropna().between(8, 25).all() and width.notna().any()


def test_other_peoples_labels_give_no_numbers(real_mri: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    """Discs 1 and vertebrae 2 look like canal and vertebrae; they are refused, and measured where they are named."""
    masks = real_mri / "discs_and_vertebrae_2d" / "labels"
    assert cli.main(["measure", "-i", str(masks), "-o", str(tmp_path)]) == 2
    assert not list(tmp_path.iterdir())
    assert len(capsys.readouterr().err.splitlines()) == 12
    words = ["--structures", "discs=1", "vertebrae=2"]
    assert cli.main(["measure", "-i", str(masks), "-o", str(tmp_path), *words]) == 2  # two hold no vertebrae
    assert len(list(tmp_path.glob("*_levels.nii.gz"))) == 10
    heights = pd.read_csv(tmp_path / "measurements.csv").query("measurement == 'height_mean'")["value"].dropna()
    assert heights.between(2, 18).mean() > 0.95
