"""Tables in the documentation equal the code: settings, commands, trainers, thresholds of the review."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
from dataclasses import fields

import pytest

from helpers.documents import PAGES, ROOT, table, text_of
from nnunetv2_diffusion import cli, settings
from nnunetv2_diffusion.commands import predict
from nnunetv2_diffusion.scans.review import ReviewThresholds
from nnunetv2_diffusion.trainers.nnUNetTrainerSpineSegDiff import nnUNetTrainerSpineSegDiff

SETTINGS = text_of(ROOT / "docs" / "settings.md")
TRAINERS = text_of(ROOT / "docs" / "trainers.md")
SHIPPED = set(importlib.import_module("nnunetv2_diffusion.extension.spinesegdiff_trainers").__all__)


def plain(cell: str) -> str:
    return cell.strip("`")


@pytest.mark.parametrize("group", ["Process", "Sampling", "Training"])
def test_settings(group: str):
    documented = {plain(row[0]): ast.literal_eval(plain(row[1])) for row in table(SETTINGS, group)}
    trained = nnUNetTrainerSpineSegDiff.settings.as_dict()
    assert documented == {field.name: trained[field.name] for field in fields(getattr(settings, group))}


def test_flags_of_the_settings():
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    documented = {plain(row[0]): plain(row[2]) for row in table(SETTINGS, "Sampling") if row[2]}
    del documented["mirror_samples"]  # nnU-Net's own flag, which turns it off
    flags = {action.dest: action.option_strings[0] for action in parser._actions}
    names = {field.name for field in fields(settings.Sampling)}
    assert documented == {name: flag for name, flag in flags.items() if name in names}


def test_commands():
    documented = [plain(row[0]) for row in table(text_of(ROOT / "docs" / "commands.md"), "Commands")]
    assert sorted(documented) == sorted(f"spinesegdiff {name}" for name in cli.COMMANDS)


def test_each_trainer_is_named():
    documented = set(re.findall(r"`(\w+)`", TRAINERS))
    assert [name for name in SHIPPED if not {name, re.sub(r"_\d+(epochs|steps)$", "", name)} & documented] == []


def test_lengths_of_trainers():
    lengths = {plain(row[0]): int(row[1]) for row in table(TRAINERS, "Trainers")}
    del lengths["nnUNetTrainerDiceLoss_250epochs"]  # nnU-Net's own class, which sets its length when it is made
    modules = {name: importlib.import_module(f"nnunetv2_diffusion.trainers.{name}") for name in lengths}
    assert lengths == {name: getattr(module, name).epochs for name, module in modules.items()}


def test_trainers_that_a_page_names_exist():
    texts = [text_of(path).replace("__", " ") for path in PAGES.values()]  # of <trainer>__<plans>__<configuration>
    named = {name for text in texts for name in re.findall(r"\bnnUNetTrainer[A-Z]\w*", text)}
    assert sorted(named - SHIPPED) == []


def test_thresholds_of_the_review():
    rows = table(text_of(ROOT / "docs" / "scans.md"), "When a mask asks for a human look")
    assert {plain(row[0]): float(row[1]) for row in rows} == ReviewThresholds().as_dict()
