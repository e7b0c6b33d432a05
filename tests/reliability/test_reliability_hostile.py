"""Input that means harm: markup in names, pickles in files that are read, a patient's identifiers in the results."""

from __future__ import annotations

import contextlib
import gzip
import html.parser
import os
import re
import shutil
import tracemalloc
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import spine_tree
from helpers.segment_samples import phantom, write_dicom, write_model
from helpers.spider_samples import SAGITTAL
from helpers.spine_tree import MODELS, build_tree, some_patients
from nnunetv2_diffusion.cli import main
from nnunetv2_diffusion.imaging.volumes import Volume
from nnunetv2_diffusion.inference.checkpoints import load_checkpoint
from nnunetv2_diffusion.scoring.case_files import read_probabilities

# Without a slash, which no file name can hold; the last one is for what is no file name.
MARKUP = "'\"><img src=x onerror=harmed=1><svg onload=harmed=2>{{7*7}}&lt;`${7*7}"
# What matplotlib draws axes with: how many there are depends on the length of the names beside them.
DRAWN = {"g", "path", "use", "text", "defs", "rect", "clippath", "style"}
CLOSING = f"{MARKUP}</script></title></style><script>harmed=3</script>"


class Elements(html.parser.HTMLParser):
    """Counts a page's elements with the names of their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.counts: Counter = Counter()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        names = tuple(sorted(name for name, _ in attrs))
        if tag not in DRAWN or any(name.startswith("on") for name in names):
            self.counts[tag, names] += 1


def make_page(root: Path, *, case: str, structure: str, dataset: str) -> Path:
    """The report of a tree whose names of cases, of a structure and of the dataset are given."""
    root.mkdir()
    models = (MODELS[0], MODELS[3])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spine_tree, "LABELS", {"background": 0, structure: 1, "vertebrae": 2, "discs": 3})
        patch.setattr(spine_tree, "case_name", lambda patient, contrast: f"{case}_{patient:03d}_{contrast}")
        patch.setitem(spine_tree.CONTRASTS, dataset, ("t1",))
        for name, folder in build_tree(root, some_patients(5), (dataset,), models, size=32).items():
            patch.setenv(name, folder)
        assert main(["report", "-d", dataset, "-o", str(root / "report"), "--gallery", "5", "-np", "1"]) == 0
    return root / "report" / "index.html"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A page of plain names, and one of names with markup."""
    root = tmp_path_factory.mktemp("hostile")
    plain = make_page(root / "plain", case="case", structure="canal", dataset="Dataset501_Plain")
    harmful = make_page(root / "harmful", case=MARKUP, structure=CLOSING, dataset=f"Dataset501_{MARKUP}")
    return plain, harmful


def test_markup_in_names_adds_no_element_to_the_report(pages: tuple[Path, Path]):
    plain, harmful = (Elements(page.read_text(encoding="utf-8")).counts for page in pages)
    assert harmful == plain
    assert "onerror=harmed" in pages[1].read_text(encoding="utf-8")  # the names are there, as text


