"""What is installed is what the project promises: files, entry points, declared imports and floors."""

from __future__ import annotations

import ast
import graphlib
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nnunetv2_diffusion
import nnunetv2_diffusion.dataset_conversion
from nnunetv2_diffusion import cli

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTION = importlib.metadata.distribution("nnunetv2-diffusion")
PROVIDERS = importlib.metadata.packages_distributions()
PACKAGE = Path(nnunetv2_diffusion.__file__).parent
FLOORS = {
    "setting_ranges": 0,
    "nnunet_names": 0,
    "files": 0,
    "spider": 0,
    "processors": 0,
    "measures": 0,
    "settings": 1,
    "torch_plugin": 1,
    "decisions": 1,
    "downloads": 1,
    "archives": 1,
    "diffusion": 1,
    "imaging": 1,
    "pipeline": 1,
    "sampling": 2,
    "scoring": 2,
    "anatomy": 2,
    "planning": 2,
    "phantoms": 2,
    "spider_download": 2,
    "networks": 3,
    "report": 3,
    "dataset_conversion": 3,
    "trainers": 4,
    "inference": 4,
    "demo": 5,
    "scans": 5,
    "models": 5,
    "extension": 5,
    "workflow": 5,
    "commands": 6,
    "cli": 6,
}
HEAVY = ("torch", "nnunetv2", "numpy", "scipy", "pandas", "matplotlib", "SimpleITK")


def module_files(package: Path, dataset_conversion: Path) -> dict[str, Path]:
    """Every module by its name below `nnunetv2_diffusion`, e.g. "networks.denoiser", from the two folders."""
    files = {}
    for folder, prefix in ((package, ()), (dataset_conversion, ("dataset_conversion",))):
        for path in folder.rglob("*.py"):
            parts = [*prefix, *path.relative_to(folder).with_suffix("").parts]
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del files[""]
    return files


MODULES = module_files(PACKAGE, Path(nnunetv2_diffusion.dataset_conversion.__file__).parent)


