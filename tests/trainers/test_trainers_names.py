"""Trainers as nnU-Net finds and makes them: names, lengths, settings, what they refuse."""

from __future__ import annotations

import inspect
import json
import pickle
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from helpers.console import run
from helpers.nnunet_samples import TinyProject
from nnunetv2_diffusion.settings import Settings
from nnunetv2_diffusion.trainers import every_trainer
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDMEpsilon import nnUNetTrainerIISDMEpsilon
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPaper import nnUNetTrainerSpineSegDiffPaper
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiffPreSeg import nnUNetTrainerSpineSegDiffPreSeg

LENGTHS = {
    "nnUNetTrainerSpineSegDiff": 810,
    "nnUNetTrainerSpineSegDiff_10steps": 2,
    "nnUNetTrainerSpineSegDiff_5epochs": 5,
    "nnUNetTrainerSpineSegDiff_50epochs": 50,
    "nnUNetTrainerSpineSegDiff_250epochs": 250,
    "nnUNetTrainerSpineSegDiffPreSeg": 810,
    "nnUNetTrainerSpineSegDiffPreSeg_10steps": 2,
    "nnUNetTrainerSpineSegDiffPreSeg_5epochs": 5,
    "nnUNetTrainerSpineSegDiffPreSeg_50epochs": 50,
    "nnUNetTrainerSpineSegDiffPreSeg_250epochs": 250,
    "nnUNetTrainerSpineSegDiffControl": 810,
    "nnUNetTrainerSpineSegDiffControl_10steps": 2,
    "nnUNetTrainerSpineSegDiffControl_5epochs": 5,
    "nnUNetTrainerSpineSegDiffControl_50epochs": 50,
    "nnUNetTrainerSpineSegDiffControl_250epochs": 250,
    "nnUNetTrainerSpineSegDiffPaper": 810,
    "nnUNetTrainerSpineSegDiffPaper_10steps": 2,
    "nnUNetTrainerSpineSegDiffPaper_5epochs": 5,
    "nnUNetTrainerSpineSegDiffPaper_50epochs": 50,
    "nnUNetTrainerSpineSegDiffPaper_250epochs": 250,
    "nnUNetTrainerSpineSegDiffOneStep": 810,
    "nnUNetTrainerSpineSegDiffOneStep_10steps": 2,
    "nnUNetTrainerSpineSegDiffOneStep_5epochs": 5,
    "nnUNetTrainerSpineSegDiffOneStep_50epochs": 50,
    "nnUNetTrainerSpineSegDiffOneStep_250epochs": 250,
    "nnUNetTrainerIISDM": 337,
    "nnUNetTrainerIISDM_10steps": 2,
    "nnUNetTrainerIISDM_5epochs": 5,
    "nnUNetTrainerIISDM_50epochs": 50,
    "nnUNetTrainerIISDM_250epochs": 250,
    "nnUNetTrainerIISDMEpsilon": 337,
    "nnUNetTrainerIISDMEpsilon_10steps": 2,
    "nnUNetTrainerIISDMEpsilon_5epochs": 5,
    "nnUNetTrainerIISDMEpsilon_50epochs": 50,
    "nnUNetTrainerIISDMEpsilon_250epochs": 250,
    "nnUNetTrainerDiceLoss_10steps": 2,
    "nnUNetTrainerDiceLoss_250epochs": 250,
}


