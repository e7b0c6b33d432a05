"""Many scans through one `segment` process: memory stays flat, and no file is left open."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import SimpleITK as sitk

from helpers import campaign, warm_process
from helpers.segment_samples import phantom, write_model
from helpers.soak import soak
from helpers.spider_samples import SAGITTAL

SHORT, SETTLED, GROWTH_MIB = 60, 30, 25  # scans, after how many memory must have settled, and how
LONG_SETTLED, LONG_GROWTH_MIB = 100, 50


def grown(root: Path, number: int, settled: int) -> dict[str, float]:
    """How much memory (MiB) and how many open files the scans after the first `settled` added."""
    model = write_model(root / "results", patch=(32, 32), size=32)
    scan, _ = phantom(SAGITTAL, (32, 32, 3), (1.0, 1.0, 4.0))
    (root / "scans").mkdir()
    for case in range(number):
        ending = (".mha", ".nii.gz", ".nrrd")[case % 3]
        path = root / "scans" / f"scan_{case:05d}{ending}"
        if case < 3:
            sitk.WriteImage(scan, str(path))
        else:
            shutil.copy(root / "scans" / f"scan_{case % 3:05d}{ending}", path)
    told = root / "told"
    ended = warm_process.run(
        soak, root / "scans", root / "masks", model, settled, told, environment={}, timeout=3 * 3600
    )
    assert ended.status == 0, ended.output[-3000:]
    scans, before, after, opened_before, opened_after = map(float, told.read_text().split())
    assert scans == number
    return {
        "scans": number,
        "seconds": round(ended.seconds),
        "MiB before": round(before),
        "MiB grown": round(after - before, 1),
        "files left open": int(opened_after - opened_before),
    }


def test_memory_and_open_files_stay(tmp_path: Path):
    found = grown(tmp_path, SHORT, SETTLED)
    assert found["MiB grown"] < GROWTH_MIB
    assert found["files left open"] == 0


@pytest.mark.campaign
def test_memory_and_open_files_stay_for_long(tmp_path: Path):
    found = grown(tmp_path, campaign.size(campaign.SCANS), LONG_SETTLED)
    campaign.note("soak", "segment", **found)
    assert found["MiB grown"] < LONG_GROWTH_MIB
    assert found["files left open"] == 0
