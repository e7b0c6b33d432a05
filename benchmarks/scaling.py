"""How time grows: slices of a volume against as many single slices, and the converter against its processes.

Writes results/scaling.csv and results/scaling.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
SPIDERS_SERIES = 447  # of 218 patients (van der Graaf et al. 2024)


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        description="Time the slices of a volume and the converter's processes.",
        epilog="Keep the machine free of other work.",
    )
    add = parser.add_argument
    add("--slices", nargs="+", type=int, default=[1, 5, 10, 20, 40], metavar="N", help="of a volume (%(default)s)")
    add("--size", type=int, default=128, metavar="PIXELS", help="sides of a slice (%(default)s)")
    add("--processes", nargs="+", type=int, default=[1, 2], metavar="N", help="of the converter (%(default)s)")
    add("--copies", type=int, default=20, metavar="N", help="of the scans, as other patients' (%(default)s)")
    add("--repeats", type=int, default=3, metavar="N", help="turns (%(default)s)")
    add(
        "--spider",
        type=Path,
        default=HERE.parent.parent / "shared" / "mri" / "spider_layout",
        metavar="DIR",
        help="scans to convert, in SPIDER's layout (../shared/mri/spider_layout, seen from the project)",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    add("--threads", type=int, default=os.cpu_count() or 1, metavar="N", help="of PyTorch (all cores)")
    add("--results", type=Path, default=HERE / "results", metavar="DIR", help="where the tables go (results/)")
    return parser


def volumes(args: argparse.Namespace, scratch: Path) -> Iterator[dict[str, Any]]:
    """Seconds of a volume's slices handed over together and one by one, in turns, with an untrained planned model."""
    import torch
    from speed.measuring import median_ratio, seconds_in_turns
    from speed.planned import Workspace, quietly

    from nnunetv2_diffusion.inference.batched_predictor import BatchedPredictor

    workspace = Workspace(scratch)
    workspace.enter()
    workspace.plan(args.size)
    device = torch.device(args.device)
    with quietly():
        predictor = BatchedPredictor(
            device=device, allow_tqdm=False, perform_everything_on_device=device.type == "cuda"
        )
        predictor.initialize_from_trained_model_folder(str(workspace.untrained("model")), [0])
    generator = torch.Generator().manual_seed(0)
    scan = torch.randn(1, max(args.slices), args.size, args.size, generator=generator)
    list(predictor.predict_slices([scan[:, :1]]))
    for count in args.slices:
        slices = [scan[:, i : i + 1] for i in range(count)]

        def together(slices=slices) -> None:
            list(predictor.predict_slices(slices))

        def one_by_one(slices=slices) -> None:
            for one in slices:
                list(predictor.predict_slices([one]))

        volume, singles = seconds_in_turns([together, one_by_one], args.repeats)
        yield {
            "what": f"{count} slices of {args.size} x {args.size}",
            "seconds": median(volume),
            "seconds_each": median(volume) / count,
            "ratio": median_ratio(volume, singles),
        }


def conversions(args: argparse.Namespace, scratch: Path) -> Iterator[dict[str, Any]]:
    """Seconds of converting every scan with 1, 2 … processes; the ratio is to the first number."""
    from speed.measuring import median_ratio

    from nnunetv2_diffusion.dataset_conversion.Dataset501_SPIDER import convert

    scans = _copies(args.spider, scratch / "scans", args.copies)
    seconds: dict[int, list[float]] = {number: [] for number in args.processes}
    for turn in range(args.repeats):
        for number in args.processes:
            start = time.perf_counter()
            done = convert(scans, "T1wT2w", out=scratch / f"converted_{turn}_{number}", processes=number)
            seconds[number].append(time.perf_counter() - start)
    for number, measured in seconds.items():
        series = len(done.records)
        yield {
            "what": f"{series} series, {number} process{'es' if number > 1 else ''}",
            "seconds": median(measured),
            "seconds_each": median(measured) / series,
            "ratio": median_ratio(measured, seconds[args.processes[0]]),
            "minutes_of_spider": median(measured) / series * SPIDERS_SERIES / 60,
        }


def _copies(spider: Path, folder: Path, copies: int) -> Path:
    """A folder in SPIDER's layout with links to every scan and mask, `copies` times under other patients' numbers."""
    if not list((spider / "images").glob("*.mha")):
        raise FileNotFoundError(f"{spider / 'images'} holds no *.mha; name a folder in SPIDER's layout with --spider")
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
        for path in (spider / part).glob("*.mha"):
            patient, _, series = path.name.partition("_")
            for copy in range(copies):
                (folder / part / f"{int(patient) + 1000 * copy}_{series}").symlink_to(path.resolve())
    return folder


def run(args: argparse.Namespace, command: str) -> None:
    """Measure and write the tables."""
    os.environ.setdefault("nnUNet_def_n_proc", "1")
    import torch
    from speed.tables import write_scaling

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        slices = list(volumes(args, Path(scratch)))
        converted = list(conversions(args, Path(scratch)))
    print(write_scaling(slices, converted, args.results, args.device, command))


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    args = build_parser().parse_args(arguments)
    command = shlex.join(["python", "benchmarks/scaling.py", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        run(args, command)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"scaling.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
