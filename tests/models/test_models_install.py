"""`spinesegdiff install` and `models`: from files and servers of every kind, and nothing that is unsafe."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from helpers.model_server import FileServer, serving
from helpers.segment_samples import phantom
from nnunetv2_diffusion import cli, downloads
from nnunetv2_diffusion.models import installed_model, unpacking
from nnunetv2_diffusion.models.install import install
from nnunetv2_diffusion.models.store import models_folder

NAME = "Dataset502_Phantom/nnUNetTrainerSpineSegDiff__nnUNetPlans__2d"


class Malicious:
    """Unpickling it creates a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def left(store: Path) -> list[str]:
    """What lies in the store, the beginnings of downloads aside."""
    return sorted(path.name for path in store.iterdir() if path.name != ".downloads") if store.is_dir() else []


def repacked(archive: Path, file: Path, changes: dict[str, bytes | None], **added: zipfile.ZipInfo) -> Path:
    """A copy of a zip file with members replaced, removed (None) or added."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(file, "w") as target:
        contents = {name: source.read(name) for name in source.namelist()} | changes
        for name, content in contents.items():
            if content is not None:
                target.writestr(name, content)
        for member in added.values():
            target.writestr(member, "../outside")
    return file


def without_card(**changes: bytes | None) -> dict[str, bytes | None]:
    return {f"{NAME}/model.json": None, **changes}


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return member


def test_list_show_segment_remove(archive: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["models"]) == 0
    assert f"no model is installed in {store}" in capsys.readouterr().out
    assert cli.main(["install", str(archive), "--sha256", sha256(archive.read_bytes()).upper()]) == 0
    assert "--model spine" in capsys.readouterr().out
    assert cli.main(["models"]) == 0
    line = "spine: Dataset502_Phantom, nnUNetTrainerSpineSegDiff, 2d, folds 0 1\n"
    assert capsys.readouterr().out == line
    assert cli.main(["models", "show", "spine"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["source"] == "spine.zip" and shown["card"]["training"]["modality"] == "T2w"
    scan = phantom(np.eye(3), (6, 52, 60), (4.0, 1.0, 1.0))[0]
    sitk.WriteImage(scan, str(tmp_path / "scan.mha"))
    assert cli.main(["segment", str(tmp_path / "scan.mha"), str(tmp_path / "out"), "--model", "spine"]) == 0
    report = json.loads((tmp_path / "out" / "scan.json").read_text(encoding="utf-8"))
    assert report["model"]["hash"] == shown["card"]["hash"]
    assert cli.main(["models", "remove", "spine"]) == 0
    assert left(store) == []
    capsys.readouterr()
    assert cli.main(["segment", str(tmp_path / "scan.mha"), str(tmp_path / "out"), "--model", "spine"]) == 2
    assert "no model spine is installed" in capsys.readouterr().err


def test_the_platforms_folder_without_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("SPINESEGDIFF_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("sys.platform", "linux")
    assert models_folder() == tmp_path / "data" / "spinesegdiff" / "models"


def test_names(archive: Path, folder: Path, store: Path, tmp_path: Path):
    first = install(str(archive), name="v1.0")
    assert install(str(archive), name="v1.0") == first and installed_model("v1.0") == first.folder
    other = repacked(archive, tmp_path / "v1.0.zip", without_card())
    with pytest.raises(ValueError, match=r"another model is installed as v1\.0"):
        install(str(other))
    for name in ("../up", ".hidden", "", "a/b", "a b"):
        with pytest.raises(ValueError, match="a model cannot be called"):
            install(str(archive), name=name or ".zip")
    (store / "mine").mkdir()
    (store / "mine" / "notes").write_text("")
    with pytest.raises(ValueError, match="is no installed model"):
        install(str(archive), name="mine")
    assert left(store) == ["mine", "v1.0"]
    for bad in ("abc", "g" * 64):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            install(str(archive), sha256=bad)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        install(str(tmp_path / "nowhere.zip"))


def _evil(made: Path) -> bytes:
    stream = io.BytesIO()
    torch.save({"network_weights": Malicious(made)}, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"../outside.json": b"{}"}, "written outside"),
        ({"/tmp/outside.json": b"{}"}, "written outside"),
        ({f"{NAME}/../../../outside.json": b"{}"}, "written outside"),
        ({"C:\\outside.json": b"{}"}, "written outside"),
        ({f"{NAME}/plans.json": b"{} "}, "not the file that its model.json describes"),
        ({f"{NAME}/fold_1/checkpoint_final.pth": None}, "not those that its model.json lists"),
        ({f"{NAME}/fold_2/checkpoint_final.pth": b""}, "not those that its model.json lists"),
        ({f"{NAME}/model.json": b"[]"}, "model.json should hold a dict"),
        ({f"{NAME}/model.json": b"{}"}, "model.json does not hold what is expected"),
        (without_card(**{f"{NAME}/plans.json": None}), "has no plans.json"),
        (without_card(**{f"{NAME}/plans.json": b"no json"}), "plans.json is no valid JSON"),
        (without_card(**{f"{NAME}/fold_0/checkpoint_final.pth": b"text"}), "cannot be read as a checkpoint"),
        (without_card(**{f"{NAME.replace('2d', '2d_x')}/plans.json": b"{}"}), "has no dataset.json"),
    ],
)
def test_what_is_refused(archive: Path, store: Path, tmp_path: Path, changes: dict, message: str):
    file = repacked(archive, tmp_path / "bad.zip", changes)
    with pytest.raises(ValueError, match=message) as caught:
        install(str(file))
    assert "bad.zip cannot be installed" in str(caught.value) and str(store) not in str(caught.value)
    assert left(store) == [] and not (tmp_path / "outside.json").exists()


def test_links_are_refused(archive: Path, store: Path, tmp_path: Path):
    file = repacked(archive, tmp_path / "bad.zip", {}, link=link(f"{NAME}/fold_0/link"))
    with pytest.raises(ValueError, match="is a link"):
        install(str(file))
    assert left(store) == []


def test_code_is_not_run(archive: Path, store: Path, tmp_path: Path):
    made = tmp_path / "made_by_the_pickle"
    member = f"{NAME}/fold_0/checkpoint_final.pth"
    file = repacked(archive, tmp_path / "evil.zip", without_card(**{member: _evil(made)}))
    with pytest.raises(ValueError, match=r"could run code.*unpack the zip file yourself.*--model FOLDER --trust`"):
        install(str(file))
    with pytest.raises(SystemExit):  # so nothing that the message could name but does not
        cli.main(["install", str(file), "--trust"])
    pickled = repacked(archive, tmp_path / "pickle.zip", without_card(**{f"{NAME}/postprocessing.pkl": _evil(made)}))
    assert not list(install(str(pickled)).folder.rglob("*.pkl"))
    assert not made.exists()


def test_what_fills_the_disk_is_refused(archive: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "MOST_BYTES", 1 << 20)
    zeros = tmp_path / "zeros.zip"
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr(f"{NAME}/fold_0/checkpoint_final.pth", bytes(2 << 20))
    with pytest.raises(ValueError, match="would fill more than"):
        install(str(zeros))
    lying = bytearray(zeros.read_bytes())
    for header, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        place = lying.index(header) + offset
        lying[place : place + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "lying.zip").write_bytes(lying)
    with pytest.raises(ValueError, match=r"no whole zip file|would fill more than"):
        install(str(tmp_path / "lying.zip"))
    assert left(store) == []


@pytest.mark.parametrize("change", ["half", "byte", "text", "empty"])
def test_damaged_files(archive: Path, store: Path, tmp_path: Path, change: str):
    content = archive.read_bytes()
    middle = len(content) // 2
    content = {
        "half": content[:middle],
        "byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "text": b"<html>not found</html>",
        "empty": b"",
    }[change]
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(ValueError, match="no whole zip file"):
        install(str(tmp_path / "bad.zip"))
    assert left(store) == []


class TestServers:
    @pytest.fixture(autouse=True)
    def no_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.001)

    def test_a_transfer_that_breaks_off_goes_on(self, archive: Path, store: Path):
        content = archive.read_bytes()
        with serving(FileServer(content, breaks_after=[20_000, 40_000])) as server:
            model = install(f"{server.address}/v1/spine.zip?token=secret", sha256=sha256(content))
        assert server.asked == [("/v1/spine.zip?token=secret", r) for r in (None, "bytes=16384-", "bytes=49152-")]
        assert model.name == "spine" and model.record["sha256"] == sha256(content)
        assert "secret" not in json.dumps(model.record)
        assert left(store) == ["spine"] and list((store / ".downloads").iterdir()) == []

    def test_another_process_goes_on(self, archive: Path, store: Path, capsys: pytest.CaptureFixture):
        content = archive.read_bytes()
        with serving(FileServer(content, breaks_after=[20_000, 0, 0, 0])) as server:
            assert cli.main(["install", f"{server.address}/spine.zip"]) == 2
            assert "are kept, and the same command goes on from here" in capsys.readouterr().err
            server.asked.clear()
            assert cli.main(["install", f"{server.address}/spine.zip"]) == 0
        assert server.asked == [("/spine.zip", "bytes=16384-")] and left(store) == ["spine"]

    def test_another_file_meanwhile(self, archive: Path, store: Path, tmp_path: Path):
        other = repacked(archive, tmp_path / "other.zip", without_card()).read_bytes()
        with serving(FileServer(other, breaks_after=[20_000, 0, 0, 0])) as server:
            with pytest.raises(OSError, match="cannot be fetched"):
                install(f"{server.address}/spine.zip")
            server.content = archive.read_bytes()
            assert install(f"{server.address}/spine.zip").record["sha256"] == sha256(server.content)

    @pytest.mark.parametrize("knows", [{"ranges": False}, {"etag": False}])
    def test_servers_that_cannot_go_on_start_again(self, archive: Path, knows: dict):
        content = archive.read_bytes()
        with serving(FileServer(content, breaks_after=[20_000], **knows)) as server:
            assert install(f"{server.address}/spine.zip").record["sha256"] == sha256(content)

    @pytest.mark.parametrize("lie", [-1000, 1000])
    def test_a_wrong_length(self, archive: Path, store: Path, lie: int):
        content = archive.read_bytes()
        with serving(FileServer(content, told_length=lie)) as server:
            if lie < 0:
                with pytest.raises(ValueError, match="is not the file of SHA-256"):
                    install(f"{server.address}/spine.zip", sha256=sha256(content))
                with pytest.raises(ValueError, match="no whole zip file"):
                    install(f"{server.address}/spine.zip")
            else:
                with pytest.raises(OSError, match="cannot be fetched"):
                    install(f"{server.address}/spine.zip")
        assert left(store) == []

    def test_a_wrong_file(self, archive: Path, store: Path):
        with serving(FileServer(b"<html>moved</html>")) as server:
            with pytest.raises(ValueError, match="is not the file of SHA-256"):
                install(f"{server.address}/spine.zip", sha256=sha256(archive.read_bytes()))
            with pytest.raises(ValueError, match="no whole zip file"):
                install(f"{server.address}/spine.zip")
        assert left(store) == [] and list((store / ".downloads").iterdir()) == []

    def test_no_such_file_and_no_server(self, store: Path):
        with serving(FileServer(b"", status=404)) as server, pytest.raises(OSError, match="404"):
            install(f"{server.address}/spine.zip")
        with pytest.raises(OSError, match="is the network there"):
            install(f"{server.address}/spine.zip")

    def test_through_a_proxy(self, archive: Path, monkeypatch: pytest.MonkeyPatch):
        content = archive.read_bytes()
        with serving(FileServer(content)) as server:
            monkeypatch.setenv("http_proxy", server.address)
            install("http://models.invalid/spine.zip", sha256=sha256(content))
        assert server.asked == [("http://models.invalid/spine.zip", None)]
