"""Masks of a baseline for its pre-segmentation stage: each part its own, made anew where a file's time says nothing."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from helpers.nnunet_samples import TinyProject, blobs, slice_image, write_case
from helpers.prediction_samples import assert_same, stock_masks, volumes
from nnunetv2_diffusion.inference import image_folder
from nnunetv2_diffusion.inference.previous_stage import Part, check_previous_stage_masks, predict_pre_segmentations
from nnunetv2_diffusion.inference.runtime import Runtime

CASES = "abcde"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed, case in enumerate(CASES):
        write_case(folder, case, blobs(seed, (32, 32)), channels=1, seed=seed)
    return folder


@pytest.fixture
def baseline(tiny: TinyProject, tmp_path: Path) -> Path:
    """A copy, in which folds may be changed."""
    model = tiny.model(trainer="TinyPlainTrainer")
    others = shutil.ignore_patterns("fold_[1-9]*", "fold_all")  # other tests may have trained them
    return shutil.copytree(model, tmp_path / model.name, ignore=others)


def predicted(baseline: Path, images: Path, output: Path, *part: int) -> dict[str, int]:
    """The masks in the folder after a call for a part, by case, and when each was written."""
    predict_pre_segmentations(baseline, str(images), output, Runtime("cpu"), Part(*part))
    return {path.name.removesuffix(".nii.gz"): path.stat().st_mtime_ns for path in output.glob("*.nii.gz")}


def test_each_part_predicts_its_own_cases_alone(baseline: Path, images: Path, tmp_path: Path):
    """nnU-Net's part is cases[index::number] of the sorted cases."""
    output = tmp_path / "out"
    first = predicted(baseline, images, output, 2, 1)
    assert sorted(first) == ["b", "d"]
    both = predicted(baseline, images, output, 2, 0)
    assert sorted(both) == list(CASES) and both == {**both, **first}
    assert_same(volumes(output), volumes(stock_masks(baseline, images, tmp_path / "stock")))
    assert predicted(baseline, images, tmp_path / "none", 9, 8) == {}


def test_masks_of_the_same_weights_are_kept_whatever_the_times_say(baseline: Path, images: Path, tmp_path: Path):
    first = predicted(baseline, images, tmp_path / "out")
    os.utime(baseline / "fold_0" / "checkpoint_final.pth", (2**31, 2**31))
    assert predicted(baseline, images, tmp_path / "out") == first


def test_masks_of_other_weights_or_images_are_predicted_anew(
    tiny: TinyProject, baseline: Path, images: Path, tmp_path: Path
):
    output = tmp_path / "out"
    first = predicted(baseline, images, output)
    other = tiny.model(fold=1, trainer="TinyPlainTrainer") / "fold_1" / "checkpoint_final.pth"
    shutil.copy(other, baseline / "fold_0" / other.name)
    os.utime(baseline / "fold_0" / other.name, (0, 0))  # older than every mask
    second = predicted(baseline, images, output)
    assert all(second[case] > first[case] for case in CASES)
    assert_same(volumes(output), volumes(stock_masks(baseline, images, tmp_path / "stock")))
    changed = shutil.copytree(images, tmp_path / "changed")
    shutil.copy(images / "a_0000.nii.gz", changed / "c_0000.nii.gz")
    third = predicted(baseline, changed, output)
    assert [case for case in CASES if third[case] != second[case]] == ["c"]


def test_masks_without_a_record_or_half_written_are_predicted_anew(baseline: Path, images: Path, tmp_path: Path):
    output = tmp_path / "out"
    predicted(baseline, images, output)
    whole = volumes(output)
    (output / "a.nii.gz").write_bytes((output / "b.nii.gz").read_bytes())
    (output / "made_of" / "a.json").unlink()
    (output / "b.nii.gz").write_bytes((output / "b.nii.gz").read_bytes()[:-20])
    predicted(baseline, images, output)
    assert_same(volumes(output), whole)


def test_predict_hands_its_part_on(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = SimpleNamespace(
        dataset_json={"file_ending": ".nii.gz", "channel_names": {"0": "MRI"}},
        plans_manager=SimpleNamespace(image_reader_writer_class=SimpleITKIO),
        configuration_manager=SimpleNamespace(previous_stage_name="2d"),
        model_folder=tmp_path,
        configuration_name="2d_preseg_T8",
        runtime=Runtime("cpu"),
        predict_from_files=lambda *files, **options: seen.append((options["num_parts"], options["part_id"])),
    )
    seen: list[tuple] = []
    monkeypatch.setattr(image_folder, "baseline_folder", lambda *model: tmp_path)
    monkeypatch.setattr(image_folder, "predict_pre_segmentations", lambda *given: seen.append(given[-1]) or tmp_path)
    image_folder.predict_folder(model, str(images), str(tmp_path / "out"), num_parts=3, part_id=2)
    assert seen == [(3, 2), (3, 2)]


def test_each_part_looks_at_the_masks_of_its_own_cases_alone(images: Path, tmp_path: Path):
    """Part 1 of 2 has b and d: the masks of the others may not be there yet."""
    for seed, case in enumerate("bd"):
        sitk.WriteImage(slice_image(blobs(seed, (32, 32))), str(tmp_path / f"{case}.nii.gz"))
    check = partial(check_previous_stage_masks, str(images), tmp_path, {"file_ending": ".nii.gz"}, [1, 2])
    check(Part(2, 1))
    with pytest.raises(FileNotFoundError, match="lacks the previous stage's masks of a, c, e"):
        check(Part(2, 0))
    with pytest.raises(FileNotFoundError, match="lacks the previous stage's masks of a, c, e"):
        check(Part())


def test_a_mask_that_links_to_nothing_is_named_as_such(images: Path, tmp_path: Path):
    for seed, case in enumerate(CASES):
        sitk.WriteImage(slice_image(blobs(seed, (32, 32))), str(tmp_path / f"{case}.nii.gz"))
    (tmp_path / "c.nii.gz").unlink()
    (tmp_path / "c.nii.gz").symlink_to("moved/c.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"c\.nii\.gz is a link to moved/c\.nii\.gz, which does not exist"):
        check_previous_stage_masks(str(images), tmp_path, {"file_ending": ".nii.gz"}, [1, 2], Part())
