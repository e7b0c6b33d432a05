"""Fixtures of the converter's tests: a small SPIDER folder, and none of the user's nnU-Net folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk

from helpers.spider_samples import make_mask, make_scan, save


@pytest.fixture
def spider_folder(tmp_path: Path) -> Callable[..., Path]:
    """`spider_folder("1_t1", "1_t2")` writes these scans with their masks and returns the folder."""

    def write(*names: str, scan: sitk.Image | None = None) -> Path:
        scan = make_scan() if scan is None else scan
        for name in names:
            save(scan, tmp_path / "SPIDER" / "images" / f"{name}.mha")
            save(make_mask(scan), tmp_path / "SPIDER" / "masks" / f"{name}.mha")
        return tmp_path / "SPIDER"

    return write


@pytest.fixture(autouse=True)
def no_nnunet_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own nnU-Net folders are out of reach."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)
