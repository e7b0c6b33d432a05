"""The report's page in a real headless Chromium, opened from disk."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from helpers.browser import open_page
from helpers.spine_tree import MODELS, Model, build_tree, some_patients, write_gradings
from nnunetv2_diffusion.cli import main


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report of a small tree, and what it was made from."""
    root = tmp_path_factory.mktemp("browser")
    models = (Model("nnUNetTrainerSpineSegDiff__nnUNetPlans__2d", 0.7, probabilities=True), *MODELS[1:2], MODELS[3])
    with pytest.MonkeyPatch.context() as patch:
        datasets = ("Dataset501_SPIDER_T1w", "Dataset503_SPIDER_T1wT2w")
        for name, folder in build_tree(root, some_patients(15), datasets, models, size=96).items():
            patch.setenv(name, folder)
        write_gradings(root / "radiological_gradings.csv", range(1, 16))
        arguments = [
            "-d",
            "501",
            "503",
            "--spider",
            str(root),
            "-o",
            str(root / "report"),
            "--gallery",
            "12",
            "-np",
            "1",
        ]
        assert main(["report", *arguments]) == 0
    return root / "report" / "index.html"


@pytest.fixture
def browser(page, tmp_path):
    """Chromium with the page open; fails afterwards if its console holds an error."""
    with open_page(page, tmp_path) as driver:
        yield driver


def first_card_drawn(driver, after: int = 0):
    """The first card, scrolled to, once it has been drawn more than `after` times."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.execute_script("document.querySelector('.card').scrollIntoView()")
    drawn = "return Number(document.querySelector('.card').dataset.drawn || 0)"
    WebDriverWait(driver, 20).until(lambda d: d.execute_script(drawn) > after)
    return driver.find_element("css selector", ".card"), driver.execute_script(drawn)


def panes(driver) -> list[np.ndarray]:
    """What the first card's four canvases show."""
    script = "return [...document.querySelector('.card').querySelectorAll('canvas')].map(c => c.toDataURL('image/png'))"
    urls = driver.execute_script(script)
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"), float)
        for url in urls
    ]


def set_value(driver, selector: str, value: str, event: str) -> None:
    driver.execute_script(
        "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event(arguments[2]))",
        selector,
        value,
        event,
    )


def test_opens_whole(browser):
    assert "evaluation" in browser.title
    for section in ("table1", "models", "table2", "pathologies", "uncertainty", "gallery", "cases", "methods"):
        assert browser.find_element("id", section).is_displayed()
    assert (
        browser.execute_script(
            "return performance.getEntriesByType('resource').filter(e => /^http/.test(e.name)).length"
        )
        == 0
    )
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "the page scrolls sideways"


def test_opacity_slider_changes_the_overlays_alone(browser):
    _, drawn = first_card_drawn(browser)
    before = panes(browser)
    assert browser.find_element("id", "gallery-opacity-value").text == "55 %"
    set_value(browser, "#gallery-opacity", "100", "input")
    _, drawn = first_card_drawn(browser, drawn)
    full = panes(browser)
    assert np.array_equal(before[0], full[0]), "the plain image has no overlay"
    for pane in (1, 2, 3):
        assert np.abs(before[pane] - full[pane]).max() > 40
    set_value(browser, "#gallery-opacity", "0", "input")
    browser.find_element("id", "gallery-outline").click()
    first_card_drawn(browser, drawn + 1)
    for pane in panes(browser)[1:]:
        assert np.array_equal(pane, before[0]), "at opacity 0 and without outline every pane is the image"


def test_toggle_hides_one_structure(browser):
    _, drawn = first_card_drawn(browser)
    set_value(browser, "#gallery-opacity", "100", "input")
    _, drawn = first_card_drawn(browser, drawn)
    colour = browser.execute_script("return JSON.parse(document.getElementById('report-data').textContent).gallery")
    vertebrae = next(s["colour"] for s in colour["structures"] if s["name"] == "vertebrae")
    wanted = np.array([int(vertebrae[at : at + 2], 16) for at in (1, 3, 5)])
    count = lambda pane: int((np.abs(pane - wanted).max(axis=-1) <= 2).sum())  # noqa: E731
    assert count(panes(browser)[1]) > 500
    browser.find_element("css selector", "input[name=structure][value=vertebrae]").click()
    first_card_drawn(browser, drawn)
    assert count(panes(browser)[1]) == 0 and count(panes(browser)[2]) == 0


