"""Settings in three: what they accept, how overrides shrink what was not named, what is free at prediction."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from nnunetv2_diffusion.settings import PRESETS, Process, Sampling, Settings, Training

PARTS = {field.name: kind for kind in (Process, Sampling, Training) for field in dataclasses.fields(kind)}


def made(values: dict) -> Settings:
    """Settings whose parts are made with these values."""
    return Settings(
        *(
            kind(**{name: value for name, value in values.items() if PARTS[name] is kind})
            for kind in (Process, Sampling, Training)
        )
    )


def test_the_defaults_are_the_papers():
    process, sampling, training = Process(), Sampling(), Training()
    assert (process.timesteps, process.schedule, process.beta_start, process.beta_end) == (1000, "linear", 1e-4, 0.02)
    assert (sampling.sampler, process.prediction, sampling.ensemble) == ("ddim", "x_start", "steps")
    assert sampling.first_timestep(process) == 999
    assert training.learning_rate == 1e-4
    assert (process.mask_scale, training.timestep_density, training.dice_weight) == (1, "uniform", 1)
    assert Settings() == Settings(process, sampling, training)


@pytest.mark.parametrize("name", ["timesteps", "sampling_steps", "samples", "ensemble_steps"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True])
def test_counts_are_whole_numbers_of_at_least_one(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be a whole number of at least 1, not {value!r}"):
        made({name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "quadratic"}, "schedule must be one of linear, cosine, not 'quadratic'"),
        ({"sampler": "euler"}, "sampler must be one of ddim, ddpm, not 'euler'"),
        ({"prediction": "mask"}, "prediction must be one of x_start, velocity, noise, not 'mask'"),
        ({"ensemble": "median"}, "ensemble must be one of steps, samples, not 'median'"),
        ({"schedule_timesteps": 999}, "schedule_timesteps 999 is below the 1000 timesteps"),
        ({"beta_start": 0.0}, "beta_start must be a number above 0 and below 1, not 0.0"),
        ({"beta_start": 0.03}, "beta_start 0.03 is above beta_end 0.02"),
        ({"beta_end": 1.0}, "beta_end must be a number above 0 and below 1, not 1.0"),
        ({"early_stop": 1.0}, "early_stop must be a number of at least 0 and below 1, not 1.0"),
        ({"early_stop": -0.1}, "early_stop must be a number of at least 0 and below 1, not -0.1"),
        ({"early_stop": 0.01, "ensemble": "samples"}, "early_stop is for the ensemble of steps"),
        ({"eta": 1.1}, "eta must be a number from 0 to 1, not 1.1"),
        ({"eta": -0.1}, "eta must be a number from 0 to 1, not -0.1"),
        ({"recycling": 1.5}, "recycling must be a number from 0 to 1, not 1.5"),
        ({"recycling": 0.5, "prediction": "noise"}, "recycling is for a denoiser that predicts x_start"),
        ({"recycling": 0.5, "prediction": "velocity"}, "recycling is for a denoiser that predicts x_start"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0 and below 1, not 0"),
        ({"learning_rate": 1}, "learning_rate must be a number above 0 and below 1, not 1"),
        ({"learning_rate": "1e-3"}, "learning_rate must be a number above 0 and below 1, not '1e-3'"),
        ({"seed": -1}, "seed must be a whole number from 0 to 2147483647, not -1"),
        ({"seed": 2**31}, "seed must be a whole number from 0 to 2147483647, not 2147483648"),
        ({"start_timestep": 1000}, "start_timestep must lie in 0 ... 999, not 1000"),
        ({"start_timestep": -1}, "start_timestep must be a whole number of at least 0, not -1"),
        ({"start_timestep": 3}, "sampling_steps is 5, but only 4 timesteps can be visited"),
        ({"timesteps": 4}, "sampling_steps is 5, but only 4 timesteps can be visited"),
        ({"ensemble_steps": 11}, "ensemble_steps is 11, above the 5 sampling_steps"),
        ({"seed": 1.5}, "seed must be a whole number from 0 to 2147483647, not 1.5"),
        ({"seed": None}, "seed must be a whole number from 0 to 2147483647, not None"),
        ({"start_timestep": "9"}, "start_timestep must be a whole number of at least 0, not '9'"),
        ({"schedule_timesteps": 1000.0}, "schedule_timesteps must be a whole number of at least 1, not 1000.0"),
        ({"eta": "0.5"}, "eta must be a number from 0 to 1, not '0.5'"),
        ({"eta": float("nan")}, "eta must be a number from 0 to 1, not nan"),
        ({"beta_end": True}, "beta_end must be a number above 0 and below 1, not True"),
        ({"mirror_samples": "false"}, "mirror_samples must be true or false, not 'false'"),
        ({"mask_scale": 0}, "mask_scale must be a number above 0 and at most 1, not 0"),
        ({"mask_scale": 1.5}, "mask_scale must be a number above 0 and at most 1, not 1.5"),
        ({"dice_weight": float("inf")}, "dice_weight must be a number of at least 0, not inf"),
        ({"dice_weight": -1}, "dice_weight must be a number of at least 0, not -1"),
        ({"timestep_spacing": "log"}, "timestep_spacing must be one of even, log_snr, not 'log'"),
        ({"timestep_density": "even"}, "timestep_density must be one of uniform, log_snr, not 'even'"),
        ({"schedule": ["linear"]}, "schedule must be one of linear, cosine, not ['linear']"),
    ],
)
def test_values_out_of_range_are_named(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        made(values)


def test_every_setting_has_a_range():
    assert all(field.metadata["range"].words for kind in set(PARTS.values()) for field in dataclasses.fields(kind))


@pytest.mark.parametrize(
    "values",
    [
        {"sampling_steps": 1000, "ensemble_steps": 1000},
        {"start_timestep": 9},
        {"start_timestep": 999},
        {"seed": 2**31 - 1},
        {"schedule_timesteps": 1000},
        {"beta_start": 0.02},
        {"eta": 1},
        {"recycling": 1.0},
        {"early_stop": 0, "ensemble": "samples"},
    ],
)
def test_the_ends_of_the_ranges_are_accepted(values):
    assert made(values).as_dict().items() >= values.items()


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
    sampling = Settings().updated(overrides).sampling
    assert (sampling.sampling_steps, sampling.ensemble_steps) == (sampling_steps, ensemble_steps)
    if "timesteps" not in overrides:
        assert Sampling().updated(overrides, Process()) == sampling


@pytest.mark.parametrize(
    "overrides",
    [{"ensemble_steps": 6, "sampling_steps": 5}, {"timesteps": 4, "sampling_steps": 5}, {"samples": 0}],
)
def test_step_counts_that_are_named_never_shrink(overrides):
    with pytest.raises(ValueError, match=next(iter(overrides))):
        Settings().updated(overrides)


def test_overrides_leave_the_rest_and_the_original_alone():
    sampling = Sampling(samples=2, eta=0.5)
    changed = sampling.updated({"seed": 7, "samples": None}, Process())
    assert changed == dataclasses.replace(sampling, seed=7)
    assert sampling.seed == 0
    assert sampling.updated(None, Process()) == sampling
    assert Settings(sampling=sampling).updated({"seed": 7}) == Settings(sampling=changed)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sampling.seed = 1


def test_unknown_names_are_listed_with_the_known():
    with pytest.raises(ValueError, match=r"unknown diffusion settings steps, zeal; known are beta_end.*timesteps"):
        Settings().updated({"zeal": 1, "steps": 2})
    with pytest.raises(ValueError, match=r"unknown diffusion settings zeal; known are early_stop.*timestep_spacing$"):
        Sampling().updated({"zeal": 1}, Process())


@pytest.mark.parametrize("name", [name for name, kind in PARTS.items() if kind is not Sampling])
def test_prediction_takes_sampling_alone(name):
    """Another process than the trained one would predict wrongly; even its own value is refused."""
    value = Settings().as_dict()[name] or 1000
    with pytest.raises(ValueError, match=rf"^{name} cannot be changed at prediction, since the weights were trained"):
        Sampling().updated({name: value, "samples": 2}, Process())


def test_presets_are_samplings_of_any_model():
    """fast costs as many evaluations as nnU-Net's own prediction with its four mirrorings."""
    own = Sampling(sampling_steps=2, ensemble_steps=2)
    sampled = {name: own.updated({"preset": name}, Process()) for name in PRESETS}
    assert sampled["default"] == own
    assert (sampled["fast"].samples, sampled["fast"].sampling_steps, sampled["fast"].ensemble_steps) == (4, 1, 1)
    samples = sampled["samples"]
    assert (samples.samples, samples.sampling_steps, samples.ensemble_steps) == (16, 5, 5)
    stage = Sampling(sampling_steps=3, ensemble_steps=3, samples=3).updated({"preset": "samples"}, Process(timesteps=3))
    assert (stage.samples, stage.sampling_steps, stage.ensemble_steps) == (16, 3, 3)
    iisdm = Sampling(sampler="ddpm", sampling_steps=1000, ensemble="samples", ensemble_steps=1)
    assert iisdm.updated({"preset": "samples"}, Process()).sampling_steps == 1000
    assert own.updated({"preset": "samples", "samples": 3}, Process()).samples == 3
    with pytest.raises(ValueError, match="preset must be one of fast, default, samples, not 'slow'"):
        own.updated({"preset": "slow"}, Process())


