"""`python -m nnunetv2_diffusion.workflow.phantoms`: a study's drawn patients, in SPIDER's layout."""

from __future__ import annotations

from pathlib import Path

from nnunetv2_diffusion.phantoms.patients import Protocol, write_phantoms
from nnunetv2_diffusion.workflow.grid import PHANTOM_DATA
from nnunetv2_diffusion.workflow.study import open_study

PROTOCOL = Protocol(rows=200, columns=116)


def main() -> None:
    """Write them below the current folder, a study's."""
    config = open_study(Path.cwd()).config
    write_phantoms(Path(PHANTOM_DATA), range(1, config["phantoms"] + 1), config.get("seed", 0), PROTOCOL, progress=True)


if __name__ == "__main__":
    main()
