"""The phantom: SPIDER's layout and label values, T1w and T2w contrast, pathologies that show, determinism."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunetv2_diffusion.imaging.grid import Grid
from nnunetv2_diffusion.phantoms.patients import PIR, Protocol, make_scan, make_spine, write_phantoms
from nnunetv2_diffusion.phantoms.rendering import render
from nnunetv2_diffusion.phantoms.spine import LEVELS, DiscFinding, build_spine, draw_findings
from nnunetv2_diffusion.spider import CANAL_VALUE, FIRST_DISC

PATIENTS = (1, 2, 7)
SMALL = Protocol(in_plane=2.0, rows=140, columns=120, slices=5)
HEALTHY = (DiscFinding(),) * len(LEVELS)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), PATIENTS, protocol=SMALL)


def central_slice(findings: tuple[DiscFinding, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free T2w signal and mask, 1 mm pixels, of the same patient with other findings."""
    spine = build_spine(np.random.default_rng(3), findings, bottom=-80.0)
    size, spacing = (200, 260, 1), (1.0, 1.0, 4.0)
    centre = np.array([0.0, spine.bodies[3].pose.p, 0.0])
    origin = centre - PIR @ (np.array(spacing) * (np.array(size) - 1) / 2)
    grid = Grid(size, spacing, tuple(origin), tuple(PIR.ravel()))
    signal, label = render(spine, grid, "t2", [0])
    return signal[0], label[0]


def centroid(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(axis=0)


def anterior_body(label: np.ndarray, number: int) -> np.ndarray:
    """A vertebra less its spinous process: its piece that lies furthest forward, in the midline."""
    pieces, count = ndimage.label(label == number)
    return pieces == min(range(1, count + 1), key=lambda piece: centroid(pieces == piece)[1])


def test_files_are_named_and_placed_as_in_spider(phantoms: Path) -> None:
    expected = sorted(f"{patient}_{series}.mha" for patient in PATIENTS for series in ("t1", "t2"))
    assert sorted(path.name for path in (phantoms / "images").iterdir()) == expected
    assert sorted(path.name for path in (phantoms / "masks").iterdir()) == expected
    assert sorted(path.name for path in phantoms.iterdir()) == [
        "images",
        "masks",
        "overview.csv",
        "radiological_gradings.csv",
    ]


def test_csv_columns_are_spiders(phantoms: Path, real_mri: Path) -> None:
    metadata = real_mri / "spider_metadata"
    gradings = pd.read_csv(phantoms / "radiological_gradings.csv")
    assert list(gradings.columns) == list(pd.read_csv(metadata / "radiological_gradings.csv").columns)
    overview = pd.read_csv(phantoms / "overview.csv")
    assert set(overview.columns) <= set(pd.read_csv(metadata / "overview.csv").columns)


@pytest.mark.parametrize("patient", PATIENTS)
@pytest.mark.parametrize("series", ["t1", "t2"])
def test_labels_and_geometry(phantoms: Path, patient: int, series: str) -> None:
    image = sitk.ReadImage(str(phantoms / "images" / f"{patient}_{series}.mha"))
    mask = sitk.ReadImage(str(phantoms / "masks" / f"{patient}_{series}.mha"))
    assert image.GetPixelID() == sitk.sitkInt16 and mask.GetPixelID() == sitk.sitkUInt8
    assert image.GetSize() == mask.GetSize() == (120, 140, 5)
    assert image.GetSpacing() == mask.GetSpacing() == (2.0, 2.0, 4.0)
    assert image.GetOrigin() == mask.GetOrigin() and image.GetDirection() == mask.GetDirection()
    assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()) == "PIR"
    assert np.abs(np.reshape(image.GetDirection(), (3, 3)) - PIR).max() > 1e-4

    values = np.unique(sitk.GetArrayFromImage(mask))
    whole = values[(values > 0) & (values < 100)]
    partly = values[(values > 100) & (values < 126)]
    discs = values[values >= FIRST_DISC]
    assert whole.tolist() == list(range(1, len(whole) + 1)) and 5 <= len(whole) <= 8
    assert all(value - 100 == len(whole) + n for n, value in enumerate(partly, start=1))
    assert discs.tolist() == list(range(FIRST_DISC, FIRST_DISC + len(discs))) and len(discs) >= len(whole)
    assert CANAL_VALUE in values
    assert len(values) == 2 + len(whole) + len(partly) + len(discs)


def test_order_of_the_structures_from_front_to_back_and_upwards(phantoms: Path) -> None:
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(phantoms / "masks" / "2_t2.mha")))[2]  # rows to inferior
    heights = [centroid(anterior_body(mask, number))[0] for number in range(1, 6)]
    disc_heights = [centroid(mask == FIRST_DISC + n)[0] for n in range(5)]
    chain = [row for pair in zip(disc_heights, heights, strict=True) for row in pair]
    assert chain == sorted(chain, reverse=True)
    for number in range(2, 6):
        row = round(heights[number - 1])
        assert (
            np.flatnonzero(mask[row] == CANAL_VALUE).mean()
            > np.flatnonzero(anterior_body(mask, number)[row]).mean() + 8
        )


