"""SPIDER downloaded from a server in the test's own process: broken transfers, wrong files, a mirror, little space."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.web_server import Habits, serving
from nnunetv2_diffusion import cli, downloads, spider_download
from nnunetv2_diffusion.downloads import ServerError, partial_file
from nnunetv2_diffusion.spider import CITATION, LICENCE, RECORD_URL, list_series
from nnunetv2_diffusion.spider_download import CITATION_FILE, download

SCANS = {
    f"{patient}_{series}.mha": f"{patient}{series}".encode() * 40_000 for patient in (1, 2) for series in ("t1", "t2")
}
NAMES = {"images.zip", "masks.zip", "overview.csv", "radiological_gradings.csv"}


@pytest.fixture
def zenodo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """(folder that is served, address, habits of the server) of a record with four files, in the form of Zenodo's."""
    monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.001)
    folder = tmp_path / "zenodo"
    folder.mkdir()
    for name in ("images", "masks"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}/", b"")
            archive.writestr(f"__MACOSX/{name}/._1_t1.mha", b"macOS'")
            for scan, content in SCANS.items():
                archive.writestr(f"{name}/{scan}", name.encode() + content)
    (folder / "overview.csv").write_text("new_file_name\n1_t1\n1_t2\n2_t1\n2_t2\n", encoding="utf-8")
    (folder / "radiological_gradings.csv").write_text("Patient\n1\n", encoding="utf-8")
    with serving(folder) as (url, habits):
        files = [
            {
                "key": path.name,
                "size": path.stat().st_size,
                "checksum": f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}",
                "links": {"self": f"{url}/{path.name}"},
            }
            for path in sorted(folder.iterdir())
        ]
        (folder / "record.json").write_text(json.dumps({"id": 10159290, "files": files}), encoding="utf-8")
        monkeypatch.setattr(spider_download, "RECORD_URL", f"{url}/record.json")
        yield folder, url, habits


def fetched(habits: Habits) -> list[str]:
    return [path.removeprefix("/") for path, _ in habits.asked]


def assert_complete(root: Path) -> None:
    for name in ("images", "masks"):
        assert {path.name: path.read_bytes() for path in (root / name).iterdir()} == {
            scan: name.encode() + content for scan, content in SCANS.items()
        }
    assert list_series(root) == {(1, "t1"), (1, "t2"), (2, "t1"), (2, "t2")}
    assert LICENCE in (root / CITATION_FILE).read_text(encoding="utf-8")
    assert {path.name for path in root.iterdir()} == {
        "images",
        "masks",
        "overview.csv",
        "radiological_gradings.csv",
        "spider_download.json",
        CITATION_FILE,
    }


def test_the_record_is_the_one_of_the_data_sets_doi():
    assert RECORD_URL == "https://zenodo.org/api/records/10159290"


