"""The settings of a model in three: the process, bound to its weights; its sampling, free at prediction; its training.

A trainer brings its `Settings`, a flat `diffusion` block in the plan's configuration overrides them and so travels with
the model; at prediction flags override the sampling alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from nnunetv2_diffusion.setting_ranges import INSIDE, SHARE, SWITCH, Checked, is_a, number, one_of, setting, whole


@dataclass(frozen=True)
class Process(Checked):
    """What the weights were trained for; another process makes another model.

    Attributes:
        timesteps: T, the length of the noise schedule (paper, B.2: 1000).
        schedule: "linear" (Ho et al. 2020) or "cosine" (Nichol and Dhariwal 2021).
        schedule_timesteps: length of the schedule whose first `timesteps` steps are used; None means `timesteps`. With
            a longer one the noisiest x_t keeps part of its mask ("partly noised", paper, section 3.1).
        beta_start, beta_end: first and last variance of the linear schedule (paper, B.2: 1e-4 and 0.02).
        mask_scale: b, by which x_0 is scaled before it is noised (Chen 2023; the paper: 1). A smaller one hides the
            mask in the noise of more timesteps; x_t keeps unit variance.
        prediction: what the denoiser answers with: "x_start", the mask (SpineSegDiff), "noise", the ε that was added
            (Ho et al. 2020), or "velocity", v = sqrt(ᾱ_t) ε - sqrt(1 - ᾱ_t) x_0 (Salimans and Ho 2022).

    Raises:
        ValueError: a value out of range, or a schedule shorter than the steps that are used of it.
    """

    timesteps: int = setting(1000, whole(1))
    schedule: str = setting("linear", one_of("linear", "cosine"))
    schedule_timesteps: int | None = setting(None, whole(1, optional=True))
    beta_start: float = setting(1e-4, INSIDE)
    beta_end: float = setting(0.02, INSIDE)
    mask_scale: float = setting(1.0, number("above 0 and at most 1", lambda value: 0 < value <= 1))
    prediction: str = setting("x_start", one_of("x_start", "velocity", "noise"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule_timesteps is not None and self.schedule_timesteps < self.timesteps:
            raise ValueError(f"schedule_timesteps {self.schedule_timesteps} is below the {self.timesteps} timesteps")
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start {self.beta_start} is above beta_end {self.beta_end}")


@dataclass(frozen=True)
class Sampling(Checked):
    """How masks are drawn from trained weights; may be another one at every prediction.

    Attributes:
        sampler: "ddim" (Song et al. 2021, with `eta`) or "ddpm" (ancestral sampling).
        sampling_steps: network evaluations a sample; at most T, or those up to `start_timestep`.
        timestep_spacing: the visited timesteps are spaced evenly in t, "even", or in log(ᾱ_t / (1 - ᾱ_t)), "log_snr".
        start_timestep: the noisiest timestep visited, 0 ... T-1; None means T-1.
        eta: stochasticity of DDIM, 0 (deterministic given the first noise) to 1 (as DDPM).
        ensemble: "steps" (equations 1 to 3 of the paper) or "samples" (mean and variance of the finished samples).
        samples: S of equation 1, drawn as one batch.
        ensemble_steps: T_s of equation 3, the last steps that are fused; at most `sampling_steps`.
        early_stop: share of the foreground's pixels; a slice whose mask changes by less from one step to the next is
            not sampled further, and its last answer stands for the steps left out. 0 takes all steps.
        mirror_samples: give each sample its own mirroring, undone before samples are averaged.
        seed: seed of the sampling noise.

    Raises:
        ValueError: a value out of range, or two that exclude each other.
    """

    sampler: str = setting("ddim", one_of("ddim", "ddpm"))
    sampling_steps: int = setting(5, whole(1))
    timestep_spacing: str = setting("even", one_of("even", "log_snr"))
    start_timestep: int | None = setting(None, whole(0, optional=True))
    eta: float = setting(0.0, SHARE)
    ensemble: str = setting("steps", one_of("steps", "samples"))
    samples: int = setting(4, whole(1))
    ensemble_steps: int = setting(5, whole(1))
    early_stop: float = setting(0.0, number("of at least 0 and below 1", lambda value: 0 <= value < 1))
    mirror_samples: bool = setting(True, SWITCH)
    seed: int = setting(0, whole(0, 2**31 - 1))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ensemble_steps > self.sampling_steps:
            raise ValueError(
                f"ensemble_steps is {self.ensemble_steps}, above the {self.sampling_steps} sampling_steps; "
                "fuse at most as many steps as are sampled"
            )
        if self.early_stop > 0 and self.ensemble == "samples":
            raise ValueError("early_stop is for the ensemble of steps: finished samples take all steps; leave it at 0")

    def first_timestep(self, process: Process) -> int:
        """The noisiest timestep that sampling visits."""
        return process.timesteps - 1 if self.start_timestep is None else self.start_timestep

    def check(self, process: Process) -> None:
        """Raise a ValueError where the process has no such timesteps."""
        if self.start_timestep is not None and self.start_timestep >= process.timesteps:
            raise ValueError(f"start_timestep must lie in 0 ... {process.timesteps - 1}, not {self.start_timestep}")
        visited = self.first_timestep(process) + 1
        if self.sampling_steps > visited:
            raise ValueError(f"sampling_steps is {self.sampling_steps}, but only {visited} timesteps can be visited")

    def updated(self, overrides: Mapping[str, Any] | None, process: Process) -> Sampling:
        """This sampling of a trained model with `overrides` in place (None values are passed over).

        Step counts that are not named shrink to fit those that are: an earlier start allows fewer sampling steps, fewer
        sampling steps fewer ensemble steps.

        Args:
            overrides: settings by name; a "preset", one of PRESETS, comes before the others.
            process: of the model.

        Raises:
            ValueError: a name that is no setting of sampling, a value out of range, or a setting that would do nothing.
        """
        named = dict(overrides or {})
        preset = named.pop("preset", None) or "default"
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, not {preset!r}")
        return Settings(process, self)._with(named, own=Sampling, before=PRESETS[preset](self)).sampling


def _of_samples(own: Sampling) -> dict[str, Any]:
    """Samples that have come away from each other take some steps; a fused mask needs fewer."""
    steps = max(SAMPLES_STEPS, own.sampling_steps)
    return {"samples": 16, "sampling_steps": steps, "ensemble_steps": max(SAMPLES_STEPS, own.ensemble_steps)}


SAMPLES_STEPS = 5
# Sampling by what it costs, made of the model's own: "fast" takes as many evaluations as nnU-Net's four mirrorings,
# "samples" is for intervals and distributions.
PRESETS: dict[str, Callable[[Sampling], dict[str, Any]]] = {
    "fast": lambda own: {"samples": 4, "sampling_steps": 1},
    "default": lambda own: {},
    "samples": _of_samples,
}


@dataclass(frozen=True)
class Training(Checked):
    """What only training knows.

    Attributes:
        learning_rate: of AdamW, at its start (paper, tables 4 and 7: 1e-4).
        recycling: share of the training steps that noise the denoiser's own prediction from pure noise in place of the
            true mask (Fu et al. 2023), as sampling does; 0 (the paper) to 1.
        timestep_density: timesteps are drawn evenly in t, "uniform" (the paper), or in log(ᾱ_t / (1 - ᾱ_t)), "log_snr".
        dice_weight: of the soft Dice in SpineSegDiff's loss (the paper: 1). Soft Dice is not proper: the answer that
            makes it least is no mean of the possible masks.
        checkpoint_activations: compute every stage again in the backward pass in place of keeping its activations:
            less memory, more time, the same gradients.

    Raises:
        ValueError: a value out of range.
    """

    learning_rate: float = setting(1e-4, INSIDE)
    recycling: float = setting(0.0, SHARE)
    timestep_density: str = setting("uniform", one_of("uniform", "log_snr"))
    dice_weight: float = setting(1.0, number("of at least 0", lambda value: 0 <= value < float("inf")))
    checkpoint_activations: bool = setting(False, SWITCH)


# What does nothing beside which other values; refused where it is named, since somebody expects it to do something.
_IDLE: tuple[tuple[tuple[str, ...], Callable[[dict[str, Any]], bool], str], ...] = (
    (("beta_start", "beta_end"), lambda s: s["schedule"] == "cosine", "the cosine schedule has its own variances"),
    (
        ("timestep_spacing",),
        lambda s: s["sampling_steps"] == 1,
        "a single step is taken at the noisiest timestep",
    ),
    (
        ("dice_weight",),
        lambda s: s["prediction"] != "x_start",
        "the loss of a predicted noise or velocity has no Dice",
    ),
    (("eta",), lambda s: s["sampler"] == "ddpm", "ddpm draws noise at every step; eta is ddim's"),
    (
        ("ensemble_steps",),
        lambda s: s["ensemble"] == "samples",
        "the ensemble of samples takes what the last step gives; T_s is for the ensemble of steps",
    ),
    (
        ("mirror_samples",),
        lambda s: s["mirror_samples"] and s["samples"] == 1,
        "a single sample is drawn as the image lies",
    ),
)


@dataclass(frozen=True)
class Settings:
    """All settings of a model; on disk, in a `diffusion` block and beside predictions, one flat dictionary.

    Raises:
        ValueError: parts that do not fit each other.
    """

    process: Process = Process()
    sampling: Sampling = Sampling()
    training: Training = Training()

    def __post_init__(self) -> None:
        self.sampling.check(self.process)
        if self.training.recycling > 0 and self.process.prediction != "x_start":
            raise ValueError("recycling is for a denoiser that predicts x_start; leave it at 0")

    def updated(self, block: Mapping[str, Any] | None) -> Settings:
        """These settings with a configuration's `diffusion` block in place (None values are passed over).

        Step counts that are not named shrink to fit those that are: fewer timesteps allow fewer sampling steps, fewer
        sampling steps fewer ensemble steps.

        Raises:
            ValueError: a name that is no setting, a value out of range, or a setting that would do nothing.
        """
        return self._with(_without_noise_weighting(block or {}, self.process.prediction))

    def as_dict(self) -> dict[str, Any]:
        """A flat dictionary, as it is written beside a prediction."""
        return {**self.process.as_dict(), **self.sampling.as_dict(), **self.training.as_dict()}

    def _with(
        self, overrides: Mapping[str, Any] | None, own: type | None = None, before: Mapping[str, Any] | None = None
    ) -> Settings:
        """With overrides in place, after what comes `before` them; where `own` is given, of this part alone."""
        overrides = {name: value for name, value in (overrides or {}).items() if value is not None}
        _check_names(overrides, own)
        merged = {**self.as_dict(), **(before or {}), **overrides}
        _shrink_steps(merged, overrides)
        made = Settings(*(kind(**{one.name: merged[one.name] for one in fields(kind)}) for kind in _PARTS))
        for names, idle, why in _IDLE:
            for name in overrides.keys() & set(names):
                if idle(merged):
                    raise ValueError(f"{name} does nothing here: {why}; leave it out")
        return made


_PARTS = (Process, Sampling, Training)


def _check_names(names: Collection[str], own: type | None) -> None:
    """ValueError for names that are no settings, or not those of `own`."""
    parts = {one.name: kind for kind in _PARTS for one in fields(kind)}
    known = sorted(name for name, kind in parts.items() if own in (None, kind))
    unknown = sorted(set(names) - parts.keys())
    if unknown:
        raise ValueError(f"unknown diffusion settings {', '.join(unknown)}; known are {', '.join(known)}")
    bound = sorted(set(names) - set(known))
    if bound:
        raise ValueError(
            f"{', '.join(bound)} cannot be changed at prediction, since the weights were trained for "
            f"{'its value' if len(bound) == 1 else 'their values'}; what can be changed is {', '.join(known)}"
        )


def _shrink_steps(merged: dict[str, Any], named: Collection[str]) -> None:
    """Let step counts that are not named fit those that are; values out of range are left for the check to name."""
    counts = [merged[name] for name in ("timesteps", "start_timestep", "sampling_steps", "ensemble_steps")]
    if not all(is_a(int, count) for count in counts if count is not None):
        return
    timesteps, start, _, _ = counts
    visited = timesteps if start is None else start + 1
    if "sampling_steps" not in named:
        merged["sampling_steps"] = max(1, min(merged["sampling_steps"], visited))
    if "ensemble_steps" not in named:
        merged["ensemble_steps"] = max(1, min(merged["ensemble_steps"], merged["sampling_steps"]))


def _without_noise_weighting(block: Mapping[str, Any], prediction: str) -> dict[str, Any]:
    """A block of the time when "noise" was predicted through v, in today's words.

    `noise_weighting` "velocity" then made its loss that of v; with a predicted mask it did nothing.

    Raises:
        ValueError: the loss of a v that weighed as ε, which no trainer has any longer.
    """
    block = dict(block)
    weighting = block.pop("noise_weighting", None)
    if weighting is None or block.get("prediction", prediction) == "x_start":
        return block
    if weighting != "velocity":
        raise ValueError(
            f"noise_weighting {weighting!r} is no setting any longer: for the unweighted error of the noise train "
            "nnUNetTrainerIISDMEpsilon; a model that was trained with it predicts as before once it and `prediction` "
            "are removed from the diffusion block of its plans.json"
        )
    return {**block, "prediction": "velocity"}
