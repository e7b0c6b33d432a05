"""SPIDER from Zenodo or a mirror: four files, resumed, checked with Zenodo's own md5 sums, unpacked whole."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote

from tqdm import tqdm

from nnunetv2_diffusion.downloads import ServerError, fetch, fetch_json, partial_file
from nnunetv2_diffusion.files import naming, read_json, whole_folder, write_json, write_text, write_whole
from nnunetv2_diffusion.spider import (
    CITATION,
    DOI,
    GRADINGS_FILE,
    IMAGES,
    LICENCE,
    LICENCE_URL,
    MASKS,
    OVERVIEW_FILE,
    RECORD_URL,
)

ARCHIVE = ".zip"
NAMES = (OVERVIEW_FILE, GRADINGS_FILE, f"{MASKS}{ARCHIVE}", f"{IMAGES}{ARCHIVE}")
# In SPIDER's folder: what has been downloaded, and whose data these are.
RECORD_FILE, CITATION_FILE = "spider_download.json", "LICENCE_AND_CITATION.txt"
MIRRORED_RECORD = "record.json"
_PIECE = 1 << 20


class RemoteFile(NamedTuple):
    """A file of SPIDER's: its name, where it is fetched from, its size in bytes and Zenodo's checksum of it."""

    name: str
    url: str
    size: int
    checksum: str


def download(root: str | Path, *, mirror: str | None = None, progress: bool = True) -> bool:
    """Have SPIDER in a folder: images/, masks/, overview.csv, radiological_gradings.csv, licence and citation.

    A second run goes on where the first broke off, and does nothing, without asking any server, where all is there.

    Args:
        root: SPIDER's folder; made where it is missing.
        mirror: address of a folder with the four files, in place of Zenodo's. The checksums are Zenodo's in any case;
            where Zenodo cannot be reached, those of the mirror's `record.json`, a copy of Zenodo's record.
        progress: show bars on a terminal.

    Returns:
        whether anything was missing.

    Raises:
        ServerError: no connection, or a server that refuses.
        ValueError: a file is not what Zenodo's checksum says, or Zenodo's record lists other files.
        OSError: too little space, or the folder holds other files under SPIDER's names.
    """
    root = Path(root)
    print(_licence())
    missing = [name for name in NAMES if not _is_there(root, name)]
    if not missing:
        print(f"{root} is complete; nothing to do")
        return False
    files = [file for file in _remote_files(mirror) if file.name in missing]
    root.mkdir(parents=True, exist_ok=True)
    _tell_space(root, files)
    for file in files:
        path = fetch(file.url, root / file.name, checksum=file.checksum, progress=progress)
        unpacked = _unpack(path, root / path.stem, progress) if path.suffix == ARCHIVE else {}
        _note(root, file, unpacked)
        if unpacked:
            path.unlink()
    write_text(_licence() + "\n", root / CITATION_FILE)
    print(f"{root} is complete")
    return True


def _licence() -> str:
    return (
        f"SPIDER, https://doi.org/{DOI}, is licensed under {LICENCE} ({LICENCE_URL}).\n"
        f"Please cite where you use it:\n    {CITATION}"
    )


def _recorded(root: Path) -> dict[str, Any]:
    """What earlier runs noted of each file; nothing where the note is missing or damaged, which costs a download."""
    try:
        files = read_json(root / RECORD_FILE)["files"]
    except (OSError, ValueError, KeyError):
        return {}
    return files if isinstance(files, dict) else {}


def _is_there(root: Path, name: str) -> bool:
    """Whether a file, or what was unpacked of it, has been downloaded and lies there with its size."""
    entry = _recorded(root).get(name)
    if not isinstance(entry, Mapping):
        return False
    sizes = {f"{Path(name).stem}/{member}": size for member, size in entry["unpacked"].items()} or {name: entry["size"]}
    return all((root / path).is_file() and (root / path).stat().st_size == size for path, size in sizes.items())


def _note(root: Path, file: RemoteFile, unpacked: Mapping[str, int]) -> None:
    entry = {"checksum": file.checksum, "size": file.size, "from": file.url, "unpacked": dict(unpacked)}
    write_json({"doi": DOI, "files": {**_recorded(root), file.name: entry}}, root / RECORD_FILE)


def _remote_files(mirror: str | None) -> list[RemoteFile]:
    """The four files, the small ones first, as Zenodo's record of them says."""
    base = mirror.rstrip("/") if mirror else None
    source = RECORD_URL
    try:
        record = fetch_json(source)
    except ServerError:
        if base is None:
            raise
        source = f"{base}/{MIRRORED_RECORD}"
        print(f"Zenodo cannot be reached; the checksums are those in {source}")
        record = fetch_json(source)
    with naming(source, "SPIDER may have moved; look at https://doi.org/" + DOI):
        listed = {entry["key"]: entry for entry in record["files"]}
        return [
            RemoteFile(
                name,
                f"{base}/{quote(name)}" if base else listed[name]["links"]["self"],
                int(listed[name]["size"]),
                listed[name]["checksum"],
            )
            for name in NAMES
        ]


def _tell_space(root: Path, files: list[RemoteFile]) -> None:
    """Print what is to come, and demand the space: the transfers, and the largest archive a second time, unpacked."""
    to_come = sum(file.size - _transferred(root, file) for file in files)
    largest = max((file.size for file in files if file.name.endswith(ARCHIVE)), default=0)
    needed, free = _gigabytes(to_come + largest), _gigabytes(shutil.disk_usage(root).free)
    print(f"{_gigabytes(to_come)} to download; with what is unpacked about {needed} of the {free} that are free")
    _demand_space(root, to_come + largest)


def _transferred(root: Path, file: RemoteFile) -> int:
    path = root / file.name
    lying = path if path.is_file() else partial_file(path)
    return min(lying.stat().st_size, file.size) if lying.is_file() else 0


def _demand_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if free < needed:
        raise OSError(
            f"too little space in {root}: {_gigabytes(needed)} are needed and {_gigabytes(free)} are free; make space, "
            "the same command goes on from here"
        )


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.2f} GB"


def _unpack(archive: Path, folder: Path, progress: bool) -> dict[str, int]:
    """The archive's files, without its folders, in `folder`; returns their sizes. zipfile tests every checksum.

    Where the folder is there, what it lacks is added.

    Raises:
        FileExistsError: it holds a file of the same name and another content.
    """
    with naming(archive, "remove it and try again"), zipfile.ZipFile(archive) as opened:
        members = {PurePosixPath(member.filename).name: member for member in opened.infolist() if _is_data(member)}
        _demand_space(folder.parent, sum(member.file_size for member in members.values()))
        bar = tqdm(desc=f"unpack {archive.name}", unit="file", total=len(members), disable=None if progress else True)
        with bar:
            if folder.is_dir():
                for name, member in members.items():
                    _add(opened, member, folder / name)
                    bar.update()
            else:
                with whole_folder(folder) as partial:
                    for name, member in members.items():
                        _extract(opened, member, partial / name)
                        bar.update()
    return {name: member.file_size for name, member in members.items()}


def _is_data(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    return not member.is_dir() and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    with archive.open(member) as source, path.open("wb") as stream:
        shutil.copyfileobj(source, stream, _PIECE)


def _add(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if not path.exists():
        write_whole(path, lambda partial: _extract(archive, member, partial))
    elif _crc(path) != member.CRC:
        raise FileExistsError(f"{path} is not SPIDER's file of that name; name another folder, or move it away")


def _crc(path: Path) -> int:
    found = 0
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            found = zlib.crc32(piece, found)
    return found
