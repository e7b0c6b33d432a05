"""A model from a file or the web, checked and then put in its place, whole or not at all."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nnunetv2_diffusion.files import checksum, staging, write_json
from nnunetv2_diffusion.models.store import RECORD, Installed, check_name, find, main_folder, models_folder
from nnunetv2_diffusion.models.unpacking import unpack

DOWNLOADS = ".downloads"
MOST_BYTES = 16 * 2**30
ATTEMPTS = 3
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def install(source: str, name: str | None = None, sha256: str | None = None) -> Installed:
    """Install a model's zip file, ours or one of `nnUNetv2_export_model_to_zip`.

    Args:
        source: a file, or an address that starts with http:// or https://.
        name: that --model takes; None for the file's own.
        sha256: that the zip file must have.

    Returns:
        The model; where the same file is installed under the name already, that one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not what was expected, or unsafe, or another model has that name.
        OSError: it cannot be fetched or written.
    """
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise ValueError(f"--sha256 takes the 64 hexadecimal digits that `spinesegdiff export` printed, not {sha256!r}")
    expected = sha256.lower() if sha256 else None
    remote = urlsplit(source).scheme in ("http", "https")
    file_name = unquote(urlsplit(source).path).rpartition("/")[2] if remote else Path(source).name
    name = check_name(name or re.sub(r"\.zip$", "", file_name, flags=re.IGNORECASE))
    if not remote:
        if not Path(source).is_file():
            raise FileNotFoundError(f"{source} does not exist: expected a model's zip file, or an http(s) address")
        return _install_file(Path(source), name, expected, file_name)
    archive = _fetched(source, expected)
    try:
        return _install_file(archive, name, expected, _without_secrets(source))
    finally:
        archive.unlink(missing_ok=True)


def _fetched(url: str, expected: str | None) -> Path:
    """The file of an address, among the downloads under a name of its own, where its beginning waits for the rest."""
    from nnunetv2_diffusion.downloads import fetch  # here: a file needs no client of the web

    path = models_folder() / DOWNLOADS / hashlib.sha256(url.encode()).hexdigest()[:16]
    sha256 = None if expected is None else f"sha256:{expected}"
    try:
        return fetch(url, path, checksum=sha256, most_bytes=MOST_BYTES, attempts=ATTEMPTS)
    except ValueError as error:
        raise ValueError(f"{url} is not the file of SHA-256 {expected}: it was not kept") from error


def _install_file(archive: Path, name: str, expected: str | None, source: str) -> Installed:
    found, root = checksum(archive), models_folder()
    if expected is not None and found != expected:
        raise ValueError(f"{source} has the SHA-256 {found}, not {expected}: it was not installed")
    if (root / name / RECORD).is_file():
        there = find(name)
        if there.record.get("sha256") == found:
            return there
        raise ValueError(f"another model is installed as {name}: remove it, or give this one another --name")
    if (root / name).exists():
        raise ValueError(f"{root / name} exists and is no installed model: remove it, or give another --name")
    root.mkdir(parents=True, exist_ok=True)
    with staging(root, name) as stage:
        own = stage / name
        own.mkdir()
        try:
            unpack(archive, own)
            folder = main_folder(own)
        except ValueError as error:
            reason = str(error).replace(f"{own}/", "")
            raise ValueError(f"{source} cannot be installed: {reason}") from error
        write_json({"source": source, "sha256": found, "folder": folder.relative_to(own).as_posix()}, own / RECORD)
    return find(name)


def _without_secrets(url: str) -> str:
    """An address without what may be a password or a token."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
