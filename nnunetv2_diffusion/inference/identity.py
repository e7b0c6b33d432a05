"""The SHA-256 that tells one trained model from another: of weights and plans, wherever the files were copied to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

# nnU-Net's list of training files, where a dataset has one: paths of the machine that trained.
TRAINING_FILES = "dataset"


def weights_hash(parameters: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of a network's weights: names, types, shapes and bytes, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(parameters):
        tensor = parameters[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def model_hash(
    *,
    trainer: str,
    configuration: str,
    plans: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
    parameters: Sequence[Mapping[str, torch.Tensor]],
    baseline: str | None = None,
) -> str:
    """SHA-256 of all that decides what a model answers, the same before and after `spinesegdiff export`.

    Args:
        trainer, configuration: their names.
        plans, dataset_json: the contents of the model's files.
        parameters: the weights of each fold that is averaged.
        baseline: the hash of the model whose masks this one refines.
    """
    described = {
        "trainer": trainer,
        "configuration": configuration,
        "plans": plans,
        "dataset": {name: value for name, value in dataset_json.items() if name != TRAINING_FILES},
        "weights": [weights_hash(fold) for fold in parameters],
        "baseline": baseline,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
