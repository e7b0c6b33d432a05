"""Checkpoints are written whole, a former one is kept, and a damaged one is named and replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers.nnunet_samples import TinyProject
from helpers.trainer_samples import trainer_of
from nnunetv2_diffusion.trainers.nnUNetTrainerDiceLoss_250epochs import nnUNetTrainerDiceLoss_250epochs
from nnunetv2_diffusion.trainers.nnUNetTrainerDiffusion import nnUNetTrainerDiffusion
from nnunetv2_diffusion.trainers.nnUNetTrainerIISDM import nnUNetTrainerIISDM

LATEST, PREVIOUS, BEST, FINAL = (f"checkpoint_{name}.pth" for name in ("latest", "previous", "best", "final"))


@pytest.fixture
def trainer(tiny: TinyProject, tmp_path: Path) -> nnUNetTrainerDiffusion:
    return into(tmp_path, trainer_of(tiny))


def into(folder: Path, trainer: nnUNetTrainerDiffusion) -> nnUNetTrainerDiffusion:
    """The trainer with its results and its log in a folder of the test's own."""
    trainer.output_folder, trainer.log_file = str(folder), str(folder / "training_log.txt")
    return trainer


def save(trainer: nnUNetTrainerDiffusion, name: str, epoch: int) -> Path:
    trainer.current_epoch = epoch
    path = Path(trainer.output_folder) / name
    trainer.save_checkpoint(str(path))
    return path


def epoch_of(path: Path) -> int:
    """The epoch at which it was saved."""
    return torch.load(path, weights_only=False)["current_epoch"] - 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Some bytes of a weight, with the file's length and its directory as they were."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64 * [0xA5])
    path.write_bytes(bytes(content))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_latest_is_named_and_the_one_before_goes_on(trainer, tmp_path: Path, tiny: TinyProject, damage):
    save(trainer, BEST, 20)
    for epoch in (49, 99):
        latest = save(trainer, LATEST, epoch)
    damage(latest)
    other = into(tmp_path, trainer_of(tiny))
    other.load_checkpoint(str(latest))
    assert other.current_epoch == 50
    log = Path(other.log_file).read_text()
    assert f"{latest} is damaged or truncated: going on from {PREVIOUS}, at epoch 50" in log
    # The good one stays until the damaged one is replaced, and is kept when that is replaced in turn.
    save(other, LATEST, 149)
    assert (epoch_of(tmp_path / PREVIOUS), epoch_of(latest)) == (49, 149)
    save(other, LATEST, 199)
    assert (epoch_of(tmp_path / PREVIOUS), epoch_of(latest)) == (149, 199)


@pytest.mark.parametrize("best", [70, 20])
def test_the_one_that_went_furthest_takes_its_place(trainer, best: int):
    for epoch in (49, 99):
        latest = save(trainer, LATEST, epoch)
    save(trainer, BEST, best)
    cut(latest)
    trainer.load_checkpoint(str(latest))
    assert trainer.current_epoch == 1 + max(best, 49)


@pytest.mark.parametrize("name", [LATEST, BEST, FINAL])
def test_damage_that_nothing_can_replace_is_one_sentence(trainer, name: str):
    path = save(trainer, name, 3)
    cut(path)
    with pytest.raises(ValueError, match=rf"{name} is damaged or truncated, and nothing can take its place; copy it"):
        trainer.load_checkpoint(str(path))


def test_a_whole_checkpoint_of_another_network_is_not_called_damaged(trainer, tiny: TinyProject, tmp_path: Path):
    for epoch in (49, 99):
        latest = save(trainer, LATEST, epoch)
    other = into(tmp_path, trainer_of(tiny, trainer_class=nnUNetTrainerIISDM))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_checkpoint(str(latest))


def test_a_write_that_fails_leaves_what_was_there(trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for epoch in (49, 99):
        latest = save(trainer, LATEST, epoch)

    def half(checkpoint: dict, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(torch, "save", half)
        save(trainer, LATEST, 149)
    assert epoch_of(latest) == 99
    assert sorted(path.name for path in tmp_path.glob("*") if path.is_file()) == [LATEST, PREVIOUS]


def test_another_trainings_checkpoint_is_not_kept_as_this_ones(trainer, tiny: TinyProject, tmp_path: Path):
    for epoch in (499, 549):
        save(trainer, LATEST, epoch)
    afresh = into(tmp_path, trainer_of(tiny))
    save(afresh, LATEST, 49)
    assert not (tmp_path / PREVIOUS).exists()
    save(afresh, LATEST, 99)
    assert epoch_of(tmp_path / PREVIOUS) == 49


def test_a_disk_without_hard_links_keeps_a_copy(trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*paths: Path) -> None:
        raise OSError("not supported")

    monkeypatch.setattr("os.link", refuse)
    for epoch in (49, 99):
        save(trainer, LATEST, epoch)
    assert epoch_of(tmp_path / PREVIOUS) == 49


def test_the_end_of_a_training_leaves_its_best_and_final_checkpoints(trainer, tmp_path: Path):
    save(trainer, BEST, 10)
    for epoch in (49, 99):
        save(trainer, LATEST, epoch)
    trainer.current_epoch = 150
    trainer.on_train_end()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == [BEST, FINAL]
    assert epoch_of(tmp_path / FINAL) == 149


def test_the_baseline_writes_its_checkpoints_as_carefully(tiny: TinyProject, tmp_path: Path):
    baseline = into(tmp_path, trainer_of(tiny, trainer_class=nnUNetTrainerDiceLoss_250epochs))
    for epoch in (49, 99):
        latest = save(baseline, LATEST, epoch)
    cut(latest)
    baseline.load_checkpoint(str(latest))
    assert baseline.current_epoch == 50
