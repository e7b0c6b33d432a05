"""How the samples of a prediction become probabilities for nnU-Net and maps for people."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nnunetv2_diffusion.diffusion import StepUncertaintyEnsemble
from nnunetv2_diffusion.settings import DiffusionSettings

# nnU-Net sums logits times Gaussian weights up to 10 over overlapping tiles in half precision (largest value 65504)
# and stops at an infinity; log(1e-6) = -13.8 leaves room for hundreds of overlaps.
SMALLEST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class EnsembleMaps:
    """A prediction: logits [B, K, H, W] for nnU-Net, uncertainty [B, H, W] in [0, 1], and where asked for the variance
    over samples and the mutual information between sample and label, [B, H, W] each."""

    logits: torch.Tensor
    uncertainty: torch.Tensor
    variance: torch.Tensor | None = None
    mutual_information: torch.Tensor | None = None


def probabilities_to_logits(probabilities: torch.Tensor, regions: bool) -> torch.Tensor:
    """Logits whose softmax (regions: sigmoid) gives the probabilities, bounded for nnU-Net's half-precision sums."""
    if regions:
        return torch.logit(probabilities, eps=SMALLEST_PROBABILITY)
    return probabilities.clamp(min=SMALLEST_PROBABILITY).log()


class StepEnsemble:
    """Equations 1 to 3 of the paper over the last T_s steps."""

    def __init__(self, settings: DiffusionSettings, regions: bool, disagreement: bool):
        self.regions = regions
        self.disagreement = disagreement
        self.ensemble = StepUncertaintyEnsemble(settings.ensemble_steps, regions, disagreement)

    def update(self, probabilities: torch.Tensor) -> None:
        """The next step's [S, B, K, H, W]."""
        self.ensemble.update(probabilities)

    def maps(self) -> EnsembleMaps:
        """After the last step."""
        return EnsembleMaps(
            logits=probabilities_to_logits(self.ensemble.fused_probabilities(), self.regions),
            uncertainty=self.ensemble.uncertainty(),
            variance=self.ensemble.variance() if self.disagreement else None,
            mutual_information=self.ensemble.mutual_information() if self.disagreement else None,
        )


class SampleEnsemble:
    """Mean and variance of the finished samples (Wolleb et al. 2021; paper, appendix B.3)."""

    def __init__(self, regions: bool):
        self.regions = regions
        self.samples: torch.Tensor | None = None

    def update(self, probabilities: torch.Tensor) -> None:
        """The next step's [S, B, K, H, W]; the last one given counts."""
        self.samples = probabilities

    def maps(self) -> EnsembleMaps:
        """After the last step; the uncertainty is the variance over samples, mean over heads."""
        if self.samples is None:
            raise ValueError("the ensemble has seen no sample")
        variance = self.samples.var(dim=0, correction=0).mean(dim=1)
        return EnsembleMaps(
            logits=probabilities_to_logits(self.samples.mean(dim=0).clamp(0, 1), self.regions),
            uncertainty=variance,
            variance=variance,
        )


def new_ensemble(settings: DiffusionSettings, regions: bool, disagreement: bool) -> StepEnsemble | SampleEnsemble:
    """The ensemble that the settings ask for."""
    if settings.ensemble == "samples":
        return SampleEnsemble(regions)
    return StepEnsemble(settings, regions, disagreement)
