"""Several raters a scan: cases of SPIDER's layout, own data expanded, and folds that keep an image together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from helpers.spider_samples import files_of, make_mask, make_scan, save
from nnunetv2_diffusion.dataset_conversion.Dataset501_SPIDER import convert
from nnunetv2_diffusion.dataset_conversion.own_raters import expand_by_raters
from nnunetv2_diffusion.dataset_conversion.splits import split_by_image
from nnunetv2_diffusion.report.datasets import read_case_list

RATERS = ("A", "B", "C")


def rated(root: Path, scan: str) -> None:
    """Masks by the raters: one row fewer of the disc for each."""
    for number, rater in enumerate(RATERS):
        array = sitk.GetArrayFromImage(make_mask(make_scan()))
        array[:, 15 : 15 + number] = 0
        mask = sitk.GetImageFromArray(array)
        mask.CopyInformation(make_scan())
        save(mask, root / "masks" / f"{scan}__{rater}.mha")


class TestConvert:
    def test_a_case_a_rater_in_one_fold(self, spider_folder, tmp_path):
        root = spider_folder("1_t2", "2_t2", "7_t2", "8_t2")
        for scan in ("1_t2", "7_t2"):
            rated(root, scan)
        result = convert(root, "T2w", out=tmp_path / "raw", processes=1)
        ones = [f"SPIDER_001_t2__{rater}" for rater in RATERS]
        sevens = [f"SPIDER_007_t2__{rater}" for rater in RATERS]
        assert [record.case for record in result.records] == [*ones, "SPIDER_002_t2", *sevens, "SPIDER_008_t2"]
        splits = json.loads((result.folder / "splits_final.json").read_text())
        for cases in (ones, sevens):
            assert [len(set(cases) & set(split["val"])) for split in splits].count(3) == 1
            assert all(len(set(cases) & set(split["val"])) in (0, 3) for split in splits)
        images = {(result.folder / "imagesTr" / f"{case}_0000.nii.gz").read_bytes() for case in ones}
        labels = [sitk.ReadImage(str(result.folder / "labelsTr" / f"{case}.nii.gz")) for case in ones]
        discs = [np.count_nonzero(sitk.GetArrayFromImage(label) == 3) for label in labels]
        assert len(images) == 1 and discs[0] > discs[1] > discs[2] > 0
        table = read_case_list(result.folder / "cases.csv")
        assert set(table.loc[ones, "patient"]) == {"1"}

    def test_is_taken_up_again(self, spider_folder, tmp_path):
        root = spider_folder("1_t2", "2_t2")
        rated(root, "1_t2")
        first = convert(root, "T2w", out=tmp_path / "raw", processes=1)
        assert convert(root, "T2w", out=tmp_path / "raw", processes=1).skipped == len(first.records) == 4

    def test_the_plain_mask_need_not_be_there(self, spider_folder, tmp_path):
        root = spider_folder("1_t2", "2_t2")
        rated(root, "1_t2")
        (root / "masks" / "1_t2.mha").unlink()
        assert not convert(root, "T2w", out=tmp_path / "raw", processes=1).failures

    def test_a_damaged_mask_of_one_rater(self, spider_folder, tmp_path):
        root = spider_folder("1_t2", "2_t2")
        rated(root, "1_t2")
        (root / "masks" / "1_t2__B.mha").write_bytes(b"no image")
        result = convert(root, "T2w", out=tmp_path / "raw", processes=1)
        assert list(result.failures) == ["SPIDER_001_t2__B"] and "1_t2__B.mha" in result.failures["SPIDER_001_t2__B"]


class TestOwnData:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """Six images of two channels: of five there are two raters' masks, of the last one a plain one."""
        folder = tmp_path / "source"
        for number in range(6):
            for channel in range(2):
                save(make_scan(), folder / "imagesTr" / f"scan{number}_000{channel}.nii.gz")
            for rater in ("__A", "__B") if number < 5 else ("",):
                save(make_mask(make_scan()), folder / "labelsTr" / f"scan{number}{rater}.nii.gz")
        description = {"channel_names": {"0": "T1w", "1": "T2w"}, "labels": {"background": 0, "x": 1}, "numTraining": 6}
        (folder / "dataset.json").write_text(json.dumps({**description, "file_ending": ".nii.gz"}))
        return folder

    def test_nnunet_finds_every_case(self, source, tmp_path):
        target = tmp_path / "Dataset700_Own"
        cases = expand_by_raters(source, target)
        assert len(cases) == 11 and json.loads((target / "dataset.json").read_text())["numTraining"] == 11
        found = get_filenames_of_train_images_and_targets(str(target))
        assert sorted(found) == sorted(cases)
        for case, files in found.items():
            image = case.partition("__")[0]
            for channel, path in enumerate(files["images"]):
                assert Path(path).samefile(source / "imagesTr" / f"{image}_000{channel}.nii.gz")
            assert Path(files["label"]).samefile(source / "labelsTr" / f"{case}.nii.gz")
        splits = json.loads((target / "splits_final.json").read_text())
        assert sorted(case for split in splits for case in split["val"]) == sorted(cases)
        for split in splits:
            assert not {case[:5] for case in split["train"]} & {case[:5] for case in split["val"]}

    def test_copies_where_links_are_refused(self, source, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError("no links here")

        monkeypatch.setattr("os.link", refuse)
        linked = expand_by_raters(source, tmp_path / "target")
        image = tmp_path / "target" / "imagesTr" / f"{linked[0]}_0000.nii.gz"
        assert image.read_bytes() == (source / "imagesTr" / "scan0_0000.nii.gz").read_bytes()

    def test_bad_input(self, source, tmp_path):
        (source / "imagesTr" / "scan3_0001.nii.gz").rename(tmp_path / "away.nii.gz")
        with pytest.raises(
            FileNotFoundError, match=r"scan3_0001.nii.gz is missing, while labelsTr holds a mask of scan3"
        ):
            expand_by_raters(source, tmp_path / "target")
        (tmp_path / "away.nii.gz").rename(source / "imagesTr" / "scan3_0001.nii.gz")
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "something").touch()
        with pytest.raises(ValueError, match="target is not empty"):
            expand_by_raters(source, tmp_path / "target")
        assert files_of(tmp_path / "target") == ["something"]
        for path in (source / "labelsTr").iterdir():
            path.unlink()
        with pytest.raises(FileNotFoundError, match="holds no mask"):
            expand_by_raters(source, tmp_path / "new")


def test_folds_by_image():
    cases = [f"{image}__{rater}" for image in "abcdefgh" for rater in "12"] + ["single"]
    splits = split_by_image(cases)
    assert len(splits) == 5
    assert sorted(case for split in splits for case in split["val"]) == sorted(cases)
    images = [{case.partition("__")[0] for case in split["val"]} for split in splits]
    assert sorted(len(one) for one in images) == [1, 2, 2, 2, 2]
    for split, held_out in zip(splits, images, strict=True):
        assert not held_out & {case.partition("__")[0] for case in split["train"]}
    assert split_by_image(reversed(cases)) == splits
    assert split_by_image(["one__a", "one__b"]) == []