def plans_of(tiny: TinyProject, number: int) -> tuple[dict, dict]:
    """The plans as nnUNetv2_train hands them over, and dataset.json."""
    folder = tiny.preprocessed(number)
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    return {**plans, "continue_training": False}, json.loads((folder / "dataset.json").read_text())


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the command prints, set as a user sets it."""
    folder = Path(run("spinesegdiff", "trainers").strip())
    monkeypatch.setenv("nnUNet_extTrainer", str(folder))
    return folder


def test_nnunet_finds_every_trainer_and_makes_it_of_its_length(tiny: TinyProject, extension: Path):
    number = tiny.dataset()
    for name, epochs in LENGTHS.items():
        trainer_class = recursive_find_trainer_class_by_name(name)
        assert trainer_class.__name__ == name
        assert (
            list(inspect.signature(trainer_class.__init__).parameters)[1:]
            == list(inspect.signature(nnUNetTrainer.__init__).parameters)[1:]
        )
        if "PreSeg" not in name:
            trainer = trainer_class(
                *plans_of(tiny, number)[:1], "2d", 0, plans_of(tiny, number)[1], torch.device("cpu")
            )
            steps = 5 if name.endswith("_10steps") else 250
            assert (trainer.num_epochs, trainer.num_iterations_per_epoch) == (epochs, steps)
        else:
            assert trainer_class.epochs == epochs


def test_the_full_length_is_the_papers_budget_of_steps():
    assert nnUNetTrainerSpineSegDiff.epochs * 250 == 2500 * 324 // 4
    assert nnUNetTrainerSpineSegDiffPreSeg.epochs == nnUNetTrainerSpineSegDiff.epochs


def test_what_departs_from_the_papers_recipe():
    paper, ours = nnUNetTrainerSpineSegDiffPaper.settings.as_dict(), nnUNetTrainerSpineSegDiff.settings.as_dict()
    assert nnUNetTrainerSpineSegDiffPaper.settings == nnUNetTrainerSpineSegDiffPreSeg.settings == Settings()
    changed = {name: (paper[name], ours[name]) for name in paper if paper[name] != ours[name]}
    assert changed == {"mask_scale": (1, 0.1), "sampling_steps": (5, 2), "ensemble_steps": (5, 2)}


def test_the_extension_is_a_single_file_of_imports(extension: Path):
    files = [path for path in extension.rglob("*") if "__pycache__" not in path.parts]
    assert len(files) == 1
    statements = [line for line in files[0].read_text().splitlines() if line and line[0] not in ' )]"']
    assert all(line.startswith("from ") for line in statements)


def test_every_trainer_is_listed_by_the_name_that_a_checkpoint_keeps():
    assert set(every_trainer.__all__) == set(LENGTHS)
    for name in every_trainer.__all__:
        trainer_class = getattr(every_trainer, name)
        assert pickle.loads(pickle.dumps(trainer_class)) is trainer_class
        assert trainer_class.__name__ == name
        assert trainer_class.__doc__


@pytest.mark.parametrize(
    ("trainer_class", "asked", "message"),
    [
        (nnUNetTrainerSpineSegDiff, "noise", "predicts x_start, but .* sets prediction to noise; remove it"),
        (nnUNetTrainerIISDM, "noise", "predicts velocity, but .* sets prediction to noise"),
        (nnUNetTrainerIISDMEpsilon, "velocity", "predicts noise, but .* sets prediction to velocity"),
    ],
)
def test_a_prediction_that_the_loss_is_not_made_for_is_refused(tiny: TinyProject, trainer_class, asked, message):
    plans, dataset_json = plans_of(tiny, tiny.dataset())
    plans["configurations"]["2d"]["diffusion"] = {"prediction": asked}
    with pytest.raises(ValueError, match=message):
        trainer_class(plans, "2d", 0, dataset_json, torch.device("cpu"))


def test_an_old_block_of_iisdm_still_trains_what_it_meant(tiny: TinyProject):
    plans, dataset_json = plans_of(tiny, tiny.dataset())
    plans["configurations"]["2d"]["diffusion"] = {"prediction": "noise", "noise_weighting": "velocity"}
    trainer = nnUNetTrainerIISDM(plans, "2d", 0, dataset_json, torch.device("cpu"))
    trainer.initialize()
    assert trainer.diffusion_network.settings == nnUNetTrainerIISDM.settings


def test_a_3d_configuration_is_refused_before_anything_is_written(tiny: TinyProject):
    plans, dataset_json = plans_of(tiny, tiny.dataset())
    plans["configurations"]["3d_fullres"] = {**plans["configurations"]["2d"], "patch_size": [16, 32, 32]}
    before = set(tiny.root.rglob("*"))
    with pytest.raises(ValueError, match=r"'3d_fullres' of plans 'nnUNetPlans' has 3 dimensions; use a 2d"):
        nnUNetTrainerSpineSegDiff(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))
    assert set(tiny.root.rglob("*")) == before


def test_pre_segmentation_refuses_a_configuration_without_a_previous_stage(tiny: TinyProject):
    plans, dataset_json = plans_of(tiny, tiny.dataset())
    before = set(tiny.root.rglob("*"))
    with pytest.raises(ValueError, match=r"no pre-segmentation stage.*2d_preseg_T30"):
        nnUNetTrainerSpineSegDiffPreSeg(plans, "2d", 0, dataset_json, torch.device("cpu"))
    assert set(tiny.root.rglob("*")) == before


def test_a_start_from_noise_that_training_does_not_see_is_refused_before_anything_is_written(tiny: TinyProject):
    plans, dataset_json = plans_of(tiny, tiny.dataset())
    plans["configurations"]["2d"]["diffusion"] = {"start_timestep": 300}
    before = set(tiny.root.rglob("*"))
    with pytest.raises(ValueError, match="start_timestep is 300, but without a pre-segmentation"):
        nnUNetTrainerSpineSegDiff(plans, "2d", 0, dataset_json, torch.device("cpu"))
    assert set(tiny.root.rglob("*")) == before


def test_a_diffusion_block_in_the_plans_overrides_the_trainers_settings(tiny: TinyProject):
    plans, dataset_json = plans_of(tiny, tiny.dataset())
    plans["configurations"]["2d"]["diffusion"] = {
        "timesteps": 300,
        "schedule": "cosine",
        "sampling_steps": 3,
        "learning_rate": 2e-3,
    }
    trainer = nnUNetTrainerSpineSegDiff(plans, "2d", 0, dataset_json, torch.device("cpu"))
    trainer.initialize()
    process, sampling = trainer.diffusion_network.process, trainer.diffusion_network.sampling
    assert (process.timesteps, process.schedule, sampling.sampling_steps) == (300, "cosine", 3)
    assert (sampling.ensemble_steps, sampling.samples) == (2, nnUNetTrainerSpineSegDiff.settings.sampling.samples)
    assert len(trainer.alphas_cumprod) == 300
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {2e-3}
    plans["continue_training"] = False
    plans["configurations"]["2d"]["diffusion"] = {"step": 3}
    before = set(tiny.root.rglob("*"))
    with pytest.raises(ValueError, match="unknown diffusion settings step"):
        nnUNetTrainerSpineSegDiff(plans, "2d", 0, dataset_json, torch.device("cpu"))
    assert set(tiny.root.rglob("*")) == before
