"""nnU-Net's own training and final validation with our trainers: channels, labels, plans and options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from helpers.nnunet_samples import TRAINER, TinyProject, threads_for_processes
from nnunetv2_diffusion.planning.planner import add_configurations


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in folder.glob("*.nii.gz")}


def checkpoint(model: Path, fold: int | str = 0, name: str = "checkpoint_final.pth") -> dict:
    return torch.load(model / f"fold_{fold}" / name, weights_only=False)


def stock_prediction(tiny: TinyProject, model: Path, number: int, cases: list[str], output: Path) -> Path:
    """nnU-Net's own predictor with the trained model, over the raw images of these cases."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    raw = tiny.root / "raw" / f"Dataset{number}_Tiny" / "imagesTr"
    output.mkdir()
    images = [sorted(str(path) for path in raw.glob(f"{case}_*.nii.gz")) for case in cases]
    predictor.predict_from_files_sequential(images, [str(output / case) for case in cases])
    return output


@pytest.mark.parametrize(
    ("channels", "kind", "planner", "plans", "trainer"),
    [
        (1, "labels", "ExperimentPlanner", "nnUNetPlans", TRAINER),
        (2, "regions", "ExperimentPlanner", "nnUNetPlans", TRAINER),
        (4, "ignore", "ExperimentPlanner", "nnUNetPlans", TRAINER),
        (1, "regions_ignore", "ExperimentPlanner", "nnUNetPlans", TRAINER),
        (1, "labels", "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", TRAINER),
        (1, "regions", "ExperimentPlanner", "nnUNetPlans", "TinyIISDM"),
        (2, "labels", "ExperimentPlanner", "nnUNetPlans", "TinyIISDM"),
        (4, "ignore", "ExperimentPlanner", "nnUNetPlans", "TinyIISDM"),
        (1, "labels", "ExperimentPlanner", "nnUNetPlans", "TinyIISDMEpsilon"),
        (1, "labels", "ExperimentPlanner", "nnUNetPlans", "TinyControl"),
        (2, "regions", "ExperimentPlanner", "nnUNetPlans", "TinyOneStep"),
    ],
)
def test_a_training_leaves_a_model_that_predicts_its_validation_again(
    tiny: TinyProject, tmp_path: Path, channels: int, kind: str, planner: str, plans: str, trainer: str
):
    tiny.dataset(channels, kind)
    number = tiny.dataset(channels, kind, planner)
    model = tiny.train(number, 0, trainer, plans_identifier=plans)
    cases = json.loads((tiny.preprocessed(number) / "splits_final.json").read_text())[0]["val"]
    validated = masks(model / "fold_0" / "validation")
    assert sorted(validated) == [f"{case}.nii.gz" for case in sorted(cases)]
    assert any(mask.any() for mask in validated.values())
    logging = checkpoint(model)["logging"]
    assert np.isfinite([*logging["train_losses"], *logging["val_losses"]]).all()
    again = masks(stock_prediction(tiny, model, number, cases, tmp_path / "again"))
    for name, mask in validated.items():
        assert set(np.unique(mask)) <= {0, 1, 2}
        np.testing.assert_array_equal(again[name], mask)


def test_fold_all_trains_and_validates_on_every_case(tiny: TinyProject):
    model = tiny.model(fold="all")
    assert len(masks(model / "fold_all" / "validation")) == 6


@pytest.mark.parametrize("trainer", ["TinyDiffusionTrainer_2epochs", "TinyIISDM_2epochs", "TinyPreSeg_2epochs"])
def test_a_training_that_was_stopped_continues(tiny: TinyProject, monkeypatch: pytest.MonkeyPatch, trainer: str):
    number, configuration = tiny.dataset(), "2d"
    if trainer.startswith("TinyPreSeg"):
        configuration = "2d_preseg_T5"
        plans = tiny.preprocessed(number) / "nnUNetPlans.json"
        add_configurations(plans, timesteps=[5], previous_trainer="TinyPlainTrainer")
        for fold in range(5):
            tiny.train(number, fold, "TinyPlainTrainer")

    def stop(self) -> None:
        if self.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(nnUNetTrainer, "on_epoch_start", stop)
        patch.setattr(nnUNetTrainer, "on_epoch_end", _end_epoch_without_times)
        tiny.train(number, 0, trainer, configuration)
    model = tiny.root / "results" / f"Dataset{number}_Tiny" / f"{trainer}__nnUNetPlans__{configuration}"
    stopped = checkpoint(model, name="checkpoint_best.pth")
    assert stopped["current_epoch"] == 1
    monkeypatch.setattr(nnUNetTrainer, "on_epoch_end", _end_epoch_without_times)
    tiny.train(number, 0, trainer, configuration, continue_training=True)
    final = checkpoint(model)
    assert final["current_epoch"] == 2
    steps = {int(state["step"]) for state in final["optimizer_state"]["state"].values()}
    assert steps == {4}
    assert masks(model / "fold_0" / "validation")


