"""Facts are written down once: a name of floor 0 is spelt out nowhere else, and files are replaced in one place."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def python_files(*folders: str) -> dict[str, Path]:
    return {str(path.relative_to(ROOT)): path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))}


FILES = python_files("nnunetv2_diffusion", "dataset_conversion", "benchmarks")
TESTS = python_files("tests")
# Options of subprocess that leave the encoding to the locale.
LOCALES = {"te" + "xt", "universal_newlines"}
# What a string in the code must not spell out, and the one file that may.
LITERALS = {
    r"_preseg_T": "nnunet_names.py",
    r"predicted_next_stage": "nnunet_names.py",
    r"spinesegdiff_conversion": "nnunet_names.py",
    r"nnUNet_extTrainer": "nnunet_names.py",
    r"\bfold_": "nnunet_names.py",
    r"^__$": "nnunet_names.py",
    r"^extension$": "nnunet_names.py",
    r"^Dataset$|Dataset\{|\^?Dataset\\d": "nnunet_names.py",
    r"^validation_uncertainty$": "nnunet_names.py",
    r"\bt2_SPACE\b": "spider.py",
    r"^SPIDER_$|^SPIDER_T": "spider.py",
    r"^spinal_canal$": "spider.py",
}


def strings(path: Path) -> list[str]:
    """Every string of a file's code, the parts of f-strings too, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


@pytest.mark.parametrize("name", FILES)
def test_no_name_is_spelt_out_a_second_time(name: str):
    found = [
        (pattern, text)
        for pattern, home in LITERALS.items()
        for text in strings(FILES[name])
        if re.search(pattern, text) and Path(name).name != home
    ]
    assert found == []


@pytest.mark.parametrize("name", FILES)
def test_files_are_replaced_in_one_place(name: str):
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert name == "nnunetv2_diffusion/files.py" or not called & {"os.replace", "os.rename", "shutil.move"}


@pytest.mark.parametrize("name", FILES | TESTS)
def test_what_a_process_prints_is_read_in_a_named_encoding(name: str):
    """text=True would read it in the locale's, which may be ASCII, and which a C library may change."""
    tree = ast.parse((FILES | TESTS)[name].read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg in LOCALES]
    pairs = [
        pair
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for pair in zip(node.keys, node.values, strict=True)
    ]
    set_to = {(getattr(key, "value", None), getattr(value, "value", None)) for key, value in pairs}
    assert not set_to & {(name, True) for name in LOCALES}


def test_oblique_patients_are_listed_once():
    listing = [name for name, path in FILES.items() if "133, 152, 160" in path.read_text(encoding="utf-8")]
    assert listing == ["nnunetv2_diffusion/spider.py"]


def test_every_pattern_finds_its_home():
    """A pattern that matched nothing anywhere would forbid nothing."""
    for pattern, home in LITERALS.items():
        assert any(re.search(pattern, text) for text in strings(ROOT / "nnunetv2_diffusion" / home)), pattern
