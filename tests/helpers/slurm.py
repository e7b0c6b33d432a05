"""A real Slurm of one node, Debian's slurm-wlm, in a folder of its own: started in seconds, stopped with its jobs."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.stub_commands import fake_program

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
_SECONDS = 60
_CONFIGURATION = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
KillWait=15
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why no Slurm can be started here; None where it can."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"Slurm is not installed (no {missing[0]}; Debian: apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "Slurm's daemons need root"


@contextmanager
def slurm(folder: Path, cores: int = 2) -> Iterator[dict[str, str]]:
    """`with slurm(folder) as environment`: what its commands need in their environment, while the daemons run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = platform.node().partition(".")[0]
    controller, daemon = _free_ports()
    about = {"host": host, "folder": folder, "cores": cores, "memory": _memory_mib(), "controller": controller}
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(**about, daemon=daemon), encoding="utf-8")
    environment = {"SLURM_CONF": str(configuration)}
    # Snakemake's plugin takes Slurm's variables from a job's environment, where srun then looks in /etc alone.
    programs = fake_program(folder / "bin", "srun", f'SLURM_CONF={configuration} exec {_program("srun")} "$@"')
    daemons: list[subprocess.Popen] = []
    try:
        daemons.append(_munged(folder))
        _wait(lambda: (folder / "munge.socket").exists(), folder)
        for words in (["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            daemons.append(_start(words, environment, folder))
        _wait(lambda: "idle" in _output(["sinfo", "--noheader", "--format=%T"], environment), folder)
        yield {**environment, "PATH": f"{programs}:{os.environ['PATH']}"}
        _output(["scancel", "--full", "--user=root"], environment)
        _wait(lambda: not _output(["squeue", "--noheader"], environment).strip(), folder)
    finally:
        for process in reversed(daemons):
            process.terminate()
        for process in daemons:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _munged(folder: Path) -> subprocess.Popen:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    words = ["munged", "--foreground", "--force", "--num-threads=2"]
    words += [f"--socket={folder}/munge.socket", f"--key-file={key}", f"--pid-file={folder}/munged.pid"]
    words += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"]
    return _start(words, {}, folder)


def _start(words: list[str], environment: dict[str, str], folder: Path) -> subprocess.Popen:
    with (folder / f"{words[0]}.out").open("wb") as stream:
        return subprocess.Popen(
            [_program(words[0]), *words[1:]],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def _wait(ready, folder: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while not ready():
        if time.monotonic() > deadline:
            logs = [path.read_text(errors="replace")[-1500:] for path in sorted(folder.glob("*.[lo][ou][gt]"))]
            raise RuntimeError("Slurm is not ready:\n" + "\n".join(logs))
        time.sleep(0.2)


def _output(words: list[str], environment: dict[str, str]) -> str:
    ended = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", check=False)
    return ended.stdout


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 - 256
