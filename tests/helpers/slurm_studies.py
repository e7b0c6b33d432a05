"""Miniature studies with real trainings on a Slurm of one node: started, disturbed, and what is left of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from helpers.stub_commands import command

# A cluster without accounting, asked more often than a real one should be.
FLAGS = ("slurm-no-account", "slurm-status-command=squeue", "slurm-init-seconds-before-status-checks=1")
FLAGS += ("seconds-between-status-checks=1", "latency-wait=10")
WAITING = 3600
# What is written beside the results: times, attempts, and the machine.
_OF_THE_RUN = re.compile(r"debug\.json|progress\.png|training_log_.*|study\.csv|timing\.json|ablation.*\.png")
_SECONDS = re.compile(rb"(?m)^Seconds a slice,.*$")
_RESULTS = (".csv", ".json", ".png", ".gz", ".npz", ".npy")
_PLACES = (".csv", ".json")  # name files by their absolute paths


class SlurmStudy:
    """`reproduce --phantoms` on a cluster; what it prints is in `log`."""

    def __init__(self, folder: Path, cluster: Mapping[str, str], *words: object):
        self.folder, self.log = folder, folder.with_suffix(".log")
        self._environment = {**os.environ, **cluster, "OMP_NUM_THREADS": "1"}
        flags = ("--executor", "slurm", "--jobs", 8, "--snakemake", *FLAGS)
        self._command = command(Path(sys.executable), "--phantoms", "--out", folder, *words, *flags)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def end(self) -> str:
        """Wait for it: what it has printed; 0 as exit code is demanded."""
        assert self._process.wait(WAITING) == 0, self.printed()[-4000:]
        return self.printed()

    def kill(self) -> None:
        """SIGKILL to `reproduce` and Snakemake; their jobs are Slurm's."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def ask(self, *words: str) -> str:
        """What a command of Slurm's prints; a job that it is to end may have ended already."""
        ended = subprocess.run(words, env=self._environment, capture_output=True, encoding="utf-8", check=False)
        return ended.stdout

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAITING
        while not condition():
            assert time.monotonic() < deadline
            assert self._process.poll() is None, self.printed()[-4000:]
            time.sleep(0.05)

    def record(self, job: str) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "jobs" / f"{job}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def running(self, rule: str = "") -> list[str]:
        """The jobs that run, of one rule or of all."""
        names = sorted(path.stem for path in (self.folder / "jobs").glob(f"{rule}*.json"))
        return [name for name in names if self.record(name).get("state") == "running"]

    def fold(self, training: str) -> Path:
        """The folder of results of `train-<dataset>-<model>-<fold>`; one that is not there where it has not begun."""
        words = self.record(training)["command"].split()
        pattern = f"Dataset{words[1]}_*/{words[5]}__nnUNetPlans__{words[2]}/fold_{words[3]}"
        return next((self.folder / "nnUNet_results").glob(pattern), self.folder / "absent")

    def epochs(self) -> dict[str, Counter[str]]:
        """How often each training has begun each of its epochs, by nnU-Net's own logs."""
        found = {}
        for path in sorted((self.folder / "jobs").glob("train-*.json")):
            logs = self.fold(path.stem).glob("training_log_*.txt")
            text = "".join(log.read_text(encoding="utf-8") for log in logs)
            found[path.stem] = Counter(re.findall(r"Epoch (\d+) *$", text, re.MULTILINE))
        return found


def results(study: Path) -> dict[str, str]:
    """SHA-256 of everything that a study has found out: tables, masks, maps, scores, and the networks' weights."""
    found = {}
    for part in ("nnUNet_results", "tables", "report"):
        for path in sorted((study / part).rglob("*")):
            name = str(path.relative_to(study))
            if path.name == "checkpoint_final.pth":
                found[name] = _weights(path)
            elif path.name.endswith(_RESULTS) and not _OF_THE_RUN.fullmatch(path.name):
                found[name] = sha256(_content(path, study)).hexdigest()
    return found


def _content(path: Path, study: Path) -> bytes:
    """A file without the study's place and without the seconds that predictions took."""
    content = path.read_bytes()
    if path.name.endswith("_values.csv"):
        table = pd.read_csv(path)
        return table.drop(columns="seconds_per_slice", errors="ignore").to_csv(index=False).encode()
    if path.suffix in _PLACES:
        content = _SECONDS.sub(b"", content.replace(str(study).encode(), b"STUDY"))
    return content


def _weights(path: Path) -> str:
    weights = torch.load(path, map_location="cpu", weights_only=False)["network_weights"]
    total = sha256()
    for name, value in sorted(weights.items()):
        total.update(name.encode() + value.contiguous().numpy().tobytes())
    return total.hexdigest()
