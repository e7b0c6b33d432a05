"""How the samples of a prediction become probabilities for nnU-Net and maps for people."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from nnunetv2_diffusion.settings import Sampling

# nnU-Net sums logits times Gaussian weights up to 10 over overlapping tiles in half precision (largest value 65504)
# and stops at an infinity; log(1e-6) = -13.8 leaves room for hundreds of overlaps.
SMALLEST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class EnsembleMaps:
    """A prediction: logits [B, K, H, W] for nnU-Net, uncertainty [B, H, W] in [0, 1], and where asked for the variance
    over samples and the mutual information between sample and label, [B, H, W] each, and the probabilities of the
    finished samples, [S, B, K, H, W]."""

    logits: torch.Tensor
    uncertainty: torch.Tensor
    variance: torch.Tensor | None = None
    mutual_information: torch.Tensor | None = None
    samples: torch.Tensor | None = None


def probabilities_to_logits(probabilities: torch.Tensor, regions: bool) -> torch.Tensor:
    """Logits whose softmax (regions: sigmoid) gives the probabilities, bounded for nnU-Net's half-precision sums."""
    if regions:
        return torch.logit(probabilities, eps=SMALLEST_PROBABILITY)
    return probabilities.clamp(min=SMALLEST_PROBABILITY).log()


def entropy_terms(probabilities: torch.Tensor) -> torch.Tensor:
    """-p log p, elementwise with the natural logarithm, 0 where p = 0 (equation 2)."""
    return torch.special.entr(probabilities)


def total_entropy(probabilities: torch.Tensor, regions: bool = False) -> torch.Tensor:
    """Entropy over the heads, in [0, 1]: Σ_k -p log p / log K, or for regions the mean binary entropy / log 2.

    Args:
        probabilities: [..., K, H, W].
        regions: the heads are independent (sigmoid) rather than a distribution over K labels.

    Returns:
        [..., H, W]; 0 everywhere for a single softmax head.
    """
    if regions:
        return (entropy_terms(probabilities) + entropy_terms(1 - probabilities)).mean(dim=-3) / math.log(2)
    heads = probabilities.shape[-3]
    return entropy_terms(probabilities).sum(dim=-3) / math.log(max(heads, 2))


class StepUncertaintyEnsemble:
    """Fuses the probabilities of S samples at each of the T_s last sampling steps (paper, A.2, equations 1 to 3).

    Steps are given one after another. Sums over steps are kept, never a step's or a sample's tensors, so the memory
    grows with neither.

    Args:
        ensemble_steps: T_s.
        regions: heads are sigmoids (region-based labels) rather than a softmax over labels.
        disagreement: also accumulate the variance over samples and the mutual information between sample and label.
    """

    def __init__(self, ensemble_steps: int, regions: bool = False, disagreement: bool = False):
        self.ensemble_steps = ensemble_steps
        self.regions = regions
        self.disagreement = disagreement
        self.steps_seen = 0
        self._sums: dict[str, torch.Tensor] = {}

    def update(self, probabilities: torch.Tensor) -> None:
        """Take the next step's probabilities, [S, B, K, H, W]; steps come in sampling order, the cleanest last.

        Raises:
            ValueError: more than T_s steps, or a tensor of another rank.
        """
        if probabilities.ndim != 5:
            raise ValueError(f"probabilities must be [S, B, K, H, W], not of shape {tuple(probabilities.shape)}")
        if self.steps_seen == self.ensemble_steps:
            raise ValueError(f"the ensemble takes {self.ensemble_steps} steps and has seen them all")
        self.steps_seen += 1
        mean = probabilities.mean(dim=0)
        time_factor = math.exp(1 / (1 + math.exp(-self.steps_seen / self.ensemble_steps)))
        weight = time_factor * (1 - entropy_terms(mean))
        self._add("fused", weight * mean)
        self._add("weight", weight)
        entropy = total_entropy(mean, self.regions)
        self._add("uncertainty", entropy)
        if self.disagreement:
            self._add("variance", probabilities.var(dim=0, correction=0).mean(dim=1))
            self._add("mutual_information", entropy - total_entropy(probabilities, self.regions).mean(dim=0))

    def _add(self, name: str, value: torch.Tensor) -> None:
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def _sum(self, name: str) -> torch.Tensor:
        if self.steps_seen != self.ensemble_steps:
            raise ValueError(f"the ensemble needs {self.ensemble_steps} steps and has seen {self.steps_seen}")
        return self._sums[name]

    def fused(self) -> torch.Tensor:
        """x̂_f of equation 3, [B, K, H, W]: a weighted sum, so its values exceed 1."""
        return self._sum("fused")

    def fused_probabilities(self) -> torch.Tensor:
        """[B, K, H, W] in [0, 1]: x̂_f over its sum over labels; for regions the weighted mean of each head."""
        fused = self._sum("fused")
        return fused / (self._sum("weight") if self.regions else fused.sum(dim=1, keepdim=True))

    def uncertainty(self) -> torch.Tensor:
        """Mean over the T_s steps of the normalised entropy of the mean probabilities, [B, H, W] in [0, 1]."""
        return self._sum("uncertainty") / self.ensemble_steps

    def variance(self) -> torch.Tensor:
        """Variance over samples, mean over heads and steps, [B, H, W]."""
        return self._sum("variance") / self.ensemble_steps

    def mutual_information(self) -> torch.Tensor:
        """Entropy of the mean less the mean entropy of the samples, mean over steps, [B, H, W] in [0, 1]."""
        return (self._sum("mutual_information") / self.ensemble_steps).clamp(0, 1)

    def maps(self) -> EnsembleMaps:
        """After the last step."""
        return EnsembleMaps(
            logits=probabilities_to_logits(self.fused_probabilities(), self.regions),
            uncertainty=self.uncertainty(),
            variance=self.variance() if self.disagreement else None,
            mutual_information=self.mutual_information() if self.disagreement else None,
        )


class SampleEnsemble:
    """Mean and variance of the finished samples (Wolleb et al. 2021; paper, appendix B.3)."""

    def __init__(self, regions: bool, disagreement: bool = False):
        self.regions = regions
        self.disagreement = disagreement
        self.samples: torch.Tensor | None = None

    def update(self, probabilities: torch.Tensor) -> None:
        """The next step's [S, B, K, H, W]; the last one given counts."""
        self.samples = probabilities

    def maps(self) -> EnsembleMaps:
        """After the last step; the uncertainty is the variance over samples, mean over heads."""
        if self.samples is None:
            raise ValueError("the ensemble has seen no sample")
        variance = self.samples.var(dim=0, correction=0).mean(dim=1)
        mean = self.samples.mean(dim=0).clamp(0, 1)
        information = None
        if self.disagreement:
            own = total_entropy(self.samples, self.regions).mean(dim=0)
            information = (total_entropy(mean, self.regions) - own).clamp(0, 1)
        return EnsembleMaps(probabilities_to_logits(mean, self.regions), variance, variance, information)


def new_ensemble(sampling: Sampling, regions: bool, disagreement: bool) -> StepUncertaintyEnsemble | SampleEnsemble:
    """The ensemble that the settings ask for."""
    if sampling.ensemble == "samples":
        return SampleEnsemble(regions, disagreement)
    return StepUncertaintyEnsemble(sampling.ensemble_steps, regions, disagreement)