def test_a_process_that_is_too_short_for_what_is_asked_is_named():
    with pytest.raises(ValueError, match="sampling_steps is 9, but only 8 timesteps can be visited"):
        Sampling().updated({"sampling_steps": 9}, Process(timesteps=8))
    with pytest.raises(ValueError, match=r"start_timestep must lie in 0 \.\.\. 7, not 8"):
        Sampling().updated({"start_timestep": 8}, Process(timesteps=8))


@pytest.mark.parametrize(
    ("own", "named", "idle"),
    [
        ({"sampler": "ddpm"}, {"eta": 0.5}, "eta"),
        ({}, {"sampler": "ddpm", "eta": 0.5}, "eta"),
        ({"schedule": "cosine"}, {"beta_start": 0.001}, "beta_start"),
        ({}, {"schedule": "cosine", "beta_end": 0.03}, "beta_end"),
        ({"ensemble": "samples"}, {"ensemble_steps": 2}, "ensemble_steps"),
        ({"samples": 1}, {"mirror_samples": True}, "mirror_samples"),
        ({}, {"sampling_steps": 1, "timestep_spacing": "log_snr"}, "timestep_spacing"),
        ({"prediction": "velocity"}, {"dice_weight": 0.5}, "dice_weight"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused_where_it_is_named(own, named, idle):
    with pytest.raises(ValueError, match=rf"^{idle} does nothing here: .*; leave it out$"):
        made(own).updated(named)
    if PARTS[idle] is Sampling and PARTS.keys() & own.keys() <= {f.name for f in dataclasses.fields(Sampling)}:
        with pytest.raises(ValueError, match=rf"^{idle} does nothing here"):
            made(own).sampling.updated(named, Process())


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"eta": 0.5}, {"sampler": "ddpm"}),
        ({}, {"schedule": "cosine"}),
        ({}, {"ensemble": "samples"}),
        ({}, {"samples": 1}),
        ({"samples": 1}, {"mirror_samples": False}),
    ],
)
def test_a_setting_that_nobody_named_may_do_nothing(own, named):
    assert made(own).updated(named).as_dict().items() >= named.items()


