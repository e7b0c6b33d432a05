"""The mirrorings of an image predicted one by one, against nnU-Net's own mirrored prediction of the same model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from scipy.special import softmax

from helpers.nnunet_samples import TinyProject
from nnunetv2_diffusion.demo.mirrorings import write_mirrored
from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.inference.runtime import Runtime


def probabilities(model: Path, images: Path, output: Path, mirroring: bool) -> dict[str, np.ndarray]:
    predictor = DiffusionPredictor(runtime=Runtime("cpu"), use_mirroring=mirroring, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(model, [0])
    predictor.predict_from_files_sequential(str(images), str(output), save_probabilities=True)
    return {path.stem: np.load(path)["probabilities"] for path in output.glob("*.npz")}


def test_together_they_are_nnunets_mirrored_prediction(tiny: TinyProject, tmp_path: Path):
    """nnU-Net averages logits, which are the logarithms of the probabilities up to a constant a pixel."""
    model = tiny.model(trainer="TinyPlainTrainer")
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(tiny.root / "raw" / f"Dataset{tiny.dataset()}_Tiny" / "imagesTr" / "case_0_0000.nii.gz", images)
    write_mirrored(images, tmp_path / "mirrored")
    together = probabilities(model, images, tmp_path / "together", mirroring=True)["case_0"]
    alone = probabilities(model, tmp_path / "mirrored", tmp_path / "alone", mirroring=False)
    assert len(alone) == 4
    back = [np.flip(alone[f"case_0_mirrored{n}"], axes) for n, axes in enumerate([(), (1,), (2,), (1, 2)])]
    # At the corners nnU-Net's Gaussian is so small that half precision loses digits of the logits.
    inside = (slice(None), slice(2, -2), slice(2, -2))
    assert np.abs(back[0] - back[3])[inside].max() > 2e-2  # the network answers differently to each
    mean = softmax(np.mean(np.log(back), axis=0), axis=0)
    np.testing.assert_allclose(mean[inside], together[inside], atol=2e-3)