def test_markup_in_names_does_nothing_in_a_browser(pages: tuple[Path, Path], tmp_path: Path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with its chromedriver on this machine (Debian: chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        browser.get(pages[1].as_uri())
        browser.execute_script("for (const card of document.querySelectorAll('.card')) card.scrollIntoView()")
        for element in browser.find_elements("css selector", "select, input"):
            browser.execute_script("arguments[0].dispatchEvent(new Event('change', {bubbles: true}))", element)
        assert browser.execute_script("return typeof harmed") == "undefined"
        assert browser.execute_script("return document.querySelectorAll('img[src=x], svg[onload]').length") == 0
    finally:
        browser.quit()


class Harm:
    """What a pickle does that runs a program: it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_checkpoint_that_would_run_a_program_is_refused(tmp_path: Path):
    model = write_model(tmp_path / "results")
    file = model / "fold_0" / "checkpoint_final.pth"
    torch.save({**load_checkpoint(file), "logging": Harm(tmp_path / "harmed")}, file)
    with pytest.raises(ValueError, match="could run code when it is opened"):
        load_checkpoint(file)
    assert not (tmp_path / "harmed").exists()


def test_probabilities_that_would_run_a_program_are_refused(tmp_path: Path, capsys, monkeypatch):
    models = (MODELS[0], MODELS[3])
    for name, folder in build_tree(tmp_path, some_patients(5), ("Dataset501_SPIDER_T1w",), models, size=32).items():
        monkeypatch.setenv(name, folder)
    mask = next((tmp_path / "nnUNet_results").rglob("fold_0/validation/*.nii.gz"))
    harmful = np.array([Harm(tmp_path / "harmed")], dtype=object)
    np.savez(mask.with_name(mask.name.replace(".nii.gz", ".npz")), probabilities=harmful, allow_pickle=True)
    for path in mask.parent.parent.glob("validation_uncertainty/*.nii.gz"):
        path.unlink()
    assert main(["report", "-d", "501", "-o", str(tmp_path / "report"), "-np", "1"]) == 2
    assert ".npz" in capsys.readouterr().err
    assert not (tmp_path / "harmed").exists()


CLIMBING = ("../climbed", "a/../../climbed", "/tmp/climbed_spinesegdiff", "C:\\climbed", "..\\climbed")


def add_climbers(archive: Path) -> None:
    """Members that would lie outside of the folder if the archive were unpacked, and a link out of it."""
    with zipfile.ZipFile(archive, "a") as opened:
        for name in CLIMBING:
            opened.writestr(name, "climbed")
        link = zipfile.ZipInfo("link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        opened.writestr(link, "../climbed")


def test_members_that_climb_out_of_the_folder_are_not_unpacked(tmp_path: Path):
    """The archives that are opened are checkpoints and probabilities: in memory, the members that are known alone."""
    model = write_model(tmp_path / "a" / "results")
    checkpoint, probabilities = model / "fold_0" / "checkpoint_final.pth", tmp_path / "a" / "case.npz"
    np.savez_compressed(probabilities, probabilities=np.full((2, 1, 4, 4), 0.5, np.float32))
    for archive in (checkpoint, probabilities):
        add_climbers(archive)
    before = sorted(tmp_path.rglob("*"))
    with contextlib.suppress(ValueError):
        load_checkpoint(checkpoint)
    reference = Volume(tmp_path / "mask", np.zeros((1, 4, 4)), (1.0, 1.0, 1.0), None)
    assert (read_probabilities(probabilities, reference) == 0.5).all()
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path(CLIMBING[2]).exists()


@pytest.mark.parametrize(
    ("shape", "values", "message"),
    [
        ((4, 10**6, 10**6), "<f4", "holds probabilities of shape"),
        ((10**9, 1, 4, 4), "<f4", "holds probabilities of shape"),
        ((4, 1, 4, 4), "|V1000000000", "holds no array"),
    ],
)
def test_probabilities_that_promise_more_than_there_is(tmp_path: Path, shape, values: str, message: str):
    archive = zipfile.ZipFile(tmp_path / "case.npz", "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("probabilities.npy", "w") as array:
        np.lib.format.write_array_header_1_0(array, {"shape": shape, "fortran_order": False, "descr": values})
        for _ in range(50):
            array.write(bytes(1 << 20))
    reference = Volume(tmp_path / "mask", np.zeros((1, 4, 4)), (1.0, 1.0, 1.0), None)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        read_probabilities(tmp_path / "case.npz", reference)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


IDENTIFYING = {
    "0010|0010": "Sekretova^Zdenka",
    "0010|0020": "PID90125577",
    "0010|0030": "19470219",
    "0010|1000": "OTHERID777123",
    "0010|1040": "Hidden Street 42",
    "0010|2154": "00491234567",
    "0010|4000": "CommentOnPatient",
    "0008|0020": "20230117",
    "0008|0050": "ACCNO4242",
    "0008|0080": "Clinic Namenlos",
    "0008|0090": "Refererova^Jana",
    "0008|1010": "STATION88",
    "0008|1030": "StudyOfSekretova",
    "0008|1048": "Physicianova",
    "0008|1070": "Operatorova",
    "0018|1030": "ProtocolOfSekretova",
    "0018|1000": "SERIAL55667",
    "0020|0010": "STUDYID3131",
    "0032|1060": "ProcedureOfSekretova",
    "0038|0010": "ADMISSION646",
}


def inside(path: Path) -> bytes:
    """A file's bytes, and those that its compressed parts hold (gzip, zlib, png's text chunks, zip)."""
    data = path.read_bytes()
    parts = [data]
    if path.suffix == ".gz":
        parts.append(gzip.decompress(data))
    if path.suffix == ".png":
        with Image.open(path) as picture:
            parts.append(repr(picture.info).encode())
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            parts += [archive.read(name) for name in archive.namelist()]
    for start in (match.start() for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", data)):
        try:
            parts.append(zlib.decompressobj(47).decompress(data[start:]))
        except zlib.error:
            continue
    return b"\n".join(parts)


@pytest.mark.parametrize("ending", ["mha", "nii.gz", "nrrd"])
def test_no_identifier_of_a_patient_reaches_what_segment_writes(tmp_path: Path, capfd, ending: str):
    model = write_model(tmp_path / "results", patch=(32, 32), size=32)
    scan, _ = phantom(SAGITTAL, (32, 32, 3), (1.0, 1.0, 4.0))
    folder = write_dicom(tmp_path / "Sekretova_Zdenka_19470219", scan, **IDENTIFYING)
    output = tmp_path / "out"
    arguments = [folder, output, "--model", model, "--format", ending, "--save-probabilities", "-device", "cpu"]
    assert main(["segment", *map(str, arguments)]) == 0
    written = [path for path in output.rglob("*") if path.is_file()]
    assert len(written) == 5
    told = "".join(capfd.readouterr()).encode()
    words = {word for value in IDENTIFYING.values() for word in re.split(r"[\^ ]", value) if len(word) > 2}
    words |= {"1.2.826.0.1.3680043.2.1125"}
    for name, content in [("output", told), *((path.name, path.name.encode() + inside(path)) for path in written)]:
        assert [word for word in words if word.lower().encode() in content.lower()] == [], name
