"""Checkpoints that a crash at any moment leaves whole, one former one kept, and what a damaged one is replaced by."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_diffusion.files import is_whole_archive, replacing
from nnunetv2_diffusion.nnunet_names import BEST_CHECKPOINT, LATEST_CHECKPOINT, PREVIOUS_CHECKPOINT


class WholeCheckpoints(nnUNetTrainer):
    """Mixed into a trainer before nnU-Net's own: where and when checkpoints are written stays nnU-Net's."""

    # Of a `checkpoint_latest.pth` that is there: "other" training's, of this one and "good", or "damaged".
    _latest = "other"

    def save_checkpoint(self, filename: str) -> None:
        """As nnU-Net, beside the place and then renamed; a `checkpoint_latest.pth` is kept as the previous one."""
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        path = Path(filename)
        if path.name == LATEST_CHECKPOINT:
            self._keep_previous(path)
        with replacing(path) as partial:
            super().save_checkpoint(str(partial))

    def _keep_previous(self, latest: Path) -> None:
        """A second name for the file that is about to be replaced, so that one whole file lies there at any moment."""
        previous = latest.with_name(PREVIOUS_CHECKPOINT)
        if self._latest == "other":
            previous.unlink(missing_ok=True)
        elif self._latest == "good" and latest.exists():
            with replacing(previous) as partial:
                try:
                    os.link(latest, partial)
                except OSError:  # a disk without hard links
                    shutil.copyfile(latest, partial)
        self._latest = "good"

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """As nnU-Net; in place of a damaged `checkpoint_latest.pth` the one of this fold that went furthest.

        Raises:
            ValueError: the file is damaged, and no other can take its place.
        """
        path = Path(filename_or_checkpoint)
        if is_whole_archive(path):
            super().load_checkpoint(filename_or_checkpoint)
            self._latest = "good"
            return
        other = _furthest(path) if path.name == LATEST_CHECKPOINT else None
        if other is None:
            raise ValueError(
                f"{path} is damaged or truncated, and nothing can take its place; copy it from a backup, or train this "
                "fold again without --c"
            )
        super().load_checkpoint(str(other))
        self._latest = "damaged"
        self.print_to_log_file(
            f"{path} is damaged or truncated: going on from {other.name}, at epoch {self.current_epoch}"
        )

    def on_train_end(self) -> None:
        """As nnU-Net; the previous checkpoint goes with the latest."""
        super().on_train_end()
        if self.local_rank == 0:
            (Path(self.output_folder) / PREVIOUS_CHECKPOINT).unlink(missing_ok=True)


def _furthest(damaged: Path) -> Path | None:
    """Of the other whole checkpoints beside it the one of the highest epoch; opened as nnU-Net opens them."""
    others = [damaged.with_name(name) for name in (PREVIOUS_CHECKPOINT, BEST_CHECKPOINT)]
    whole = [path for path in others if path.is_file() and is_whole_archive(path)]
    epochs = {path: torch.load(path, map_location="cpu", weights_only=False)["current_epoch"] for path in whole}
    return max(epochs, key=epochs.get, default=None)
