"""What a soak does in a child, which can import helpers, but no module of tests."""

from __future__ import annotations

import os
from pathlib import Path

WINDOW = 10  # scans; while one is written, the next is read ahead and may be open, but hardly at ten of them in a row


def soak(scans: Path, output: Path, model: Path, settled: int, told: Path) -> int:
    """In a child: segment a folder; resident MiB and open files after `settled` scans and at the end, to `told`.

    Of open files the fewest in a window of scans: what is left open is open after every scan that follows.
    """
    from nnunetv2_diffusion.scans.model import load_model
    from nnunetv2_diffusion.scans.segmentation import Options, segment_files

    seen: list[tuple[float, int]] = []

    def say(line: str) -> None:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        seen.append((resident, len(os.listdir("/proc/self/fd"))))

    failures = segment_files(scans, output, load_model(model), Options(), say=say)
    windows = seen[settled : settled + WINDOW], seen[-WINDOW:]
    opened = [min(count for _, count in window) for window in windows]
    told.write_text(f"{len(seen)} {seen[settled][0]} {seen[-1][0]} {opened[0]} {opened[1]}")
    return len(failures)
