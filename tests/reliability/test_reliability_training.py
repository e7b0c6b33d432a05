"""`nnUNetv2_train` killed at any moment and continued with --c: it ends with a model, whole at every moment between."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from helpers.killed_training import EPOCHS, Moment, train
from helpers.nnunet_samples import TRAINER, TinyProject
from nnunetv2_diffusion.files import is_whole_archive

# Two steps an epoch; an epoch writes `latest`, where it is not the last, and then `best`, where it is.
SHORT = [Moment(step=3), Moment(write=2, share=0.5)]
LONG = [
    *(Moment(step=step) for step in (0, 1, 2, 5)),
    *(
        Moment(write=write, share=share)
        for write, share in ((0, 0.0), (0, 0.9), (1, 0.5), (2, 0.1), (2, 1.0), (3, 0.7))
    ),
]


def killed_and_continued(tiny: TinyProject, moments: list[Moment]) -> None:
    number = tiny.dataset()
    fold = tiny.root / "results" / f"Dataset{number}_Tiny" / f"{TRAINER}__nnUNetPlans__2d" / "fold_4"
    for moment in moments:
        shutil.rmtree(fold, ignore_errors=True)
        assert train(tiny.root, number, 4, False, moment) == -9, moment
        assert all(is_whole_archive(path) for path in checkpoints(fold)), moment
        assert train(tiny.root, number, 4, True) == 0, moment
        assert sorted(path.name for path in checkpoints(fold)) == ["checkpoint_best.pth", "checkpoint_final.pth"]
        final = torch.load(fold / "checkpoint_final.pth", weights_only=False)
        assert final["current_epoch"] == EPOCHS
        assert len(final["logging"]["train_losses"]) == EPOCHS
        assert (fold / "validation" / "summary.json").is_file(), moment
        assert list((fold / "validation").glob("*.nii.gz")), moment


def checkpoints(fold: Path) -> list[Path]:
    return list(fold.glob("checkpoint_*.pth"))


def test_a_killed_training_goes_on(tiny: TinyProject):
    killed_and_continued(tiny, SHORT)


@pytest.mark.campaign
def test_a_training_killed_at_ten_moments_goes_on(tiny: TinyProject):
    killed_and_continued(tiny, LONG)