def _end_epoch_without_times(self: nnUNetTrainer) -> None:
    """nnU-Net's end of an epoch, but no picture: an epoch that was stopped has no times to draw."""
    self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_best.pth"))
    self.current_epoch += 1


def test_validation_alone_writes_the_same_masks_and_their_probabilities(tiny: TinyProject):
    model = tiny.model(2, "regions")
    validation = model / "fold_0" / "validation"
    before = masks(validation)
    for path in validation.iterdir():
        path.unlink()
    tiny.train(tiny.dataset(2, "regions"), only_run_validation=True, export_validation_probabilities=True)
    after = masks(validation)
    assert before.keys() == after.keys()
    for name, mask in after.items():
        np.testing.assert_array_equal(mask, before[name])
        probabilities = np.load(validation / name.replace(".nii.gz", ".npz"))["probabilities"]
        # Region 1 is label 1, the region within it overwrites it with label 2.
        np.testing.assert_array_equal(np.where(probabilities[1] > 0.5, 2, probabilities[0] > 0.5), mask)


def test_probabilities_of_labels_are_the_fused_ones(tiny: TinyProject):
    model = tiny.model()
    tiny.train(tiny.dataset(), only_run_validation=True, export_validation_probabilities=True)
    for name, mask in masks(model / "fold_0" / "validation").items():
        probabilities = np.load(model / "fold_0" / "validation" / name.replace(".nii.gz", ".npz"))["probabilities"]
        np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-3)
        np.testing.assert_array_equal(probabilities.argmax(axis=0), mask)


def test_pretrained_weights_are_taken_but_not_their_label_type(tiny: TinyProject, monkeypatch: pytest.MonkeyPatch):
    """Two labels and two regions have equally many heads; what they mean is the new dataset's."""
    source = tiny.model(kind="binary") / "fold_0" / "checkpoint_final.pth"
    number = tiny.dataset(kind="regions")
    monkeypatch.setattr("torch.load", _load_everything(torch.load))
    trainer = get_trainer_from_args(str(number), "2d", 0, TRAINER, device=torch.device("cpu"))
    maybe_load_checkpoint(trainer, False, False, str(source))
    own, given = trainer.network.state_dict(), torch.load(source)["network_weights"]
    for name, value in own.items():
        if "seg_layers" not in name and name != "regions":
            assert torch.equal(value, given[name]), name
    with threads_for_processes():
        trainer.on_train_start()
    assert trainer.network.regions
    image = torch.randn(1, 1, 32, 32)
    trainer.network.eval()
    assert trainer.network(image).max() > 0  # a logit; the logarithm of a probability is negative


def _load_everything(load):
    """nnU-Net opens pretrained weights, its own pickles, without restriction."""
    return lambda *args, **options: load(*args, **{**options, "weights_only": False})


def test_pretrained_weights_through_nnunets_command_line_function(tiny: TinyProject):
    source = tiny.model() / "fold_0" / "checkpoint_final.pth"
    number = tiny.dataset(kind="ignore")
    model = tiny.train(number, 1, pretrained_weights=str(source))
    difference = [
        (value.float() - checkpoint(tiny.model())["network_weights"][name].float()).abs().max()
        for name, value in checkpoint(model, 1)["network_weights"].items()
        if "seg_layers" not in name and value.dtype.is_floating_point
    ]
    assert max(difference) < 1e-3  # two steps of AdamW at 1e-4
