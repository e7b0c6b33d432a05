"""The demo with several raters: phantoms whose raters differ in known ways, a model that samples and one that cannot.

Of the unseen patients all eight masks are drawn that a rater may draw: with their probabilities, the true distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnunetv2_diffusion.demo.cohort import MODALITY, patient_range
from nnunetv2_diffusion.demo.mirrorings import write_mirrored
from nnunetv2_diffusion.demo.models import SMALL, DemoModel
from nnunetv2_diffusion.demo.steps import (
    DATASET,
    DATASET_ID,
    PHANTOM_GRID,
    PHANTOM_PROTOCOL,
    PHANTOMS,
    PREDICTIONS,
    UNSEEN,
    Demo,
)
from nnunetv2_diffusion.nnunet_names import SPINESEGDIFF
from nnunetv2_diffusion.phantoms.patients import write_phantoms
from nnunetv2_diffusion.phantoms.raters import every_convention
from nnunetv2_diffusion.pipeline.steps import Step

RATER_SAMPLES = 16
# Below the output folder, beside those of the plain demo.
UNSEEN_PHANTOMS, EVERY_PHANTOM = "phantoms_unseen", "phantoms_every_mask"
EVERY_MASK, MIRRORED = "every_mask", "mirrored"
LENGTH = "5epochs"


@dataclass(frozen=True)
class RaterDemo(Demo):
    """What is run, where, on which phantoms.

    Attributes:
        raters: how many segment every training patient.
        length: of the trainings, the end of the trainers' names.
        control_folds: of the control; the first is the rival, all together the ensemble.
    """

    raters: int = 3
    length: str = LENGTH
    control_folds: tuple[int, ...] = (0,)

    @property
    def models(self) -> list[DemoModel]:
        """The one that samples, then its control."""
        return [self.sampling_model, self.control]

    @property
    def sampling_model(self) -> DemoModel:
        """SpineSegDiff."""
        return DemoModel("SpineSegDiff", f"{SPINESEGDIFF}_{self.length}", draws=True)

    @property
    def control(self) -> DemoModel:
        """The same U-Net without diffusion."""
        return DemoModel("Control", f"{SPINESEGDIFF}Control_{self.length}", folds=self.control_folds)

    @property
    def record(self) -> dict[str, object]:
        """As the plain demo's, and how many raters there are."""
        return {**super().record, "raters": self.raters}

    @property
    def folds(self) -> list[dict[str, list[str]]]:
        """The converter's own five, which keep all raters of a patient together."""
        return []

    def steps(self) -> list[Step]:
        """All steps in order."""
        steps = [*self._data_steps(), *self._planning_steps()]
        for model in self.models:
            steps += self._training_steps(model)
        return [*steps, *self._sampling_steps(), *self._control_steps()]

    def _data_steps(self) -> list[Step]:
        training, unseen = patient_range(self.training), patient_range(self.unseen)
        raters = f"{self.raters} raters"
        return [
            Step("phantoms", f"draw {len(self.training)} patients and {raters}", work=self._write_phantoms),
            Step("phantoms-unseen", f"draw {len(self.unseen)} unseen patients", work=self._write_unseen),
            Step("phantoms-every-mask", "draw every mask that a rater may draw of them", work=self._write_every_mask),
            Step("convert-training", f"convert the patients and their {raters}", _convert(PHANTOMS, training)),
            Step("convert-unseen", "convert the unseen patients", _convert(UNSEEN_PHANTOMS, unseen, UNSEEN)),
            Step("convert-every-mask", "convert their masks", _convert(EVERY_PHANTOM, unseen, EVERY_MASK)),
        ]

    def _planning_steps(self) -> list[Step]:
        preprocess, _ = super()._planning_steps()
        return [preprocess, Step("plan", "add a small configuration", f"spinesegdiff plan -d {DATASET_ID} --small")]

    def _sampling_steps(self) -> list[Step]:
        model = self.sampling_model
        samples = f"--samples {RATER_SAMPLES} --save-samples --seed {self.seed}"
        command = f"{self._predict(model, 0)} -o {PREDICTIONS}/{model.slug} {samples}"
        return [Step(f"predict-{model.slug}", f"draw {RATER_SAMPLES} samples of every unseen patient", command)]

    def _control_steps(self) -> list[Step]:
        control = self.control
        steps = [
            Step(
                f"predict-{control.slug}-fold{fold}",
                f"predict the unseen patients with the control, fold {fold}",
                f"{self._predict(control, fold)} -o {control_folder(fold)} --save_probabilities",
            )
            for fold in control.folds
        ]
        mirrored = self._predict(control, control.folds[0], MIRRORED)
        return [
            *steps,
            Step("mirror", "mirror the unseen patients in four ways", work=self._write_mirrored),
            Step(
                f"predict-{control.slug}-mirrored",
                "predict each mirroring alone",
                f"{mirrored} -o {PREDICTIONS}/{MIRRORED} --disable_tta",
            ),
        ]

    def _predict(self, model: DemoModel, fold: int, images: str = f"{UNSEEN}/{DATASET}/imagesTr") -> str:
        return (
            f"spinesegdiff predict -i {images} -d {DATASET_ID} -c {SMALL} -f {fold} -tr {model.trainer} "
            f"-device {self.device} -npp 0 -nps 0"
        )

    def _write_phantoms(self) -> None:
        folder = self.folder / PHANTOMS
        write_phantoms(folder, self.training, self.seed, PHANTOM_PROTOCOL, progress=True, raters=self.raters)

    def _write_unseen(self) -> None:
        write_phantoms(self.folder / UNSEEN_PHANTOMS, self.unseen, self.seed, PHANTOM_PROTOCOL, progress=True)

    def _write_every_mask(self) -> None:
        folder, masks = self.folder / EVERY_PHANTOM, every_convention()
        write_phantoms(folder, self.unseen, self.seed, PHANTOM_PROTOCOL, progress=True, conventions=masks)

    def _write_mirrored(self) -> None:
        write_mirrored(self.unseen_folder / "imagesTr", self.folder / MIRRORED)


def control_folder(fold: int) -> str:
    """Where the control's masks and probabilities by a fold go, below the output folder."""
    return f"{PREDICTIONS}/control_fold{fold}"


def _convert(phantoms: str, patients: str, out: str = "") -> str:
    command = f"spinesegdiff convert {phantoms} --modality {MODALITY} {PHANTOM_GRID} -np 1 --patients {patients}"
    return f"{command} --out {out}" if out else command
