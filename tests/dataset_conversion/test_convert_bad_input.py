"""`spinesegdiff convert` with files, folders and arguments that it refuses: one line each, nothing half-written."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import SimpleITK as sitk

from helpers.spider_samples import files_of, make_mask, make_scan, run, save
from nnunetv2_diffusion import cli


class TestBadFiles:
    """One bad case among good ones: the good ones are converted, the bad one is named, the exit code is 2."""

    @staticmethod
    def truncate(root: Path) -> None:
        path = root / "images" / "2_t2.mha"
        path.write_bytes(path.read_bytes()[:5000])

    @staticmethod
    def damage(root: Path) -> None:
        """Damaged inside its compressed voxels, which ITK takes for whole."""
        path = root / "images" / "2_t2.mha"
        sitk.WriteImage(sitk.ReadImage(str(path)), str(path), useCompression=True)
        content = bytearray(path.read_bytes())
        content[-400:-360] = bytes(40)
        path.write_bytes(content)

    @staticmethod
    def unreadable(root: Path) -> None:
        (root / "masks" / "2_t2.mha").write_text("no image at all")

    @staticmethod
    def mask_of_another_size(root: Path) -> None:
        save(make_mask(make_scan(size=(24, 31, 5))), root / "masks" / "2_t2.mha")

    @staticmethod
    def mask_elsewhere(root: Path) -> None:
        mask = make_mask(make_scan())
        mask.SetOrigin((100, 0, 0))
        save(mask, root / "masks" / "2_t2.mha")

    @staticmethod
    def foreign_label(root: Path) -> None:
        save(make_mask(make_scan()) + 30, root / "masks" / "2_t2.mha")

    @staticmethod
    def no_mask(root: Path) -> None:
        (root / "masks" / "2_t2.mha").unlink()

    @staticmethod
    def no_image(root: Path) -> None:
        (root / "images" / "2_t2.mha").unlink()

    @staticmethod
    def constant(root: Path) -> None:
        save(make_scan() * 0 + 3, root / "images" / "2_t2.mha")

    @staticmethod
    def not_a_number(root: Path) -> None:
        scan = make_scan()
        scan[3, 4, 2] = float("nan")
        save(scan, root / "images" / "2_t2.mha")

    @staticmethod
    def four_dimensions(root: Path) -> None:
        save(sitk.JoinSeries([make_scan(), make_scan()]), root / "images" / "2_t2.mha")

    @staticmethod
    def colour(root: Path) -> None:
        save(sitk.Compose([make_scan()] * 3), root / "images" / "2_t2.mha")

    CASES = (
        ("truncate", "images/2_t2.mha cannot be read as an image"),
        ("damage", "images/2_t2.mha cannot be read as an image: its compressed voxels are damaged"),
        ("unreadable", "masks/2_t2.mha cannot be read as an image"),
        ("mask_of_another_size", "masks/2_t2.mha has size (24, 31, 5), but its image"),
        ("mask_elsewhere", "masks/2_t2.mha lies elsewhere than its image"),
        ("foreign_label", "masks/2_t2.mha: the mask holds the value 30, 33, 130, 131, 233, which is not SPIDER's"),
        ("no_mask", "masks/2_t2.mha is missing"),
        ("no_image", "images/2_t2.mha is missing"),
        ("constant", "images/2_t2.mha: the image is constant"),
        ("not_a_number", "images/2_t2.mha: the image has NaN"),
        ("four_dimensions", "images/2_t2.mha has 4 dimensions"),
        ("colour", "images/2_t2.mha has vector of 32-bit float voxels, expected one grey value"),
    )

    @pytest.mark.parametrize(("spoil", "message"), CASES)
    def test_one_bad_case_among_good_ones(self, spider_folder, tmp_path, capfd, spoil, message):
        root = spider_folder("1_t2", "2_t2", "3_t2")
        getattr(self, spoil)(root)
        assert run(root, "--modality", "T2w", "--out", tmp_path) == 2
        error = capfd.readouterr().err
        assert "1 of 3 cases could not be converted:\n  SPIDER_002_t2: " in error
        assert message in error
        folder = tmp_path / "Dataset502_SPIDER_T2w"
        assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == [
            "SPIDER_001_t2_0000.nii.gz",
            "SPIDER_003_t2_0000.nii.gz",
        ]
        assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2
        named = {case for split in json.loads((folder / "splits_final.json").read_text()) for case in split["train"]}
        assert named == {"SPIDER_001_t2", "SPIDER_003_t2"}
        assert not (folder / ".partial").exists()

    @pytest.mark.parametrize(("spoil", "message"), CASES)
    def test_nothing_is_left_where_the_only_case_is_bad(self, spider_folder, tmp_path, capfd, spoil, message):
        root = spider_folder("2_t2")
        getattr(self, spoil)(root)
        assert run(root, "--modality", "T2w", "--out", tmp_path / "raw") == 2
        assert message in capfd.readouterr().err
        assert files_of(tmp_path / "raw") == []

    def test_a_series_of_the_overview_without_files(self, spider_folder, tmp_path, capsys):
        root = spider_folder("1_t2", "2_t2")
        (root / "overview.csv").write_text("new_file_name\n1_t2\n2_t2\n3_t2\n")
        assert run(root, "--modality", "T2w", "--out", tmp_path) == 2
        assert "SPIDER_003_t2: " in capsys.readouterr().err

    def test_a_case_that_turned_bad_leaves_the_data_set(self, spider_folder, tmp_path, capfd):
        root = spider_folder("1_t2", "2_t2", "3_t2")
        assert run(root, "--modality", "T2w", "--out", tmp_path) == 0
        later = time.time() + 5
        self.truncate(root)
        os.utime(root / "images" / "2_t2.mha", (later, later))
        assert run(root, "--modality", "T2w", "--out", tmp_path) == 2
        assert not list(tmp_path.glob("Dataset502_SPIDER_T2w/*/SPIDER_002*"))


class TestBadArguments:
    """Nothing is written, one sentence is printed, the exit code is 2."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--modality", "T3w"), "unknown modality 'T3w': expected T1w, T2w, T1wT2w"),
            (("--modality", "T2w", "--dimension", "4d"), "unknown dimension '4d': expected 2d or 3d"),
            (("--modality", "T1w"), "holds no T1w scan"),
            (("--modality", "T2w", "--patients", "1,x"), "malformed at 'x'"),
            (("--modality", "T2w", "--patients", "9"), "names patient 9, whom the data do not hold"),
            (("--modality", "T2w", "--size", "0"), "--size 0 is not one or two positive whole numbers"),
            (("--modality", "T2w", "--size", "1", "2", "3"), "--size 1 2 3 is not"),
            (("--modality", "T2w", "--size", "3.5"), "--size 3.5 is not"),
            (("--modality", "T2w", "--spacing", "-1"), "--spacing -1 is not"),
            (("--modality", "T2w", "--spacing", "nan"), "--spacing nan is not"),
            (("--modality", "T2w", "--dataset-id", "1000"), "out of range"),
            (("--modality", "T2w", "--name", "a/b"), "cannot name a dataset"),
            (("--modality", "T2w", "--splits", "none.json"), "none.json"),
        ],
    )
    def test_arguments(self, spider_folder, tmp_path, capsys, arguments, message):
        assert run(spider_folder("1_t2", "2_t2"), *arguments, "--out", tmp_path / "raw") == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "raw").exists()

    def test_no_processes(self, spider_folder, tmp_path, capsys):
        command = [
            "convert",
            str(spider_folder("1_t2")),
            "--modality",
            "T2w",
            "--out",
            str(tmp_path / "raw"),
            "-np",
            "0",
        ]
        assert cli.main(command) == 2
        assert "-np 0 is not a number of processes" in capsys.readouterr().err

    def test_no_place_to_write(self, spider_folder, capsys):
        assert run(spider_folder("1_t2"), "--modality", "T2w") == 2
        assert "give --out FOLDER or set the environment variable nnUNet_raw" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("folder", "message"),
        [("none", "is not a SPIDER folder"), ("empty", "is not a SPIDER folder"), ("bare", "holds no scan")],
    )
    def test_folders_without_scans(self, tmp_path, capsys, folder, message):
        (tmp_path / "empty").mkdir()
        (tmp_path / "bare" / "images").mkdir(parents=True)
        assert run(tmp_path / folder, "--modality", "T2w", "--out", tmp_path / "raw") == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "raw").exists()

    @pytest.mark.parametrize("where", ["raw", "preprocessed"])
    def test_dataset_id_taken(self, spider_folder, tmp_path, capsys, monkeypatch, where):
        monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
        (tmp_path / where / "Dataset502_Liver").mkdir(parents=True)
        root = spider_folder("1_t2")
        assert run(root, "--modality", "T2w", "--out", tmp_path / "raw") == 2
        assert "dataset id 502 is already taken by" in capsys.readouterr().err
        assert not (tmp_path / "raw" / "Dataset502_SPIDER_T2w").exists()
        assert run(root, "--modality", "T2w", "--out", tmp_path / "raw", "--dataset-id", 602, "--name", "Mine") == 0
        assert (tmp_path / "raw" / "Dataset602_Mine" / "dataset.json").is_file()

    def test_a_foreign_folder_of_the_same_name(self, spider_folder, tmp_path, capsys):
        foreign = tmp_path / "Dataset502_SPIDER_T2w" / "dataset.json"
        foreign.parent.mkdir()
        foreign.write_text("{}")
        assert run(spider_folder("1_t2"), "--modality", "T2w", "--out", tmp_path) == 2
        assert "is no conversion of SPIDER" in capsys.readouterr().err
        assert foreign.read_text() == "{}"

    @pytest.mark.parametrize(
        ("splits", "message"),
        [
            ([{"train": ["SPIDER_001_t1"], "val": ["SPIDER_001_t2"]}], "parts patient 1 in fold 0"),
            ([{"train": ["SPIDER_001_t1"], "val": ["SPIDER_005_t2"]}], "no case of this data set: SPIDER_005_t2"),
        ],
    )
    def test_splits(self, spider_folder, tmp_path, capsys, splits, message):
        (tmp_path / "splits.json").write_text(json.dumps(splits))
        arguments = ("--modality", "T1wT2w", "--splits", tmp_path / "splits.json", "--out", tmp_path / "raw")
        assert run(spider_folder("1_t1", "1_t2", "2_t1"), *arguments) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "raw").exists()
