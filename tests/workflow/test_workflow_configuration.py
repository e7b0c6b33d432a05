"""config.yaml: the two that come with the package are good, and every typing error is refused by its name."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from nnunetv2_diffusion.workflow.configuration import PAPER, PHANTOMS, read_configuration

GOOD = yaml.safe_load(PAPER.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [PAPER, PHANTOMS], ids=lambda path: path.stem)
def test_what_comes_with_the_package_is_valid(path: Path):
    assert read_configuration(path) == yaml.safe_load(path.read_text(encoding="utf-8"))


def changed(place: str, value: object) -> dict:
    content = copy.deepcopy(GOOD)
    inner = content
    *parents, last = place.split(".")
    for name in parents:
        inner = inner[name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("modalites", ["T2w"], r"there is no entry 'modalites' \(did you mean 'modalities'\?\)"),
        ("resources.train.minuts", 3, r"there is no entry 'minuts' in resources\.train \(did you mean 'minutes'\?\)"),
        ("models.iisdm.trainr", "x", r"there is no entry 'trainr' in models\.iisdm \(did you mean 'trainer'\?\)"),
        ("pre_segmentation.T", 30, r"there is no entry 'T' in pre_segmentation"),
        ("cluster.queue", "gpu", r"there is no entry 'queue' in cluster; it knows partition, account"),
        ("folds", None, r"the entry 'folds' is missing; take it from paper\.yaml"),
        ("models.iisdm.trainer", None, r"the entry 'trainer' is missing in models\.iisdm"),
        ("modalities", ["T3w"], r"modalities\.0 must be otherwise: 'T3w' is not one of"),
        ("modalities", [], r"modalities must be otherwise"),
        ("folds", [0, 0], r"folds must be otherwise"),
        ("folds", ["a"], r"folds\.0 must be otherwise: 'a' is not of type 'integer'"),
        ("resources.train.minutes", 0, r"resources\.train\.minutes must be otherwise"),
        ("models.iisdm.trainer", "a; rm -rf /", r"models\.iisdm\.trainer must be otherwise"),
        ("cluster.partition", "gpu --evil", r"cluster\.partition must be otherwise"),
        ("device", "tpu", r"device must be otherwise: 'tpu' is not one of"),
        ("save_every", 0, r"save_every must be otherwise"),
        ("pre_segmentation.timesteps", [0], r"pre_segmentation"),
        (
            "pre_segmentation.baseline",
            "nnuet",
            r"baseline names 'nnuet', which is no model \(did you mean 'nnunet'\?\)",
        ),
        ("pre_segmentation.base", "2d_small", r"refine a model of configuration 2d_small, but nnunet is of 2d"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, place: str, value: object, message: str):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(changed(place, value)), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_configuration(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "\x00", "3"])
def test_no_configuration_at_all(tmp_path: Path, text: str):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_configuration(path)
