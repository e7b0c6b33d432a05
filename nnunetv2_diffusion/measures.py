"""What is measured of a lumbar spine: names of levels and measurements, units, the columns of a table of them."""

from __future__ import annotations

VERTEBRA_NAMES = (
    *(f"L{number}" for number in range(5, 0, -1)),
    *(f"T{number}" for number in range(12, 0, -1)),
    *(f"C{number}" for number in range(7, 0, -1)),
)
SACRUM_NAME = "S1"
VERTEBRA, DISC, CANAL, SPINE = "vertebra", "disc", "canal", "spine"
# What is written: <name>_levels beside a mask, and the table, behind a scan's name where it is of one alone.
LEVELS_SUFFIX, MEASUREMENTS_FILE = "_levels", "measurements.csv"
COLUMNS = ("scan", "level", "structure", "measurement", "value", "low", "high", "samples", "unit", "remark")

ANTERIOR_HEIGHT, MIDDLE_HEIGHT, POSTERIOR_HEIGHT = "height_anterior", "height_middle", "height_posterior"
MEAN_HEIGHT, HEIGHT_INDEX, DEPTH, AREA = "height_mean", "height_index", "depth", "area"
ANTERIOR_BULGE, POSTERIOR_BULGE = "bulge_anterior", "bulge_posterior"
CANAL_WIDTH = "canal_width"
WEDGE_RATIO, BICONCAVITY_RATIO = "wedge_ratio", "biconcavity_ratio"
SLIP, SLIP_SHARE, MEYERDING = "slip", "slip_share", "meyerding_grade"
LORDOSIS, NARROWEST_CANAL, CANAL_AREA = "lordosis", "narrowest_width", "area"

UNITS = {
    DISC: {
        ANTERIOR_HEIGHT: "mm",
        MIDDLE_HEIGHT: "mm",
        POSTERIOR_HEIGHT: "mm",
        MEAN_HEIGHT: "mm",
        HEIGHT_INDEX: "1",
        DEPTH: "mm",
        AREA: "mm2",
        ANTERIOR_BULGE: "mm",
        POSTERIOR_BULGE: "mm",
        CANAL_WIDTH: "mm",
    },
    VERTEBRA: {
        ANTERIOR_HEIGHT: "mm",
        MIDDLE_HEIGHT: "mm",
        POSTERIOR_HEIGHT: "mm",
        DEPTH: "mm",
        WEDGE_RATIO: "1",
        BICONCAVITY_RATIO: "1",
        SLIP: "mm",
        SLIP_SHARE: "%",
        MEYERDING: "grade",
        CANAL_WIDTH: "mm",
    },
    SPINE: {LORDOSIS: "degrees"},
    CANAL: {NARROWEST_CANAL: "mm", CANAL_AREA: "mm2"},
}

# What an interval holds of the samples' values; and what is added to half its width where it is calibrated, by unit:
# about what the measuring itself errs by (docs/measurements.md).
INTERVAL = (0.05, 0.95)
LEAST_SPREAD = {"mm": 0.2, "mm2": 5.0, "1": 0.01, "%": 0.5, "degrees": 0.5}
UNCALIBRATED = "uncalibrated"
# What may be below 0; an interval of anything else ends there.
SIGNED = (ANTERIOR_BULGE, POSTERIOR_BULGE, SLIP, SLIP_SHARE, LORDOSIS)

# What is measured where: shares of the depth from its anterior end, and of half the height from the middle.
ANTERIOR_STRIP, MIDDLE_STRIP, POSTERIOR_STRIP = (0.05, 0.25), (0.40, 0.60), (0.75, 0.95)
WHOLE_STRIP = (0.05, 0.95)
WALL_STRIP = (0.15, 0.90)
WAIST_STRIP = 0.25
# mm along the canal over which a width is averaged
CANAL_WINDOW = 5.0
# Below it a shift is within the spread of healthy spines and of the measurement, and no slip is graded.
LEAST_SLIP = 3.0


def vertebra_name(number: int) -> str:
    """The name of the vertebra `number`, counted from 1 at L5 upwards; the number itself above C1."""
    return VERTEBRA_NAMES[number - 1] if number <= len(VERTEBRA_NAMES) else str(number)


def disc_name(number: int) -> str:
    """The name of the disc `number`, counted from 1 at L5/S1 upwards: `L4/L5` is disc 2."""
    below = SACRUM_NAME if number == 1 else vertebra_name(number - 1)
    return f"{vertebra_name(number)}/{below}"


def meyerding_grade(slip: float, share: float) -> int | None:
    """Grade 1 to 5 of a forward slip of `slip` mm, `share` % of the endplate below (Meyerding 1932): a grade a quarter.

    0 where it is less than LEAST_SLIP either way; None for a slip backwards, which the grades do not know.
    """
    if abs(slip) < LEAST_SLIP:
        return 0
    return None if slip < 0 else min(5, 1 + int(share // 25))