def test_csf_is_bright_in_t2_and_dark_in_t1(phantoms: Path) -> None:
    for patient in PATIENTS:
        means = {}
        for series in ("t1", "t2"):
            image = sitk.GetArrayFromImage(sitk.ReadImage(str(phantoms / "images" / f"{patient}_{series}.mha")))[2]
            mask = sitk.GetArrayFromImage(sitk.ReadImage(str(phantoms / "masks" / f"{patient}_{series}.mha")))[2]
            vertebrae = (mask > 0) & (mask < 100)
            means[series] = image[mask == CANAL_VALUE].mean() / image[vertebrae].mean()
        assert means["t2"] > 1.4 and means["t1"] < 0.7


def test_a_healthy_nucleus_is_brighter_than_a_degenerate_one() -> None:
    degenerate = (*HEALTHY[:2], replace(HEALTHY[2], pfirrmann=5), *HEALTHY[3:])
    means = [signal[label == FIRST_DISC + 2].mean() for signal, label in map(central_slice, (HEALTHY, degenerate))]
    assert means[1] < 0.5 * means[0]


def test_a_narrowed_disc_is_flatter() -> None:
    narrowed = (*HEALTHY[:2], replace(HEALTHY[2], narrowing=1), *HEALTHY[3:])
    areas = [(central_slice(findings)[1] == FIRST_DISC + 2).sum() for findings in (HEALTHY, narrowed)]
    assert 0.3 * areas[0] < areas[1] < 0.8 * areas[0]


def test_a_slipped_vertebra_stands_further_forward() -> None:
    slipped = (HEALTHY[0], replace(HEALTHY[1], spondylolisthesis=1), *HEALTHY[2:])
    steps = []
    for findings in (HEALTHY, slipped):
        label = central_slice(findings)[1]
        steps.append(centroid(anterior_body(label, 1))[1] - centroid(anterior_body(label, 2))[1])
    assert 4.0 < steps[1] - steps[0] < 12.0


def test_a_herniated_disc_reaches_into_the_canal() -> None:
    herniated = (*HEALTHY[:2], replace(HEALTHY[2], herniation=1), *HEALTHY[3:])
    canal = [(central_slice(findings)[1] == CANAL_VALUE).sum() for findings in (HEALTHY, herniated)]
    assert canal[1] < canal[0] - 10


def test_gradings_name_every_wholly_visible_disc_with_its_findings(phantoms: Path) -> None:
    gradings = pd.read_csv(phantoms / "radiological_gradings.csv")
    for patient, rows in gradings.groupby("Patient"):
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(phantoms / "masks" / f"{patient}_t2.mha")))
        discs = set(mask[mask >= FIRST_DISC]) - set(mask[:, 0].ravel())
        assert rows["IVD label"].tolist() == [int(value) - 200 for value in sorted(discs)]
        _, findings = make_spine(patient, 0, SMALL.height)
        assert rows["Disc narrowing"].tolist() == [findings[n - 1].narrowing for n in rows["IVD label"]]
        assert rows["Pfirrman grade"].tolist() == [findings[n - 1].pfirrmann for n in rows["IVD label"]]


def test_gradings_are_frequent_as_in_spider_and_consistent() -> None:
    patients = [draw_findings(np.random.default_rng([0, patient])) for patient in range(300)]
    discs = [finding for findings in patients for finding in findings[:7]]
    slips = np.mean([any(finding.spondylolisthesis for finding in findings) for findings in patients])
    assert 0.15 < slips < 0.35  # SPIDER: 39 of 218 patients
    assert 0.15 < np.mean([finding.narrowing for finding in discs]) < 0.45  # SPIDER: 0.36
    assert all(finding.pfirrmann >= 4 for finding in discs if finding.narrowing or finding.modic)
    assert {finding.pfirrmann for finding in discs} == {1, 2, 3, 4, 5}


def test_overview_counts_what_the_masks_show(phantoms: Path) -> None:
    overview = pd.read_csv(phantoms / "overview.csv").set_index("new_file_name")
    for name, row in overview.iterrows():
        values = np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(phantoms / "masks" / f"{name}.mha"))))
        assert row["num_discs"] == (values > 200).sum()
        assert row["num_vertebrae"] == (values > 0).sum() - (values > 200).sum() - 1  # less the canal


def test_a_patient_depends_on_seed_and_number_alone(phantoms: Path, tmp_path: Path) -> None:
    spine, _ = make_spine(7, 0, SMALL.height)
    image, _ = make_scan(spine, 7, "t2", 0, SMALL)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(phantoms / "images" / "7_t2.mha")))
    assert np.array_equal(sitk.GetArrayFromImage(image), written)
    other_seed, _ = make_scan(make_spine(7, 1, SMALL.height)[0], 7, "t2", 1, SMALL)
    assert not np.array_equal(sitk.GetArrayFromImage(other_seed), written)


@pytest.mark.parametrize(
    ("patients", "seed", "expected"), [((), 0, "patient numbers"), ((0, 1), 0, "patient numbers"), ((1,), -1, "seed")]
)
def test_bad_requests_are_refused(tmp_path: Path, patients: tuple[int, ...], seed: int, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        write_phantoms(tmp_path / "none", patients, seed)
    assert not (tmp_path / "none").exists()


def test_a_field_of_view_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="field of view"):
        Protocol(in_plane=1.0, rows=64)
