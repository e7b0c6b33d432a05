"""`-pretrained_weights` from datasets with other labels: what fits is loaded, what does not is named in the log."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

from helpers.nnunet_samples import TRAINER, TinyProject

FIRST = ("denoiser.encoder.stages.0.0.convs.0.conv.weight", "denoiser.encoder.stages.0.0.convs.0.all_modules.0.weight")


def trainer_for(number: int, name: str = TRAINER):
    return get_trainer_from_args(str(number), "2d", 0, name, device=torch.device("cpu"))


def test_a_model_of_two_labels_is_the_start_for_one_of_three(tiny: TinyProject):
    source = tiny.model(kind="binary") / "fold_0" / "checkpoint_final.pth"
    trainer = trainer_for(tiny.dataset(kind="labels"))
    trainer.initialize()
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    maybe_load_checkpoint(trainer, False, False, str(source))
    after, given = trainer.network.state_dict(), torch.load(source, weights_only=False)["network_weights"]
    other = {name for name, value in after.items() if value.shape != given[name].shape}
    last = {name for name in other if ".seg_layers." in name}
    assert last and other - last == set(FIRST)
    for name, value in after.items():
        assert torch.equal(value, before[name] if name in other else given[name]), name
    log = Path(trainer.log_file).read_text()
    shapes = r"8 x 4 x 3 x 3, in the file 8 x 3 x 3 x 3"
    for name in FIRST:
        assert f"not loaded: {name} {shapes}" in log
    offered = len(after) - 1  # the process stays this training's own
    assert f"{offered - len(other)} of {offered - len(last)} tensors fit and were loaded" in log
    assert not [name for name in last if name in log]


def test_a_file_of_which_nothing_fits_is_refused(tiny: TinyProject, tmp_path: Path):
    torch.save({"network_weights": {"regions": torch.tensor(True), "other": torch.zeros(3)}}, tmp_path / "other.pth")
    trainer = trainer_for(tiny.dataset(kind="labels"))
    with pytest.raises(ValueError, match=r"nothing in .*other\.pth fits this network; name a checkpoint"):
        maybe_load_checkpoint(trainer, False, False, str(tmp_path / "other.pth"))


def test_nnunets_own_networks_are_loaded_as_nnunet_does(tiny: TinyProject):
    trainer_for(tiny.dataset(kind="labels")).initialize()
    source = tiny.model(kind="binary", trainer="TinyPlainTrainer") / "fold_0" / "checkpoint_final.pth"
    plain = trainer_for(tiny.dataset(kind="labels"), "TinyPlainTrainer")
    maybe_load_checkpoint(plain, False, False, str(source))
    given = torch.load(source, weights_only=False)["network_weights"]
    for name, value in plain.network.state_dict().items():
        assert torch.equal(value, given[name]) == (".seg_layers." not in name) or value.numel() < 4, name
    with pytest.raises(AssertionError, match="is missing in the pretrained model weights"):
        maybe_load_checkpoint(plain, False, False, str(tiny.model(kind="binary") / "fold_0" / "checkpoint_final.pth"))
