"""The diffusion settings of a training or a prediction, in one frozen dataclass.

A trainer brings its defaults, a `diffusion` block in the plan's configuration overrides them, flags override both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

SCHEDULES = ("linear", "cosine")
SAMPLERS = ("ddim", "ddpm")
PREDICTIONS = ("x_start", "noise")
NOISE_WEIGHTINGS = ("uniform", "velocity")
ENSEMBLES = ("steps", "samples")


@dataclass(frozen=True)
class DiffusionSettings:
    """Diffusion process, sampling and step-uncertainty ensemble.

    Attributes:
        timesteps: T, the length of the noise schedule (paper, B.2: 1000).
        schedule: "linear" (Ho et al. 2020) or "cosine" (Nichol and Dhariwal 2021).
        schedule_timesteps: length of the schedule whose first `timesteps` steps are used; None means `timesteps`. With
            a longer one the noisiest x_t keeps part of its mask ("partly noised", paper, section 3.1).
        beta_start, beta_end: first and last variance of the linear schedule (paper, B.2: 1e-4 and 0.02).
        prediction: what the denoiser returns, "x_start" (the mask; SpineSegDiff) or "noise" (IISDM).
        noise_weighting: of the timesteps in the loss of a predicted noise: "uniform", the mean squared error of ε
            (Ho et al. 2020, Wolleb et al. 2021), or "velocity", divided by ᾱ_t, that of v (Salimans and Ho 2022).
        sampler: "ddim" (Song et al. 2021, with `eta`) or "ddpm" (ancestral sampling).
        sampling_steps: network evaluations a sample; at most `timesteps`, or those up to `start_timestep`.
        start_timestep: the noisiest timestep visited, 0 ... T-1; None means T-1.
        eta: stochasticity of DDIM, 0 (deterministic given the first noise) to 1 (as DDPM).
        ensemble: "steps" (equations 1 to 3 of the paper) or "samples" (mean and variance of the finished samples).
        samples: S of equation 1, drawn as one batch.
        ensemble_steps: T_s of equation 3, the last steps that are fused; at most `sampling_steps`.
        early_stop: share of the foreground's pixels; a slice whose mask changes by less from one step to the next is
            not sampled further, and its last answer stands for the steps left out. 0 takes all steps.
        mirror_samples: give each sample its own mirroring, undone before samples are averaged.
        seed: seed of the sampling noise, 0 ... 2^31-1.
        learning_rate: of AdamW in training, at its start (paper, tables 4 and 7: 1e-4).
        recycling: share of the training steps that noise the denoiser's own prediction from pure noise in place of the
            true mask (Fu et al. 2023), as sampling does; 0 (the paper) to 1.
    """

    timesteps: int = 1000
    schedule: str = "linear"
    schedule_timesteps: int | None = None
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction: str = "x_start"
    noise_weighting: str = "uniform"
    sampler: str = "ddim"
    sampling_steps: int = 5
    start_timestep: int | None = None
    eta: float = 0.0
    ensemble: str = "steps"
    samples: int = 4
    ensemble_steps: int = 5
    early_stop: float = 0.0
    mirror_samples: bool = True
    seed: int = 0
    learning_rate: float = 1e-4
    recycling: float = 0.0

    def __post_init__(self) -> None:
        _at_least_one(self, "timesteps", "sampling_steps", "samples", "ensemble_steps")
        _check_types(self)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("sampler", self.sampler, SAMPLERS)
        _one_of("prediction", self.prediction, PREDICTIONS)
        _one_of("noise_weighting", self.noise_weighting, NOISE_WEIGHTINGS)
        _one_of("ensemble", self.ensemble, ENSEMBLES)
        if self.schedule_timesteps is not None and self.schedule_timesteps < self.timesteps:
            raise ValueError(f"schedule_timesteps {self.schedule_timesteps} is below the {self.timesteps} timesteps")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(f"0 < beta_start <= beta_end < 1 is expected, not {self.beta_start} and {self.beta_end}")
        _check_early_stop(self)
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie between 0 and 1, not {self.eta}")
        _check_training(self)
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must lie between 0 and 2^31 - 1, not {self.seed}")
        if self.start_timestep is not None and not 0 <= self.start_timestep < self.timesteps:
            raise ValueError(f"start_timestep must lie in 0 ... {self.timesteps - 1}, not {self.start_timestep}")
        if self.sampling_steps > self.first_timestep + 1:
            raise ValueError(
                f"sampling_steps is {self.sampling_steps}, but only {self.first_timestep + 1} timesteps can be visited"
            )
        if self.ensemble_steps > self.sampling_steps:
            raise ValueError(
                f"ensemble_steps is {self.ensemble_steps}, above the {self.sampling_steps} sampling_steps; "
                "fuse at most as many steps as are sampled"
            )

    @property
    def first_timestep(self) -> int:
        """The noisiest timestep that sampling visits."""
        return self.timesteps - 1 if self.start_timestep is None else self.start_timestep

    def updated(self, overrides: Mapping[str, Any] | None) -> DiffusionSettings:
        """These settings with `overrides` in place (None values are passed over).

        Step counts that are not named shrink to fit those that are: fewer timesteps allow fewer sampling steps, fewer
        sampling steps fewer ensemble steps.

        Raises:
            ValueError: a name that is no setting, or a value out of range.
        """
        overrides = {name: value for name, value in (overrides or {}).items() if value is not None}
        known = {field.name for field in fields(self)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise ValueError(f"unknown diffusion settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        merged = {**asdict(self), **overrides}
        first = merged["timesteps"] - 1 if merged["start_timestep"] is None else merged["start_timestep"]
        if "sampling_steps" not in overrides:
            merged["sampling_steps"] = max(1, min(merged["sampling_steps"], first + 1))
        if "ensemble_steps" not in overrides:
            merged["ensemble_steps"] = max(1, min(merged["ensemble_steps"], merged["sampling_steps"]))
        return replace(self, **merged)

    def as_dict(self) -> dict[str, Any]:
        """A plain dictionary, as it is written into a plans file or beside a prediction."""
        return asdict(self)


def _check_early_stop(settings: DiffusionSettings) -> None:
    if not 0 <= settings.early_stop < 1:
        raise ValueError(f"early_stop must be at least 0 and below 1, not {settings.early_stop}")
    if settings.early_stop > 0 and settings.ensemble == "samples":
        raise ValueError("early_stop is for the ensemble of steps: finished samples take all steps; leave it at 0")


def _check_training(settings: DiffusionSettings) -> None:
    if not 0 < settings.learning_rate < 1:
        raise ValueError(f"learning_rate must lie between 0 and 1, not {settings.learning_rate}")
    if not 0 <= settings.recycling <= 1:
        raise ValueError(f"recycling must lie between 0 and 1, not {settings.recycling}")
    if settings.recycling > 0 and settings.prediction == "noise":
        raise ValueError("recycling is for a denoiser that predicts x_start; leave it at 0")


def _at_least_one(settings: DiffusionSettings, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def _check_types(settings: DiffusionSettings) -> None:
    """A plans file is edited by hand: "0.5" or 1.5 for a whole number is named, not a TypeError later on."""
    for name in ("schedule_timesteps", "start_timestep", "seed"):
        value = getattr(settings, name)
        if not isinstance(value, int | None) or isinstance(value, bool) or (name == "seed" and value is None):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
    for name in ("beta_start", "beta_end", "eta", "early_stop", "learning_rate", "recycling"):
        value = getattr(settings, name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{name} must be a number, not {value!r}")
    if not isinstance(settings.mirror_samples, bool):
        raise ValueError(f"mirror_samples must be true or false, not {settings.mirror_samples!r}")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
