"""Diffusion settings: what they accept, and how overrides shrink what was not named."""

from __future__ import annotations

import dataclasses

import pytest

from nnunetv2_diffusion.settings import DiffusionSettings


def test_the_defaults_are_the_papers():
    settings = DiffusionSettings()
    assert (settings.timesteps, settings.schedule, settings.beta_start, settings.beta_end) == (
        1000,
        "linear",
        1e-4,
        0.02,
    )
    assert (settings.sampler, settings.prediction, settings.ensemble) == ("ddim", "x_start", "steps")
    assert settings.first_timestep == 999


@pytest.mark.parametrize("name", ["timesteps", "sampling_steps", "samples", "ensemble_steps"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True])
def test_counts_are_whole_numbers_of_at_least_one(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be a whole number of at least 1, not {value!r}"):
        DiffusionSettings(**{name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "quadratic"}, "schedule must be one of linear, cosine, not 'quadratic'"),
        ({"sampler": "euler"}, "sampler must be one of ddim, ddpm"),
        ({"prediction": "velocity"}, "prediction must be one of x_start, noise"),
        ({"ensemble": "median"}, "ensemble must be one of steps, samples"),
        ({"schedule_timesteps": 999}, "schedule_timesteps 999 is below the 1000 timesteps"),
        ({"beta_start": 0.0}, "0 < beta_start <= beta_end < 1"),
        ({"beta_start": 0.03}, "0 < beta_start <= beta_end < 1"),
        ({"beta_end": 1.0}, "0 < beta_start <= beta_end < 1"),
        ({"early_stop": 1.0}, "early_stop must be at least 0 and below 1, not 1.0"),
        ({"early_stop": 0.01, "ensemble": "samples"}, "early_stop is for the ensemble of steps"),
        ({"eta": 1.1}, "eta must lie between 0 and 1, not 1.1"),
        ({"eta": -0.1}, "eta must lie between 0 and 1"),
        ({"recycling": 1.5}, "recycling must lie between 0 and 1, not 1.5"),
        ({"recycling": 0.5, "prediction": "noise"}, "recycling is for a denoiser that predicts x_start"),
        ({"learning_rate": 0}, "learning_rate must lie between 0 and 1, not 0"),
        ({"learning_rate": "1e-3"}, "learning_rate must be a number, not '1e-3'"),
        ({"seed": -1}, "seed must lie between 0 and"),
        ({"seed": 2**31}, "seed must lie between 0 and"),
        ({"start_timestep": 1000}, "start_timestep must lie in 0 ... 999, not 1000"),
        ({"start_timestep": -1}, "start_timestep must lie in 0 ... 999"),
        ({"start_timestep": 3}, "sampling_steps is 5, but only 4 timesteps can be visited"),
        ({"timesteps": 4}, "sampling_steps is 5, but only 4 timesteps can be visited"),
        ({"ensemble_steps": 11}, "ensemble_steps is 11, above the 5 sampling_steps"),
        ({"seed": 1.5}, "seed must be a whole number, not 1.5"),
        ({"seed": None}, "seed must be a whole number, not None"),
        ({"start_timestep": "9"}, "start_timestep must be a whole number, not '9'"),
        ({"schedule_timesteps": 1000.0}, "schedule_timesteps must be a whole number, not 1000.0"),
        ({"eta": "0.5"}, "eta must be a number, not '0.5'"),
        ({"eta": float("nan")}, "eta must lie between 0 and 1, not nan"),
        ({"beta_end": True}, "beta_end must be a number, not True"),
        ({"mirror_samples": "false"}, "mirror_samples must be true or false, not 'false'"),
        ({"schedule": ["linear"]}, "schedule must be one of"),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        DiffusionSettings(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"sampling_steps": 1000, "ensemble_steps": 1000},
        {"start_timestep": 9},
        {"seed": 2**31 - 1},
        {"schedule_timesteps": 1000},
        {"beta_start": 0.02},
        {"eta": 1},
    ],
)
def test_the_ends_of_the_ranges_are_accepted(values):
    assert DiffusionSettings(**values).as_dict().items() >= values.items()


@pytest.mark.parametrize(
    ("overrides", "sampling_steps", "ensemble_steps"),
    [
        ({}, 5, 5),
        ({"timesteps": 7}, 5, 5),
        ({"timesteps": 3}, 3, 3),
        ({"start_timestep": 0}, 1, 1),
        ({"sampling_steps": 2}, 2, 2),
        ({"sampling_steps": 50}, 50, 5),
        ({"ensemble_steps": 1}, 5, 1),
    ],
)
def test_step_counts_that_are_not_named_shrink(overrides, sampling_steps, ensemble_steps):
    settings = DiffusionSettings().updated(overrides)
    assert (settings.sampling_steps, settings.ensemble_steps) == (sampling_steps, ensemble_steps)


@pytest.mark.parametrize(
    "overrides",
    [{"ensemble_steps": 6, "sampling_steps": 5}, {"timesteps": 4, "sampling_steps": 5}, {"samples": 0}],
)
def test_step_counts_that_are_named_never_shrink(overrides):
    with pytest.raises(ValueError, match=next(iter(overrides))):
        DiffusionSettings().updated(overrides)


def test_overrides_leave_the_rest_and_the_original_alone():
    settings = DiffusionSettings(samples=2, eta=0.5)
    changed = settings.updated({"seed": 7, "samples": None})
    assert changed == dataclasses.replace(settings, seed=7)
    assert settings.seed == 0
    assert settings.updated(None) == settings
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 1


def test_unknown_names_are_listed_with_the_known():
    with pytest.raises(ValueError, match=r"unknown diffusion settings steps, zeal; known are beta_end.*timesteps"):
        DiffusionSettings().updated({"zeal": 1, "steps": 2})


def test_a_dictionary_of_the_settings_makes_them_again():
    settings = DiffusionSettings(timesteps=300, schedule="cosine", samples=3)
    assert DiffusionSettings(**settings.as_dict()) == settings
