"""SPIDER's radiological gradings -> which patients have which pathology, and how often each occurs (Table 3)."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nnunetv2_diffusion.files import naming
from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.spider import GRADINGS_FILE

PFIRRMANN_THRESHOLD = 4
DEGENERATION = "Disc degeneration"

# SPIDER's column (misspelt Pfirrmann included) -> the pathology; any grade above 0 counts as affected.
_COLUMNS = {
    "Modic": "Modic changes",
    "UP endplate": "Upper endplate changes",
    "LOW endplate": "Lower endplate changes",
    "Spondylolisthesis": "Spondylolisthesis",
    "Disc herniation": "Disc herniation",
    "Disc narrowing": "Disc narrowing",
    "Disc bulging": "Disc bulging",
}
_PFIRRMANN = "Pfirrman grade"
TESTED = (*_COLUMNS.values(), DEGENERATION)
_ENDPLATES = "Endplate changes"


def read_gradings(path: str | Path) -> pd.DataFrame:
    """SPIDER's radiological_gradings.csv: a row a disc, the file's own columns, patients as text.

    Args:
        path: the file, or the folder that holds it.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: a column is missing, or holds something else than numbers.
    """
    path = Path(path)
    path = path / GRADINGS_FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; SPIDER's {GRADINGS_FILE} is needed for the pathologies")
    with naming(path):
        gradings = pd.read_csv(path)
        needed = ["Patient", *_COLUMNS, _PFIRRMANN]
        missing = [column for column in needed if column not in gradings.columns]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}; is it SPIDER's {GRADINGS_FILE}?")
        for column in needed:
            bad = pd.to_numeric(gradings[column], errors="coerce").isna()
            if bad.any():
                raise ValueError(
                    f"{path}, line {bad.idxmax() + 2}: {column} is {gradings[column][bad.idxmax()]!r}, no number"
                )
        return gradings.assign(Patient=gradings["Patient"].astype(int).astype(str))


def disc_flags(gradings: pd.DataFrame, pfirrmann: int = PFIRRMANN_THRESHOLD) -> pd.DataFrame:
    """Which discs are affected: a row a disc, indexed by patient, a boolean column a pathology.

    Args:
        gradings: as `read_gradings` gives them.
        pfirrmann: the lowest Pfirrmann grade (1 ... 5) that counts as disc degeneration; the paper states none.

    Raises:
        ValueError: the threshold would flag every disc, or none.
    """
    if not 2 <= pfirrmann <= 5:
        raise ValueError(f"the Pfirrmann threshold must lie between 2 and 5, not {pfirrmann}")
    flags = (gradings[list(_COLUMNS)] > 0).rename(columns=_COLUMNS)
    flags[DEGENERATION] = gradings[_PFIRRMANN] >= pfirrmann
    flags[_ENDPLATES] = flags["Upper endplate changes"] | flags["Lower endplate changes"]
    return flags.set_index(gradings["Patient"].rename("patient"))


def patient_flags(gradings: pd.DataFrame, pfirrmann: int = PFIRRMANN_THRESHOLD) -> pd.DataFrame:
    """Which patients have at least one affected disc: indexed by patient, a boolean column a pathology."""
    return disc_flags(gradings, pfirrmann).groupby(level="patient").any()


def prevalence(gradings: pd.DataFrame, pfirrmann: int = PFIRRMANN_THRESHOLD) -> pd.DataFrame:
    """Table 3: pathology, patients and discs affected, their percentages, and the paper's count (or NaN).

    The paper's 42 and 72 for spondylolisthesis and herniation count discs; of patients there are 39 and 65.
    """
    discs, patients = disc_flags(gradings, pfirrmann), patient_flags(gradings, pfirrmann)
    order = [*paper.TABLE_3, "Upper endplate changes", "Lower endplate changes", DEGENERATION]
    table = pd.DataFrame(
        {
            "pathology": order,
            "patients": patients[order].sum().to_numpy(),
            "patients_percent": patients[order].mean().to_numpy() * 100,
            "discs": discs[order].sum().to_numpy(),
            "discs_percent": discs[order].mean().to_numpy() * 100,
        }
    )
    table["paper"] = table["pathology"].map(paper.TABLE_3)
    return table


def check_patients(patients: pd.Series, flags: pd.DataFrame) -> None:
    """Demand that every patient was graded.

    Raises:
        ValueError: one was not.
    """
    absent = sorted(set(patients) - set(flags.index))
    if absent:
        raise ValueError(
            f"the gradings do not hold patient {', '.join(absent[:5])}"
            f"{f' and {len(absent) - 5} more' if len(absent) > 5 else ''}; they must cover every evaluated patient"
        )
