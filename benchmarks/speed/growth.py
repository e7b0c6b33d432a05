"""How time grows: a volume against single slices at three levels, and the converter with one core, two cores …"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import SimpleITK as sitk
import torch

from nnunetv2_diffusion.imaging.writing import write_image
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.scans import load_model, segment
from nnunetv2_diffusion.spider import IMAGES, MASKS
from speed.measuring import median_ratio, seconds_in_turns
from speed.planned import SPACING, quietly

SPIDERS_SERIES = 447  # of 218 patients (van der Graaf et al. 2024)


def network_rows(
    model: Path, counts: Sequence[int], samples: Sequence[int], size: int, device: torch.device, repeats: int
) -> Iterator[dict[str, Any]]:
    """Seconds of slices handed to the network together against one by one; 0 samples are the model's own number."""
    with quietly():
        options = {"allow_tqdm": False, "perform_everything_on_device": device.type == "cuda"}
        predictor = DiffusionPredictor(runtime=Runtime(str(device)), **options)
        predictor.initialize_from_trained_model_folder(str(model), [0])
    network = predictor.diffusion_network
    default = network.sampling
    scan = _noise(max(counts, default=1), size)[None]
    list(predictor.predict_slices([scan[:, :1]]))  # not counted
    for number in samples:
        network.sampling = default.updated({"samples": number}, network.process) if number else default
        for count in counts:
            slices = [scan[:, i : i + 1] for i in range(count)]

            def together(slices=slices) -> None:
                list(predictor.predict_slices(slices))

            def one_by_one(slices=slices) -> None:
                for one in slices:
                    list(predictor.predict_slices([one]))

            yield _row("network", network.sampling.samples, count, together, one_by_one, repeats)


def scan_rows(model: Path, counts: Sequence[int], size: int, device: str, repeats: int) -> Iterator[dict[str, Any]]:
    """Seconds of `segment` on a scan of several slices against as many scans of one slice; the model is loaded."""
    loaded = load_model(model, runtime=Runtime(device))
    samples = loaded.predictor.diffusion_network.sampling.samples
    segment(_scan(_noise(1, size)), loaded)  # not counted
    for count in counts:
        slices = _noise(count, size)
        volume, singles = _scan(slices), [_scan(slices[i : i + 1]) for i in range(count)]

        def together(volume=volume) -> None:
            segment(volume, loaded, slices="all")

        def one_by_one(singles=singles) -> None:
            for single in singles:
                segment(single, loaded, slices="all")

        yield _row("segment", samples, count, together, one_by_one, repeats)


def command_rows(
    model: Path, counts: Sequence[int], size: int, device: str, repeats: int, scratch: Path
) -> Iterator[dict[str, Any]]:
    """Seconds of `spinesegdiff segment` on a scan of several slices against one command for each slice."""
    flags = ("--model", str(model), "-device", device, "--overwrite")
    for count in counts:
        slices = _noise(count, size)
        write_image(_scan(slices), scratch / "volume.nii.gz")
        for number in range(count):
            write_image(_scan(slices[number : number + 1]), scratch / f"single_{number}.nii.gz")

        def together() -> None:
            _spinesegdiff("segment", scratch / "volume.nii.gz", scratch / "out", "--slices", "all", *flags)

        def one_by_one(count=count) -> None:
            for number in range(count):
                _spinesegdiff("segment", scratch / f"single_{number}.nii.gz", scratch / "out", *flags)

        yield _row("spinesegdiff segment", None, count, together, one_by_one, repeats)


def converter_rows(
    spider: Path, copies: int, processes: Sequence[int], repeats: int, scratch: Path
) -> Iterator[dict[str, Any]]:
    """Seconds of `spinesegdiff convert` with 1, 2 … processes on as many cores; the ratio is to the first number."""
    scans = _copies(spider, scratch / "scans", copies)
    series = len(list((scans / IMAGES).iterdir()))
    seconds: dict[int, list[float]] = {number: [] for number in processes}
    for turn in range(repeats):
        for number in processes:
            out = scratch / f"converted_{turn}_{number}"
            flags = ("--modality", "T1wT2w", "--out", out, "-np", number)
            start = time.perf_counter()
            _spinesegdiff("convert", scans, *flags, cores=number)
            seconds[number].append(time.perf_counter() - start)
    for number, measured in seconds.items():
        yield {
            "what": f"{series} series",
            "processes": number,
            "seconds": median(measured),
            "seconds_each": median(measured) / series,
            "ratio": median_ratio(measured, seconds[processes[0]]),
            "minutes_of_spider": median(measured) / series * SPIDERS_SERIES / 60,
        }


def _row(
    what: str,
    samples: int | None,
    count: int,
    together: Callable[[], None],
    one_by_one: Callable[[], None],
    repeats: int,
) -> dict[str, Any]:
    volume, singles = seconds_in_turns([together, one_by_one], repeats)
    return {
        "what": what,
        "samples": samples,
        "slices": count,
        "seconds": median(volume),
        "seconds_each": median(volume) / count,
        "ratio": median_ratio(volume, singles),
    }


def noise_scan(size: int) -> sitk.Image:
    """A scan of one sagittal slice, the same every time."""
    return _scan(_noise(1, size))


def _noise(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, size, size, generator=torch.Generator().manual_seed(0))


def _scan(slices: torch.Tensor) -> sitk.Image:
    """Slices [n, rows, columns] as a sagittal scan in RAS+ orientation."""
    scan = sitk.GetImageFromArray(slices.permute(1, 2, 0).contiguous().numpy())
    scan.SetSpacing(SPACING)
    scan.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return scan


def _spinesegdiff(*arguments: object, cores: int | None = None) -> None:
    """The command in a process of its own, on the first `cores` of this process's cores where the system can do so.

    Raises:
        RuntimeError: it failed; with its last line.
    """
    # without the working directory: in a checkout the package beside it would be found before the installed one
    call = "import sys; sys.path[:] = filter(None, sys.path); from nnunetv2_diffusion.cli import main; sys.exit(main())"
    if cores is not None and hasattr(os, "sched_setaffinity"):
        call = f"import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}]); {call}"
    command = [sys.executable, "-c", call, *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if finished.returncode != 0:
        raise RuntimeError(f"spinesegdiff {arguments[0]} failed: {finished.stderr.strip().splitlines()[-1:]}")


def _copies(spider: Path, folder: Path, copies: int) -> Path:
    """A folder in SPIDER's layout with links to every scan and mask, `copies` times under other patients' numbers."""
    if not list((spider / IMAGES).glob("*.mha")):
        raise FileNotFoundError(f"{spider / 'images'} holds no *.mha; name a folder in SPIDER's layout with --spider")
    for part in (IMAGES, MASKS):
        (folder / part).mkdir(parents=True)
        for path in (spider / part).glob("*.mha"):
            patient, _, series = path.name.partition("_")
            for copy in range(copies):
                (folder / part / f"{int(patient) + 1000 * copy}_{series}").symlink_to(path.resolve())
    return folder
