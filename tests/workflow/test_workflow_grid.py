"""The grid against the paper's tables, counted by hand, and every command's words against the programs' own parsers."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from pathlib import Path

import pytest
import yaml

from nnunetv2_diffusion.cli import build_parser
from nnunetv2_diffusion.report import paper
from nnunetv2_diffusion.report.names import family, modality_name
from nnunetv2_diffusion.spider import DATASETS
from nnunetv2_diffusion.trainers.every_trainer import TRAINERS
from nnunetv2_diffusion.workflow.configuration import PAPER, PHANTOMS
from nnunetv2_diffusion.workflow.grid import Grid, Training


def grid_of(path: Path, **changes: object) -> Grid:
    return Grid({**yaml.safe_load(path.read_text(encoding="utf-8")), **changes}, "/data/SPIDER")


GRID = grid_of(PAPER)


def test_the_papers_grid_has_135_trainings():
    """Three modalities and five folds of SpineSegDiff, IISDM, nnU-Net in 2D and 3D, and of five stages."""
    assert len(GRID.trainings) == len(set(GRID.trainings)) == 3 * 5 * (4 + 5) == 135
    assert Counter(job.rule for job in GRID.jobs()) == {
        "convert": 6,
        "preprocess": 6,
        "plan": 6,
        "train": 135,
        "validate": 3 * 5 * (2 + 5),
        "central_slices": 3,
        "ablate": 3,
        "report": 1,
    }
    names = [job.name for job in GRID.jobs()]
    assert len(names) == len(set(names))


def test_it_has_every_row_of_tables_1_and_2():
    rows = {
        (family(GRID.models[model].trainer), modality_name(dict(DATASETS.values())[dataset]))
        for dataset, model, _ in GRID.trainings
        if GRID.models[model].refines is None and GRID.models[model].dimension == "2d"
    }
    table = paper.table_1()
    assert rows == set(zip(table["family"], table["modality"], strict=True))
    assert set(paper.table_2()["timesteps"]) - {0} == set(GRID.config["pre_segmentation"]["timesteps"])


def test_every_trainer_exists():
    for grid in (GRID, grid_of(PHANTOMS)):
        assert {model.trainer for model in grid.models.values()} <= TRAINERS.keys()


def test_stages_wait_for_all_folds_of_their_baseline_and_only_for_those():
    assert GRID.before_training(502, "preseg_T30") == ["plan-502", *(f"train-502-nnunet-{fold}" for fold in range(5))]
    assert GRID.before_training(502, "nnunet") == ["plan-502"]
    assert GRID.before_training(513, "nnunet_3d") == ["plan-513"]


def test_the_report_waits_for_everything():
    waited = set(GRID.before_report())
    assert {f"train-{d}-{m}-{f}" for d, m, f in GRID.trainings} <= waited
    assert {"ablate-503", "central_slices-512-nnunet_3d", "validate-501-preseg_T1000-4"} <= waited


def test_a_modality_that_is_left_out():
    grid = Grid(GRID.config, GRID.data, ("T1w", "T1wT2w"))
    assert grid.datasets == {502: ("T2w", "2d"), 512: ("T2w", "3d")}
    assert len(grid.trainings) == 45


def test_without_stages_and_volumes():
    models = {key: about for key, about in GRID.config["models"].items() if "dimension" not in about}
    grid = grid_of(PAPER, models=models, pre_segmentation=None)
    assert len(grid.trainings) == 45
    assert not {"ablate", "central_slices"} & {job.rule for job in grid.jobs()}


def parsed(words: str) -> object:
    command, *rest = shlex.split(words)
    return build_parser(command).parse_args([command, *rest])


@pytest.mark.parametrize("grid", [GRID, grid_of(PHANTOMS)], ids=["paper", "phantoms"])
def test_our_commands_understand_their_words(grid: Grid):
    for dataset in grid.datasets:
        assert parsed(f"convert {grid.convert_words(dataset)}").modality == grid.datasets[dataset][0]
        assert parsed(f"plan {grid.plan_words(dataset)}").dataset == str(dataset)
    for dataset in grid.ablated:
        assert parsed(f"ablate {grid.ablate_words(dataset)}").timesteps[0] == 0
    for dataset, model, fold in grid.validations:
        assert parsed(f"validate {grid.model_words(dataset, model)} -f {fold}").tr == grid.models[model].trainer
    for dataset, model in grid.volumes:
        assert parsed(f"evaluate {grid.central_slices_words(dataset, model)}").central_slice
    assert parsed(f"report {grid.report_words()}").spider == grid.data


def test_words_by_hand():
    assert GRID.train_words(502, "preseg_T30", 4) == (
        "502 2d_preseg_T30 4 -tr nnUNetTrainerSpineSegDiffPreSeg -device cuda --c"
    )
    assert grid_of(PAPER, gpus_per_training=2).train_words(511, "nnunet_3d", 0) == (
        "511 3d_paper 0 -tr nnUNetTrainerDiceLoss_250epochs -device cuda --c -num_gpus 2"
    )
    assert GRID.plan_words(502) == (
        "-d 502 --paper-baselines --base 2d_spinesegdiff --previous-trainer nnUNetTrainerDiceLoss_250epochs "
        "--timesteps 30 100 300 500 1000"
    )
    assert GRID.plan_words(512) == "-d 512 --paper-baselines"
    assert GRID.preprocess_words(512) == "-d 512 -c 3d_fullres --verify_dataset_integrity"
    assert GRID.convert_words(513) == "/data/SPIDER --modality T1wT2w --dimension 3d"
    assert grid_of(PHANTOMS).convert_words(501).endswith("--dimension 2d --size 112 64 --spacing 2.25")
    assert GRID.central_slices_words(511, "nnunet_3d") == (
        "-ref nnUNet_raw/Dataset501_SPIDER_T1w/labelsTr -pred nnUNet_results/Dataset511_SPIDER_T1w_3D/"
        "nnUNetTrainerDiceLoss_250epochs__nnUNetPlans__3d_paper/crossval_results_folds_0_1_2_3_4 --central-slice "
        "-o tables/central_slices-511-nnunet_3d"
    )


def test_a_folder_with_a_space():
    grid = Grid(GRID.config, "/data/my SPIDER")
    assert shlex.split(grid.convert_words(502))[0] == "/data/my SPIDER"
    assert "/data/my SPIDER" in shlex.split(grid.report_words())


def test_environment(tmp_path: Path):
    ours = GRID.environment(tmp_path)
    assert ours["nnUNet_results"] == str(tmp_path / "nnUNet_results")
    assert Path(ours["nnUNet_extTrainer"]).name == "extension"
    assert (ours["SPINESEGDIFF_SAVE_EVERY"], ours["SPINESEGDIFF_TRAINING_SEED"]) == ("1", "0")
    assert "nnUNet_n_proc_DA" not in ours
    assert grid_of(PHANTOMS).environment(tmp_path)["nnUNet_n_proc_DA"] == "0"
    assert not set(ours) & set(os.environ) - {"nnUNet_extTrainer", "MPLBACKEND", "PYTHONUNBUFFERED"}


def test_a_training_is_named_by_dataset_model_and_fold():
    assert Training(501, "spinesegdiff", 0) in GRID.trainings