def imported_names(path: Path) -> set[str]:
    """The dotted names that a file imports, those inside functions too; `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def imported_modules(module: str) -> set[str]:
    """The modules of this package that a module imports; a package only where no module in it is named."""
    own = {
        name.removeprefix("nnunetv2_diffusion.")
        for name in imported_names(MODULES[module])
        if name.startswith("nnunetv2_diffusion.")
    } & MODULES.keys()
    return {name for name in own if not any(other.startswith(f"{name}.") for other in own)}


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def requirements(extra: str | None = None) -> set[str]:
    """Names of the distributions that the installed metadata ask for, always or with an extra."""
    names = set()
    for requirement in DISTRIBUTION.requires:
        marker = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if (marker and marker[1]) == extra:
            names.add(normalised(re.match(r"[\w.-]+", requirement)[0]))
    return names


def undeclared_imports(path: Path, declared: set[str]) -> set[str]:
    """Top-level names that a file imports from distributions not among the declared ones."""
    names = {name.partition(".")[0] for name in imported_names(path)} - sys.stdlib_module_names
    names.discard("nnunetv2_diffusion")
    return {name for name in names if not {normalised(one) for one in PROVIDERS.get(name, [])} & declared}


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8", cwd="/"
    ).stdout


class TestInstallation:
    def test_tests_see_the_installed_package(self):
        editable = '"editable": true' in (DISTRIBUTION.read_text("direct_url.json") or "")
        assert (PACKAGE.parent == ROOT) == editable

    def test_entry_points(self):
        points = {point.group: point for point in DISTRIBUTION.entry_points}
        assert points["console_scripts"].name == "spinesegdiff"
        assert points["console_scripts"].load() is cli.main
        assert points["torch.backends"].load().__name__ == "prepare_search"

    def test_dataset_conversion_from_anywhere(self):
        code = "from nnunetv2_diffusion.dataset_conversion import Dataset501_SPIDER as m; print(m.__name__)"
        assert run_python(code).strip() == "nnunetv2_diffusion.dataset_conversion.Dataset501_SPIDER"

    @pytest.mark.parametrize("name", ["setup", "tests", "benchmarks", "docs"])
    def test_the_rest_of_the_checkout_is_no_part_of_the_package(self, name):
        assert (
            run_python(f"import importlib.util as u; print(u.find_spec('nnunetv2_diffusion.{name}'))").strip() == "None"
        )

    def test_files_that_are_not_modules(self):
        source = ROOT / "nnunetv2_diffusion"
        endings = {".j2", ".css", ".js", ".mplstyle", ".yaml"}

        def files(folder: Path) -> set[Path]:
            found = (path for path in folder.rglob("*") if path.suffix in endings or path.name == "Snakefile")
            return {path.relative_to(folder) for path in found}

        wanted, installed = files(source), files(PACKAGE)
        assert wanted == installed

    def test_every_module_of_the_checkout_is_installed(self):
        assert module_files(ROOT / "nnunetv2_diffusion", ROOT / "dataset_conversion").keys() == MODULES.keys()

    def test_extension_is_one_file_of_imports(self, capsys):
        cli.main(["trainers"])
        folder = Path(capsys.readouterr().out.strip())
        files = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
        assert [path.name for path in files] == ["spinesegdiff_trainers.py"]
        docstring, *body = ast.parse(files[0].read_text(encoding="utf-8")).body
        assert isinstance(docstring, ast.Expr)
        assert {type(node) for node in body} == {ast.ImportFrom}

    def test_constraints_pin_what_is_required(self):
        lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        pinned = {normalised(line.partition("==")[0]) for line in lines if "==" in line}
        wanted = {name for extra in (None, "dicom", "docs", "grid", "report", "test") for name in requirements(extra)}
        assert wanted | {"build", "twine"} <= pinned

    def test_pre_commit_takes_the_pinned_ruff(self):
        pinned = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]
        assert f"rev: v{pinned}\n" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")

    def test_workflows_run_every_supported_python(self):
        lowest, above = map(
            int, re.fullmatch(r"(?=.*>=3\.(\d+))(?=.*<3\.(\d+)).*", DISTRIBUTION.metadata["Requires-Python"]).groups()
        )
        workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
        matrix = ast.literal_eval(re.search(r"python-version: (\[.*\])", workflow)[1])
        assert matrix == [f"3.{minor}" for minor in range(lowest, above)]


class TestImports:
    @pytest.mark.parametrize("module", sorted(MODULES))
    def test_declared(self, module):
        declared = requirements()
        if module.startswith("report."):
            declared |= requirements("report")
        if module.startswith("scans.formats."):
            declared |= requirements("dicom")
        if module.startswith("workflow.") or module == "commands.reproduce":
            declared |= requirements("grid")
        assert not undeclared_imports(MODULES[module], declared)

    def test_declared_in_tests(self):
        tests = ROOT / "tests"
        helpers = {path.stem for folder in (tests, ROOT / "benchmarks") for path in folder.rglob("*")}
        declared = requirements() | requirements("test")
        undeclared = {name for path in tests.rglob("*.py") for name in undeclared_imports(path, declared)}
        assert undeclared <= helpers

    @pytest.mark.parametrize("module", sorted(MODULES))
    def test_only_from_the_own_folder_or_a_floor_below(self, module):
        room = module.partition(".")[0]
        others = {name.partition(".")[0] for name in imported_modules(module)} - {room}
        assert not {other for other in others if FLOORS[other] >= FLOORS[room]}

    def test_only_its_command_imports_the_converter(self):
        importers = {
            name for name in MODULES if any(m.startswith("dataset_conversion") for m in imported_modules(name))
        }
        assert {name for name in importers if not name.startswith("dataset_conversion")} == {"commands.convert"}

    def test_no_cycle(self):
        graph = {module: imported_modules(module) - {module} for module in MODULES}
        order = list(graphlib.TopologicalSorter(graph).static_order())
        assert sorted(order) == sorted(MODULES)


class TestCommandLine:
    def test_each_command_has_its_file(self):
        modules = {name.removeprefix("commands.") for name in MODULES if name.startswith("commands.")}
        assert {name for name in modules if not name.startswith("_")} == cli.COMMANDS.keys()

    @pytest.mark.parametrize("argv", [["--help"], ["trainers"], *([name, "--help"] for name in cli.COMMANDS)])
    def test_imports_nothing_heavy(self, argv):
        code = (
            "import sys\nfrom nnunetv2_diffusion.cli import main\n"
            f"try: main({argv})\nexcept SystemExit as stop: assert stop.code == 0\n"
            f"print('imported:', *(name for name in {HEAVY} if name in sys.modules))"
        )
        output = run_python(code).splitlines()
        assert len(output) > 1
        assert output[-1].strip() == "imported:"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_views_of_images_that_live(module):
    """SimpleITK's array views do not keep their image: one of an unnamed image reads freed memory."""
    calls = [
        node for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    views = [call for call in calls if ast.unparse(call.func).endswith("GetArrayViewFromImage")]
    assert not [ast.unparse(call) for call in views if not isinstance(call.args[0], ast.Name | ast.Attribute)]


def test_contributing_shows_these_floors():
    rows = re.findall(r"^\| (\d) \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = [(name, int(floor)) for floor, cell in rows for name in re.findall(r"`(\w+)(?:\.py|/)`", cell)]
    assert sorted(named) == sorted(FLOORS.items())


class TestRealMriFixture:
    @pytest.mark.parametrize(
        ("required", "outcome"),
        [({}, "1 skipped"), ({"CI": "true"}, "1 error"), ({"SPINESEGDIFF_REQUIRE_REAL_MRI": "1"}, "1 error")],
    )
    def test_missing_data(self, tmp_path, required, outcome):
        (tmp_path / "conftest.py").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
        (tmp_path / "test_it.py").write_text("def test_it(real_mri):\n    assert real_mri\n", encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPINESEGDIFF")}
        environment.pop("CI", None)
        environment |= {"SPINESEGDIFF_REAL_MRI": str(tmp_path / "nowhere"), "PYTHONPATH": str(ROOT / "tests")}
        environment |= required
        command = [sys.executable, "-m", "pytest", "-q", str(tmp_path)]
        finished = subprocess.run(
            command, capture_output=True, encoding="utf-8", env=environment, cwd=tmp_path, check=False
        )
        assert outcome in finished.stdout.splitlines()[-1]
