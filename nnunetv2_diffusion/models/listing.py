"""What `spinesegdiff models` prints: a line an installed model, or a model's card."""

from __future__ import annotations

import json

from nnunetv2_diffusion.models.store import find, installed_models, models_folder
from nnunetv2_diffusion.nnunet_names import CHECKPOINT, ModelName, folds_with


def list_models() -> str:
    """A line for each installed model: name, dataset, trainer, configuration, folds."""
    lines = []
    for model in installed_models():
        name = ModelName.of_folder(model.folder)
        folds = " ".join(folds_with(model.folder, CHECKPOINT))
        lines.append(f"{model.name}: {model.folder.parent.name}, {name.trainer}, {name.configuration}, folds {folds}")
    return "\n".join(lines) or f"no model is installed in {models_folder()}"


def show_model(name: str) -> str:
    """Where a model lies, what it came from, and its card; see `store.find` for errors."""
    model = find(name)
    shown = {"folder": str(model.folder), "source": model.record.get("source"), "sha256": model.record.get("sha256")}
    return json.dumps({**shown, "card": model.card}, indent=2)
