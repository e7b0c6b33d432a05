"""Where the time goes from the command to the written mask of one slice: imports, trainer, weights, prediction.

Writes results/startup.csv and results/startup.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from command_line import add_machine, execute

# Run in a fresh interpreter: arguments are model, scan, output and threads; prints seconds of each part.
PARTS = """
import json, resource, sys, time
parts, last = {}, [0.0, time.perf_counter()]
def mark(part):
    usage = resource.getrusage(resource.RUSAGE_SELF)
    now = usage.ru_utime + usage.ru_stime, time.perf_counter()
    parts[part] = [now[0] - last[0], now[1] - last[1]]
    last[:] = now
model, scan, output, threads = sys.argv[1:]
mark("Python itself")
import torch
mark("import of PyTorch")
import nnunetv2.inference.predict_from_raw_data
mark("import of nnU-Net's predictor")
import nnunetv2_diffusion.scans.segmentation
from nnunetv2_diffusion import processors
from nnunetv2_diffusion.inference.trainer_search import find_trainer
from nnunetv2_diffusion.nnunet_names import ModelName
from nnunetv2_diffusion.scans.model import load_model
processors.available_threads = lambda: int(threads)
mark("import of the rest")
find_trainer(ModelName.of_folder(model).trainer)
mark("the trainer")
loaded = load_model(model)
mark("network and weights")
loaded.hash
mark("the model's hash")
options = nnunetv2_diffusion.scans.segmentation.Options()
for part in ("first scan", "second scan"):
    nnunetv2_diffusion.scans.segmentation.segment_files(
        scan, output, loaded, options, overwrite=True, say=lambda line: None
    )
    mark(part)
sys.__stdout__.write("\\n" + json.dumps(parts))
"""
BEFORE_A_SCAN = "all before the first scan"
COMMAND = "`spinesegdiff segment`, from the command to the mask"


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="startup.py",
        description="Time the parts of segmenting one slice with default settings, each in a fresh process.",
        epilog="On a busy machine the seconds of the clock mean little; those of the processor, and ratios, still do.",
    )
    parser.add_argument("--size", type=int, default=320, metavar="PIXELS", help="sides of the slice (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="fresh processes (%(default)s)")
    add_machine(parser)
    return parser


def run(args: argparse.Namespace, command: str) -> None:
    """Measure and write the table."""
    from machine import machine
    from nnunetv2_diffusion.imaging.writing import write_image
    from speed.growth import noise_scan
    from speed.planned import SyntheticProject

    with tempfile.TemporaryDirectory() as scratch:
        project = SyntheticProject(Path(scratch))
        project.enter()
        project.plan(args.size)
        model, scan = project.untrained("model"), Path(scratch) / "scan.mha"
        write_image(noise_scan(args.size), scan)
        rounds = [_parts(model, scan, Path(scratch) / "out", args.threads) for _ in range(args.repeats)]
    parts = {part: [median(found[part][k] for found in rounds) for k in (0, 1)] for part in rounds[0]}
    print(_write(parts, args, command, machine(args.device)))


def _parts(model: Path, scan: Path, output: Path, threads: int) -> dict[str, list[float]]:
    """Seconds of processor and clock of each part, in one fresh process, and of the command, in another."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    arguments = [model, scan, output, threads]
    told = subprocess.run(
        [sys.executable, "-c", PARTS, *map(str, arguments)],
        env=environment,
        cwd=os.sep,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if told.returncode:
        raise RuntimeError(f"the measured process failed: {told.stderr[-500:]}")
    parts = json.loads(told.stdout.rpartition("\n")[2])
    before = [part for part in parts if not part.endswith("scan")]
    parts[BEFORE_A_SCAN] = [sum(parts[part][k] for part in before) for k in (0, 1)]
    parts[COMMAND] = [parts[BEFORE_A_SCAN][k] + parts["first scan"][k] for k in (0, 1)]
    return parts


def _write(parts: dict[str, list[float]], args: argparse.Namespace, command: str, about: dict[str, str]) -> str:
    """The table as csv and as Markdown, which is returned."""
    import pandas as pd

    from nnunetv2_diffusion.files import write_csv, write_text

    scan = parts["second scan"]
    rows = [
        {"part": part, "processor_seconds": cpu, "seconds": wall, "times_a_scan": cpu / scan[0]}
        for part, (cpu, wall) in parts.items()
    ]
    write_csv(pd.DataFrame(rows).assign(command=command, **about), args.results / "startup.csv")
    lines = [
        "# Start-up",
        "",
        f"{about['machine']}; one slice of {args.size} x {args.size} pixels, default settings, untrained model; "
        f"medians of {args.repeats} fresh processes; {about['date']}. Times a scan: processor time over that of the "
        "second scan.",
        "",
        f"    {command}",
        "",
        "| part | s of the processor | s of the clock | times a scan |",
        "| --- | --- | --- | --- |",
        *(
            f"| {row['part']} | {row['processor_seconds']:.2f} | {row['seconds']:.2f} | {row['times_a_scan']:.2f} |"
            for row in rows
        ),
    ]
    text = "\n".join(lines) + "\n"
    write_text(text, args.results / "startup.md")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one line on stderr."""
    return execute(build_parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