def test_a_dictionary_of_the_settings_makes_them_again():
    settings = made({"timesteps": 300, "schedule": "cosine", "samples": 3, "recycling": 0.2})
    assert made(settings.as_dict()) == settings
    assert list(settings.as_dict()) == list(PARTS)


@pytest.mark.parametrize(
    ("own", "block", "prediction"),
    [
        ("velocity", {"prediction": "noise", "noise_weighting": "velocity"}, "velocity"),
        ("x_start", {"prediction": "noise", "noise_weighting": "velocity"}, "velocity"),
        ("velocity", {"noise_weighting": "velocity"}, "velocity"),
        ("x_start", {"noise_weighting": "uniform", "samples": 2}, "x_start"),
        ("x_start", {"noise_weighting": "velocity"}, "x_start"),
        ("velocity", {"prediction": "noise"}, "noise"),
    ],
)
def test_blocks_of_the_time_of_noise_weighting(own, block, prediction):
    """A noise was then predicted through v, so that those weights answer with v; a mask knew no weighting."""
    settings = made({"prediction": own}).updated(block)
    assert settings == made({"prediction": prediction, **{n: v for n, v in block.items() if n == "samples"}})


@pytest.mark.parametrize("own", ["velocity", "noise"])
def test_a_loss_that_no_trainer_has_any_longer_names_the_remedy(own):
    with pytest.raises(ValueError, match=r"noise_weighting 'uniform' .* train nnUNetTrainerIISDMEpsilon"):
        made({"prediction": own}).updated({"noise_weighting": "uniform"})


def test_settings_import_no_torch():
    code = "import sys, nnunetv2_diffusion.settings; print('torch' in sys.modules, 'numpy' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, cwd="/")
    assert finished.stdout.split() == ["False", "False"]
