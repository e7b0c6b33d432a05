"""Real trainings on a real Slurm: a study that is disturbed in every way ends as one that is not; run by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from helpers import campaign, slurm
from helpers.slurm_studies import SlurmStudy, results
from nnunetv2_diffusion.workflow.configuration import PHANTOMS

WHOLE = yaml.safe_load(PHANTOMS.read_text(encoding="utf-8"))
# One modality, a baseline, a diffusion model, and neither stages nor maps.
SMALLEST = WHOLE | {"modalities": ["T2w"], "folds": [0], "pre_segmentation": None}
SMALLEST["models"] = {key: {**about, "maps": False} for key, about in WHOLE["models"].items()}
ONCE = {"0": 1, "1": 1}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of Slurm's commands."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="Snakemake needs Python 3.11")
    if slurm.why_not():
        pytest.skip(slurm.why_not())
    with slurm.slurm(tmp_path_factory.mktemp("slurm") / "s") as environment:
        yield environment


@pytest.mark.campaign
@pytest.mark.parametrize(("name", "config"), [("smallest", SMALLEST), ("whole", WHOLE)])
def test_a_disturbed_study_ends_as_an_undisturbed_one(name: str, config: dict, cluster: dict[str, str], tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    undisturbed = SlurmStudy(tmp_path / "undisturbed", cluster, "--config", path)
    seconds = [time.monotonic()]
    undisturbed.start()
    undisturbed.end()
    seconds.append(time.monotonic())
    assert {training: dict(epochs) for training, epochs in undisturbed.epochs().items()} == dict.fromkeys(
        undisturbed.epochs(), ONCE
    )
    disturbed = SlurmStudy(tmp_path / "disturbed", cluster, "--config", path)
    disturbed.start()
    cancelled, requeued = cut_in_its_second_epoch(disturbed), cut_in_its_validation(disturbed)
    kill_snakemake(disturbed)
    drain_and_resume(disturbed)
    disturbed.end()
    seconds.append(time.monotonic())
    expected, found = results(undisturbed.folder), results(disturbed.folder)
    assert expected.keys() == found.keys()
    assert not [name for name, digest in expected.items() if found[name] != digest]
    for training, epochs in disturbed.epochs().items():
        assert epochs["0"] == 1, f"{training}: a checkpoint was there"
        assert epochs["1"] == 1 or training == cancelled
    campaign.note(
        "a disturbed study on Slurm",
        name,
        trainings=len(disturbed.epochs()),
        results=len(expected),
        undisturbed_seconds=round(seconds[1] - seconds[0]),
        disturbed_seconds=round(seconds[2] - seconds[1]),
        cancelled_in_its_second_epoch=cancelled,
        requeued_in_its_validation=requeued,
    )


def cut_in_its_second_epoch(study: SlurmStudy) -> str:
    """`scancel`: the next attempt goes on from the checkpoint of the first epoch."""
    return cut(study, "checkpoint_latest.pth", "scancel")


def cut_in_its_validation(study: SlurmStudy) -> str:
    """`scontrol requeue`, as when another job preempts it, while nnU-Net predicts the fold's own cases."""
    return cut(study, "checkpoint_final.pth", "scontrol", "requeue")


def cut(study: SlurmStudy, written: str, *words: str) -> str:
    """End a training that has just written a file, and wait for its next attempt; one that was quicker is let go."""
    quicker: set[str] = set()
    while True:
        found: list[str] = []
        study.until(partial(look_for, study, written, quicker, found))
        training = found[0]
        before = study.record(training)
        study.ask(*words, before["slurm_job"])
        study.until(partial(is_over, study, training, before["attempts"]))
        if study.record(training)["attempts"] > before["attempts"]:
            return training
        quicker.add(training)


def is_over(study: SlurmStudy, training: str, attempts: int) -> bool:
    """Whether that attempt has finished the training, or has been followed by another."""
    record = study.record(training)
    return record["state"] == "finished" or record["attempts"] > attempts


def look_for(study: SlurmStudy, written: str, but: set[str], found: list[str]) -> list[str]:
    """Add to `found` the trainings that run and have written a file."""
    trainings = [training for training in study.running("train-") if training not in but]
    found += [training for training in trainings if (study.fold(training) / written).exists()]
    return found


def drain_and_resume(study: SlurmStudy) -> None:
    study.until(lambda: study.running("train-"))
    node = study.ask("sinfo", "--noheader", "--format=%N").strip()
    study.ask("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    study.until(lambda: not study.ask("squeue", "--noheader", "--states=RUNNING,COMPLETING").strip())
    assert not study.running()
    time.sleep(3)
    assert not study.running(), "a drained node begins nothing"
    study.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")


def kill_snakemake(study: SlurmStudy) -> None:
    """Its jobs go on at the cluster, and the same command is typed again."""
    study.until(lambda: study.running("train-"))
    study.kill()
    study.start()
