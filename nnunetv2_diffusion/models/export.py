"""A trained model, and the baseline that it refines, as one zip file: the same model gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from nnunetv2_diffusion.files import checksum, read_json, replacing
from nnunetv2_diffusion.inference.checkpoints import load_checkpoint
from nnunetv2_diffusion.inference.identity import TRAINING_FILES, model_hash
from nnunetv2_diffusion.inference.previous_stage import baseline_folder
from nnunetv2_diffusion.inference.trained_models import TrainedModel, find_folds, read_model
from nnunetv2_diffusion.models.card import Statements, describe
from nnunetv2_diffusion.models.layout import CARD
from nnunetv2_diffusion.nnunet_names import CALIBRATION_FILE, CHECKPOINT, DATASET_FILE, PLANS_FILE, fold_folder

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip file can name: times of files would make every export another one
_KEPT = ("trainer_name", "inference_allowed_mirroring_axes", "current_epoch")


def export_model(
    folder: Path,
    output: Path,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = CHECKPOINT,
    statements: Statements | None = None,
    trust: bool = False,
    say: Callable[[str], None] = print,
) -> str:
    """Write a model as a zip file that `spinesegdiff install` and nnU-Net's own installer take.

    It holds the weights without the optimiser's state, plans, dataset.json, a calibration where there is one, and the
    card; for a pre-segmentation stage also its baseline. Left behind are what names patients or the machine: nnU-Net's
    summaries, and its list of training files.

    Args:
        folder: of the model.
        output: the .zip file.
        folds: see `find_folds`.
        checkpoint: which one to take; in the zip file it is called as nnU-Net calls the final one.
        statements: for the card.
        trust: see `load_checkpoint`.
        say: told of every fold.

    Returns:
        The zip file's SHA-256.

    Raises:
        FileNotFoundError: no such model, fold, or baseline.
        ValueError: a damaged checkpoint, or one that could run code.
        OSError: the file cannot be written.
    """
    folder, folds = folder.resolve(), find_folds(folder, checkpoint, folds)
    with replacing(output) as partial, zipfile.ZipFile(partial, "w") as archive:
        writer = _Writer(archive, folder.parent, trust, say)
        card, found = writer.add_model(folder, folds, checkpoint, statements or Statements())
        baseline = None
        if found.configuration_manager.previous_stage_name is not None:
            refined = baseline_folder(folder, found.configuration_name)
            baseline = _hash(writer.add_model(refined, find_folds(refined, CHECKPOINT), CHECKPOINT, Statements())[1])
        card = {**card, "hash": _hash(found, baseline), "files": dict(sorted(writer.hashes.items()))}
        writer.add(folder / CARD, _as_json(card))
    return checksum(output)


def _hash(model: TrainedModel, baseline: str | None = None) -> str:
    return model_hash(
        trainer=model.trainer_name,
        configuration=model.configuration_name,
        plans=model.plans_manager.plans,
        dataset_json=model.dataset_json,
        parameters=model.parameters,
        baseline=baseline,
    )


class _Writer:
    """Adds files to a zip archive under their places in nnU-Net's results, and keeps their hashes."""

    def __init__(self, archive: zipfile.ZipFile, dataset: Path, trust: bool, say: Callable[[str], None]):
        self.archive, self.results, self.trust, self.say = archive, dataset.parent, trust, say
        self.hashes: dict[str, str] = {}

    def add(self, path: Path, content: bytes) -> None:
        """A member of that content, with the same bytes whenever and wherever it is written."""
        name = path.relative_to(self.results).as_posix()
        member = zipfile.ZipInfo(name, _EARLIEST)
        member.create_system, member.external_attr = 3, 0o644 << 16
        # weights do not compress
        member.compress_type = zipfile.ZIP_STORED if path.suffix == ".pth" else zipfile.ZIP_DEFLATED
        self.archive.writestr(member, content)
        self.hashes[name] = hashlib.sha256(content).hexdigest()

    def add_model(
        self, folder: Path, folds: Sequence[int | str], checkpoint: str, statements: Statements
    ) -> tuple[dict[str, Any], TrainedModel]:
        """The files of a model; its card and the model itself."""
        model = read_model(folder, folds, checkpoint, self.trust)
        plans, dataset = read_json(folder / PLANS_FILE), _without_training_files(read_json(folder / DATASET_FILE))
        self.add(folder / PLANS_FILE, _as_json(plans))
        self.add(folder / DATASET_FILE, _as_json(dataset))
        if (folder / CALIBRATION_FILE).is_file():
            self.add(folder / CALIBRATION_FILE, (folder / CALIBRATION_FILE).read_bytes())
        epochs = []
        for fold in folds:
            kept = load_checkpoint(fold_folder(folder, fold) / checkpoint, self.trust)
            epochs.append(kept.get("current_epoch"))
            content = _slim(kept, plans, dataset)
            self.add(fold_folder(folder, fold) / CHECKPOINT, content)
            self.say(f"{folder.name}, fold {fold}: {len(content) / 2**20:.0f} MiB")
        return describe(model, folder, folds, epochs, statements), model


def _slim(checkpoint: dict[str, Any], plans: dict[str, Any], dataset: dict[str, Any]) -> bytes:
    """A checkpoint with what prediction needs alone, in nnU-Net's form; weights are copied out of shared storage."""
    weights = {name: tensor.detach().clone() for name, tensor in checkpoint["network_weights"].items()}
    own = checkpoint["init_args"]
    init_args = {
        "plans": plans,
        "configuration": own["configuration"],
        "fold": own.get("fold"),
        "dataset_json": dataset,
        "device": torch.device("cpu"),
    }
    kept = {name: checkpoint[name] for name in _KEPT if name in checkpoint}
    stream = io.BytesIO()
    torch.save({**kept, "network_weights": weights, "init_args": init_args}, stream)
    return stream.getvalue()


def _without_training_files(dataset: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in dataset.items() if name != TRAINING_FILES}


def _as_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
