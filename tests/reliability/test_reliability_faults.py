"""A full disk, a read-only folder, two processes at once, a worker that the system ends: a sentence, the rest kept."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from helpers import campaign
from helpers.faulty_commands import NAMES, Command, Commands, Undisturbed, files_of
from helpers.warm_process import Ended
from nnunetv2_diffusion.demo.pictures import save_png
from nnunetv2_diffusion.files import staging
from nnunetv2_diffusion.scans.picture import Picture, write_picture

_PAGE = 4096
# A report takes seconds; the long form fills disks with it too.
QUICK = [name for name in NAMES if name != "report"]


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes in main memory at `folder`; skips where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def pages(folder: Path) -> int:
    """The bytes of a file system's pages that a folder's files take."""
    return sum(-(-path.stat().st_size // _PAGE) * _PAGE for path in files_of(folder))


def assert_told_and_clean(ended: Ended, undisturbed: Undisturbed) -> None:
    """Exit code 2, an error in a sentence, no traceback; what is visible is whole, and nothing hidden is left."""
    assert ended.status == 2, ended.output
    assert ended.errors, ended.output
    assert "Traceback" not in ended.output
    command = undisturbed.command
    assert command.visible_faults(undisturbed.files) == []
    left = [path for path in files_of(command.output) if path.name.startswith(".")]
    assert left == []


def assert_repeated(undisturbed: Undisturbed) -> None:
    """The same command again gives what an undisturbed one gives."""
    again = undisturbed.command.run()
    assert again.status == 0, again.output
    assert undisturbed.command.files() == undisturbed.files


@pytest.mark.parametrize("name", QUICK)
def test_a_file_that_the_disk_cuts_off(commands: Commands, name: str):
    undisturbed = commands.undisturbed(name)
    limit = random.Random(f"cut {name}").randrange(1, max(undisturbed.sizes) // 2)
    assert_told_and_clean(undisturbed.command.run(file_bytes=limit), undisturbed)
    assert_repeated(undisturbed)


def fill(commands: Commands, name: str, share: float) -> None:
    """Run on a disk that holds `share` of what the command adds, then on one that holds all."""
    undisturbed = commands.undisturbed(name)
    command = undisturbed.command
    command.run()
    after = pages(command.output)
    command.reset()
    there = pages(command.output)
    with small_disk(command.output, there + max(_PAGE, int(share * (after - there)) // _PAGE * _PAGE)):
        command.reset()
        assert_told_and_clean(command.run(), undisturbed)
        remount(command.output, "size=64m")
        assert_repeated(undisturbed)


@pytest.mark.parametrize("name", QUICK)
def test_a_full_disk(commands: Commands, name: str):
    fill(commands, name, 0.5)


@pytest.mark.campaign
@pytest.mark.parametrize("name", NAMES)
def test_disks_of_many_sizes(commands: Commands, name: str):
    generator = random.Random(f"full {name}")
    number = campaign.size(campaign.KILLS) // 5
    for _ in range(number):
        fill(commands, name, generator.uniform(0, 0.9))
    campaign.note("full disk", name, disks=number)


@pytest.mark.parametrize("name", NAMES)
def test_a_read_only_folder(commands: Commands, name: str):
    undisturbed = commands.undisturbed(name)
    command = undisturbed.command
    with small_disk(command.output, 64 << 20):
        command.reset()
        found = command.files()
        remount(command.output, "ro")
        ended = command.run()
        assert (ended.status, len(ended.errors)) == (2, 1), ended.output
        assert "Traceback" not in ended.output
        assert command.files() == found
        remount(command.output, "rw")


@pytest.mark.parametrize("name", QUICK)
def test_two_processes_with_one_output_folder(commands: Commands, name: str):
    undisturbed = commands.undisturbed(name)
    both = [undisturbed.command.start(), undisturbed.command.start()]
    for ended in [running.wait() for running in both]:
        assert ended.status in (0, 2), ended.output
        assert ended.status == 0 or ended.errors
        assert "Traceback" not in ended.output
    assert undisturbed.command.visible_faults(undisturbed.files) == []
    assert_repeated(undisturbed)


# predict starts a process that exports, then one that preprocesses.
PROCESSES = {"convert": ("-np", "2"), "predict": ("-npp", "1", "-nps", "1"), "validate": ("-nps", "1")}


@pytest.mark.parametrize(("name", "number"), [("convert", 0), ("predict", 0), ("predict", 1), ("validate", 0)])
def test_a_worker_that_the_system_ends(commands: Commands, name: str, number: int):
    undisturbed = commands.undisturbed(name)
    command = undisturbed.command
    arguments = (*command.arguments, *PROCESSES[name])
    running = Command(arguments, command.output, command.environment, command.before).start()
    kill_a_worker(running.process.pid, number)
    ended = running.wait()
    # 0 where it had done its work, or another one does it
    assert (ended.status, len(ended.errors)) in ((0, 0), (2, 1)), ended.output
    assert "Traceback" not in ended.output
    assert command.visible_faults(undisturbed.files) == []
    assert_repeated(undisturbed)


def kill_a_worker(parent: int, number: int, patience: float = 60) -> None:
    """SIGKILL to a child of `parent`, numbered from 0 in the order in which they start, as soon as there is one."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if len(children) > number:
            os.kill(int(children[number]), signal.SIGKILL)
            return
        time.sleep(0.01)
    pytest.fail("the command started no worker")


@pytest.mark.parametrize("pages_left", [0, 1])
def test_pictures_on_a_full_disk(tmp_path: Path, pages_left: int):
    """The demo's and segment's pictures: told with the file, or whole; never half of one."""
    figure = Figure()
    figure.subplots().plot(np.random.default_rng(0).normal(size=400))
    slice_ = np.random.default_rng(0).normal(size=(40, 40))
    picture = Picture(slice_, (slice_ > 1).astype(np.uint8), abs(slice_) / 10, (1.0, 1.0))
    with small_disk(tmp_path / "disk", (pages_left + 1) * _PAGE):
        with pytest.raises(OSError, match=r"demo\.png"):
            save_png(figure, tmp_path / "disk" / "demo.png")
        assert list((tmp_path / "disk").iterdir()) == []
        with pytest.raises(OSError, match="No space"), staging(tmp_path / "disk", "scan.png") as stage:
            write_picture(stage / "scan.png", picture, {"background": 0, "disc": 1}, "scan")
        assert list((tmp_path / "disk").iterdir()) == []