def test_everything_once(zenodo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    _, _, habits = zenodo
    root = tmp_path / "SPIDER"
    assert cli.main(["download", str(root)]) == 0
    assert_complete(root)
    assert sorted(fetched(habits)) == sorted([*NAMES, "record.json"])
    printed = capsys.readouterr().out
    assert printed.index(CITATION) < printed.index("GB to download") < printed.index("is complete")
    habits.asked.clear()
    assert cli.main(["download", str(root)]) == 0
    assert habits.asked == []
    assert "nothing to do" in capsys.readouterr().out


def test_goes_on_where_it_broke_off(zenodo, tmp_path: Path):
    _, _, habits = zenodo
    # the record and the two csv files arrive; of masks.zip the first piece, and then nothing any more
    habits.break_after = [10_000, 10_000, 10_000, 65_536] + [0] * 20
    with pytest.raises(ServerError, match=r"masks\.zip cannot be fetched"):
        download(tmp_path / "SPIDER")
    assert partial_file(tmp_path / "SPIDER" / "masks.zip").stat().st_size == 65_536
    habits.break_after.clear()
    habits.asked.clear()
    assert download(tmp_path / "SPIDER")
    assert habits.asked == [("/record.json", None), ("/masks.zip", "bytes=65536-"), ("/images.zip", None)]
    assert_complete(tmp_path / "SPIDER")


def test_a_server_without_ranges(zenodo, tmp_path: Path):
    _, _, habits = zenodo
    habits.ranges = False
    habits.break_after = [10_000, 10_000, 10_000, 65_536]
    download(tmp_path / "SPIDER")
    assert_complete(tmp_path / "SPIDER")


def test_a_wrong_file(zenodo, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder, _, _ = zenodo
    right = (folder / "masks.zip").read_bytes()
    (folder / "masks.zip").write_bytes(right[:-1] + b"x")
    assert cli.main(["download", str(tmp_path / "SPIDER")]) == 2
    assert "masks.zip is not the file that was expected" in capsys.readouterr().err
    assert not (tmp_path / "SPIDER" / "masks").exists()
    (folder / "masks.zip").write_bytes(right)
    download(tmp_path / "SPIDER")
    assert_complete(tmp_path / "SPIDER")


@pytest.mark.parametrize("reachable", [True, False])
def test_a_mirror(zenodo, tmp_path: Path, reachable: bool, monkeypatch: pytest.MonkeyPatch, capsys):
    folder, url, habits = zenodo
    (folder / "spider").mkdir()
    for name in NAMES | {"record.json"}:
        shutil.copy(folder / name, folder / "spider")
    if not reachable:
        monkeypatch.setattr(spider_download, "RECORD_URL", "http://127.0.0.1:9/record")
    assert cli.main(["download", str(tmp_path / "SPIDER"), "--mirror", f"{url}/spider/"]) == 0
    assert_complete(tmp_path / "SPIDER")
    record = "record.json" if reachable else "spider/record.json"
    assert sorted(fetched(habits)) == sorted([record, *(f"spider/{name}" for name in NAMES)])
    assert ("Zenodo cannot be reached" in capsys.readouterr().out) != reachable


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(spider_download, "RECORD_URL", "http://127.0.0.1:9/record")
    assert cli.main(["download", str(tmp_path / "SPIDER")]) == 2
    assert "check the connection" in capsys.readouterr().err
    assert not (tmp_path / "SPIDER").exists()


@pytest.mark.parametrize("record", ["[]", '{"files": []}', '{"files": [{"key": "overview.csv"}]}'])
def test_another_record(zenodo, tmp_path: Path, record: str):
    folder, _, _ = zenodo
    (folder / "record.json").write_text(record, encoding="utf-8")
    with pytest.raises(ValueError, match=r"record\.json does not hold what is expected .*SPIDER may have moved"):
        download(tmp_path / "SPIDER")


def test_space_is_demanded_before_the_start(zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    folder, _, habits = zenodo
    sizes = {name: (folder / name).stat().st_size for name in NAMES}
    needed = sum(sizes.values()) + sizes["images.zip"]
    monkeypatch.setattr(spider_download.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    assert cli.main(["download", str(tmp_path / "SPIDER")]) == 2
    assert "too little space in" in capsys.readouterr().err
    assert fetched(habits) == ["record.json"]
    monkeypatch.setattr(spider_download.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert cli.main(["download", str(tmp_path / "SPIDER")]) == 0


def test_a_disk_that_is_full_while_unpacking(zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """The archive stays, nothing half unpacked does, and the next run unpacks it without another transfer."""
    _, _, habits = zenodo

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(spider_download.shutil, "copyfileobj", full)
        assert cli.main(["download", str(tmp_path / "SPIDER")]) == 2
    assert "No space left" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "SPIDER").glob("*mask*")} == {"masks.zip"}
    habits.asked.clear()
    download(tmp_path / "SPIDER")
    assert fetched(habits) == ["record.json", "images.zip"]
    assert_complete(tmp_path / "SPIDER")


def test_files_that_went_missing_come_back(zenodo, tmp_path: Path):
    root = tmp_path / "SPIDER"
    download(root)
    (root / "masks" / "2_t1.mha").unlink()
    (root / "images" / "1_t1.mha").write_bytes(b"")
    with pytest.raises(FileExistsError, match=r"1_t1\.mha is not SPIDER's file of that name"):
        download(root)
    (root / "images" / "1_t1.mha").unlink()
    assert download(root)
    assert_complete(root)


@pytest.mark.parametrize("damage", ["", "[]", '{"files": 3}', '{"files": {"masks.zip": 1}}'])
def test_a_damaged_note_costs_a_download(zenodo, tmp_path: Path, damage: str):
    root = tmp_path / "SPIDER"
    download(root)
    (root / "spider_download.json").write_text(damage, encoding="utf-8")
    assert download(root)
    assert_complete(root)


def test_an_archive_without_scans_in_folders(zenodo, tmp_path: Path):
    """Only a file's own name counts: nothing is written outside of the folder."""
    folder, _, _ = zenodo
    with zipfile.ZipFile(folder / "masks.zip", "a") as archive:
        archive.writestr("../../outside.mha", b"content")
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    for entry in record["files"]:
        content = (folder / entry["key"]).read_bytes()
        entry |= {"size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    download(tmp_path / "a" / "SPIDER")
    assert not list(tmp_path.glob("outside.mha")) + list((tmp_path / "a").glob("outside.mha"))
