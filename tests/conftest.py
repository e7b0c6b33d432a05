"""Fixtures shared by all tests: real lumbar MRI beside the checkout, tiny nnU-Net datasets and models."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import parallel, real_spine
from helpers.nnunet_samples import TinyProject, nnunet_environment
from nnunetv2_diffusion import nnunet_names

# As a user's shell has it; read when PyTorch is imported, see nnunetv2_diffusion/torch_plugin.py.
nnunet_names.make_trainers_known()
# Read by nnU-Net when it is imported: pools of one process.
os.environ.setdefault("nnUNet_def_n_proc", "1")
# Read by PyTorch when it is imported: threads that wait for each other soon sleep, rather than take a busy machine's
# cores.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """A worker of pytest-xdist takes its share of the processors before anything is imported that counts them."""
    parallel.take_share(config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers begin with the longest files."""
    parallel.longest_first(config, items)


@pytest.fixture(scope="session")
def real_mri() -> Path:
    """`../shared/mri` (or the folder that SPINESEGDIFF_REAL_MRI names); its README says what it holds.

    Without it tests are skipped; they fail where CI is "true" or SPINESEGDIFF_REQUIRE_REAL_MRI is set.
    """
    folder = Path(os.environ.get("SPINESEGDIFF_REAL_MRI", ROOT.parent / "shared" / "mri"))
    if not folder.is_dir():
        required = os.environ.get("CI") == "true" or os.environ.get("SPINESEGDIFF_REQUIRE_REAL_MRI")
        give_up = pytest.fail if required else pytest.skip
        give_up(f"no real MRI: {folder} does not exist (name another folder with SPINESEGDIFF_REAL_MRI)")
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """PyTorch's threads only slow tiny networks down; the commands under test ask for all cores."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_project(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """nnU-Net's folders with tiny datasets and models, each made when a test first asks for it."""
    return TinyProject(tmp_path_factory.mktemp("tiny_nnunet"))


@pytest.fixture
def tiny(tiny_project: TinyProject) -> Iterator[TinyProject]:
    """`tiny_project`, its folders set in nnU-Net's environment variables."""
    with nnunet_environment(tiny_project.root):
        yield tiny_project


@pytest.fixture(scope="session")
def real_model(real_mri: Path, tmp_path_factory: pytest.TempPathFactory) -> real_spine.RealModel:
    """SpineSegDiff trained on real MRI by the stock commands, for five epochs (minutes), and patients it never saw."""
    return real_spine.train(real_mri, tmp_path_factory.mktemp("real_model"))