def test_gallery_sorts_and_filters(browser):
    data = browser.execute_script("return JSON.parse(document.getElementById('report-data').textContent).gallery.cases")
    model = "SpineSegDiff"

    def shown() -> list[str]:
        return browser.execute_script("return [...document.querySelectorAll('.card')].map(c => c.dataset.case)")

    def expected(key: str, down: bool, modality: str = "") -> list[str]:
        rows = [
            (next(p for p in entry["predictions"] if p["model"] == model)[key], entry["case"])
            for entry in data
            if not modality or entry["modality"] == modality
        ]
        return [case for _, case in sorted(rows, key=lambda row: (-row[0] if down else row[0], row[1]))]

    assert shown() == expected("mean_dice", False)
    set_value(browser, "#gallery-sort", "uncertainty-down", "change")
    assert shown() == expected("mean_uncertainty", True)
    set_value(browser, "#gallery-modality", "T1w", "change")
    assert shown() == expected("mean_uncertainty", True, "T1w") and len(shown()) == 6
    assert browser.find_element("id", "gallery-status").text.startswith("6 cases")
    model = "nnU-Net"
    set_value(browser, "#gallery-model", model, "change")
    set_value(browser, "#gallery-sort", "dice-down", "change")
    assert shown() == expected("mean_dice", True, "T1w")
    assert "no uncertainty map" in browser.find_element("css selector", ".card").text


def test_table_cells_lead_to_sorted_cases(browser):
    cell = browser.find_element(
        "css selector", "a.cell[data-model='nnU-Net'][data-dataset='Dataset501_SPIDER_T1w'][data-structure=discs]"
    )
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    cell.click()
    table = browser.find_element("id", "cases-table")
    assert table.find_element("tag name", "caption").text == "nnU-Net, T1w: 15 cases"
    column = (
        "return [...document.querySelectorAll('#cases-table tbody tr')]"
        ".map(r => parseFloat(r.cells[arguments[0]].textContent))"
    )
    index = browser.execute_script(
        "return [...document.querySelectorAll('#cases-table thead th')].findIndex(c => c.ariaSort === 'ascending')"
    )
    heading = table.find_elements("css selector", "thead th")[index]
    assert heading.text.startswith("Discs Dice")
    values = browser.execute_script(column, index)
    assert values == sorted(values) and len(set(values)) > 3
    heading.find_element("tag name", "button").click()
    assert browser.execute_script(column, index) == sorted(values, reverse=True)


def test_keyboard_and_screen_reader(browser):
    """Every control has a name, every picture an alternative, and the tab key reaches the slider."""
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('select, input')].filter(e => !e.labels.length).map(e => e.id)"
    )
    assert unnamed == []
    first_card_drawn(browser)
    assert browser.execute_script(
        "return [...document.querySelectorAll('canvas, .plot')]"
        ".every(e => e.getAttribute('role') === 'img' && e.ariaLabel)"
    )
    slider = browser.find_element("id", "gallery-opacity")
    slider.send_keys("\ue014")  # arrow right
    assert browser.find_element("id", "gallery-opacity-value").text == "56 %"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_in_light_and_dark(browser, scheme):
    """Text stands out from its ground by at least 4.5 to 1 (WCAG AA) in both colour schemes."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for selector in ("body", "section p", ".quiet", ".std", "tr.paper td", ".contents a", "figcaption", "thead th"):
        assert contrast(browser, selector) >= 4.5, selector
    axis_text = browser.execute_script("return getComputedStyle(document.querySelector('.plot svg')).color")
    assert axis_text == browser.execute_script("return getComputedStyle(document.body).color")


def contrast(driver, selector: str) -> float:
    """WCAG contrast of the first match's text with the nearest painted ground above it."""
    script = """
    let e = document.querySelector(arguments[0]); const ink = getComputedStyle(e).color; let ground;
    do { ground = getComputedStyle(e).backgroundColor; e = e.parentElement; } while (e && /, 0\\)$/.test(ground));
    return [ink, ground]"""
    lights = []
    for text in driver.execute_script(script, selector):
        rgb = np.array([float(value) for value in text[text.index("(") + 1 : -1].split(",")[:3]]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lights) + 0.05) / (min(lights) + 0.05)
