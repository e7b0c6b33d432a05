"""The cohort's page in a real headless Chromium, opened from disk."""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.browser import open_page
from helpers.cohort_samples import HOSTILE, write_result
from nnunetv2_diffusion.scans.page.page import render, write_page
from nnunetv2_diffusion.scans.page.results import read_results
from nnunetv2_diffusion.scans.page.verdicts import rejected_scans

pytest.importorskip("selenium", reason="selenium is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    for number in range(9):
        heights, dice = (25.0 + number / 4, 30.0), (0.9 + number / 100 if number != 4 else 0.31)
        write_result(folder, f"plain{number}", uncertainty=0.1 + number / 100, pairwise_dice=dice, heights=heights)
    write_result(folder, "tall", uncertainty=0.05, heights=(26.0, 45.0))
    write_result(folder, HOSTILE, uncertainty=0.4, reasons=("discs: not found", "</script><b>bold</b>"))
    write_page(folder)
    return folder / "index.html"


@pytest.fixture
def browser(page: Path, tmp_path: Path):
    with open_page(page, tmp_path) as driver:
        yield driver


def shown(driver) -> list[str]:
    return [row.get_dom_attribute("data-name") for row in driver.find_elements("css selector", ".scan:not([hidden])")]


def press(driver, keys: str) -> None:
    driver.switch_to.active_element.send_keys(keys)


def chosen(driver) -> str:
    return driver.find_element("id", "title").text


def select(driver, name: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("id", name)).select_by_visible_text(text)
    driver.execute_script("document.activeElement.blur()")


def test_opens_with_the_scan_most_in_doubt(browser):
    assert browser.title == "Segmentations: 11 scans"
    assert shown(browser)[:3] == [HOSTILE, "tall", "plain8"] and chosen(browser) == HOSTILE
    assert browser.execute_script("return document.getElementById('picture').naturalWidth") == 90
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, "the page scrolls sideways"
    assert "discs: not found" in browser.find_element("id", "details").text
    remote = "return performance.getEntriesByType('resource').filter(e => /^http/.test(e.name)).length"
    assert browser.execute_script(remote) == 0


def test_sort_and_filter(browser):
    select(browser, "sort", "name")
    assert shown(browser) == sorted([HOSTILE, "tall", *(f"plain{n}" for n in range(9))])
    select(browser, "sort", "uncertainty")
    assert shown(browser) == [HOSTILE, *(f"plain{n}" for n in range(8, -1, -1)), "tall"]
    select(browser, "sort", "pairwise Dice of the samples")
    assert shown(browser)[:3] == ["plain4", "plain0", "plain1"]  # the least alike first, those without samples last
    assert sorted(shown(browser)[-2:]) == sorted([HOSTILE, "tall"])
    browser.find_element("css selector", "[data-name=plain4] strong").click()
    assert "pairwise Dice of the samples: 0.310" in browser.find_element("id", "details").text
    select(browser, "sort", "measurements outside the others' range")
    assert shown(browser)[0] == "tall"
    select(browser, "filter", "a measurement outside of the others' range (1)")
    assert shown(browser) == ["tall"] and chosen(browser) == "tall"
    select(browser, "filter", "discs: not found (1)")
    assert shown(browser) == [HOSTILE]
    select(browser, "filter", "those with a reason")
    assert sorted(shown(browser)) == [HOSTILE, "tall"]


def test_keys_verdicts_and_their_file(browser, page: Path, tmp_path: Path):
    from selenium.webdriver.common.keys import Keys

    press(browser, "r")
    press(browser, "c")
    press(browser, 'a "q", really' + Keys.ESCAPE)
    press(browser, Keys.ARROW_DOWN + "a")
    assert chosen(browser) == "tall"
    press(browser, "jr")
    press(browser, "u")
    press(browser, "kkk")
    assert chosen(browser) == HOSTILE
    assert browser.find_element("id", "state").text == "2 of 11 decided"
    browser.refresh()
    assert browser.find_element("css selector", ".scan .verdict").text == 'rejected: a "q", really'
    select(browser, "filter", "accepted")
    assert shown(browser) == ["tall"]
    browser.find_element("id", "export").click()
    file = tmp_path / "verdicts.csv"
    for _ in range(100):
        if file.is_file():
            break
        time.sleep(0.1)
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["scan"], row["verdict"], row["comment"]) for row in rows] == [
        (HOSTILE, "reject", 'a "q", really'),
        ("tall", "accept", ""),
    ]
    assert rejected_scans(file) == {HOSTILE}


def test_a_scan_that_was_segmented_again_is_undecided(browser, page: Path):
    press(browser, "a")
    write_result(page.parent, HOSTILE, uncertainty=0.4, reasons=("discs: not found", "again"), made="second")
    write_page(page.parent)
    browser.refresh()
    assert chosen(browser) == HOSTILE
    assert browser.find_element("id", "state").text == "0 of 11 decided"


def test_a_dot_leads_to_its_scan(browser):
    from selenium.webdriver import ActionChains

    select(browser, "filter", "discs: not found (1)")
    canvas = browser.find_element("id", "distribution")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    script = "const c = arguments[0]; return [c.points, c.getBoundingClientRect().width / c.width]"
    points, scale = browser.execute_script(script, canvas)
    assert len(points) == 20  # ten measured scans, two levels
    names = browser.execute_script(
        "return [...document.querySelectorAll('.scan')].sort((a, b) => a.dataset.number - b.dataset.number)"
        ".map(row => row.dataset.name)"
    )
    highest = min(points, key=lambda point: point["y"])
    assert names[highest["scan"]] == "tall"
    heights = {names[p["scan"]]: p["y"] for p in points if p["x"] < 450 and names[p["scan"]].startswith("plain")}
    steps = np.diff([heights[f"plain{n}"] for n in range(9)])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)  # a quarter of a mm each
    width, height = canvas.size["width"], canvas.size["height"]
    offset = (highest["x"] * scale - width / 2, highest["y"] * scale - height / 2)
    ActionChains(browser).move_to_element_with_offset(canvas, *map(round, offset)).click().perform()
    assert chosen(browser) == "tall" and "tall" in shown(browser)


def test_two_thousand_scans_open_in_three_seconds(tmp_path: Path):
    """Seconds of the processor that the page's process takes, which a busy machine does not change by much; pictures
    far below are not asked for."""
    write_result(tmp_path, "scan", heights=(25.0, 26.0, 27.0, 28.0, 29.0))
    ((one,), _) = read_results(tmp_path)
    generator = np.random.default_rng(0)
    many = []
    for number in range(2000):
        table = one.measurements.assign(value=generator.normal(26, 2, len(one.measurements)))
        review = [f"reason {number % 7}"] * (number % 3)
        name = f"scan{number:04d}"
        (tmp_path / f"{name}.png").write_bytes((tmp_path / "scan.png").read_bytes())
        many.append(replace(one, name=name, picture=f"{name}.png", review=review, measurements=table))
    (tmp_path / "index.html").write_text(render(many), encoding="utf-8")
    with open_page(tmp_path / "index.html", tmp_path) as driver:
        driver.execute_cdp_cmd("Performance.enable", {})
        metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        (timing,) = (metric["value"] for metric in metrics if metric["name"] == "ProcessTime")
        pictures = driver.execute_script("return [...document.images].filter(i => i.complete && i.naturalWidth).length")
        assert driver.execute_script("return document.querySelectorAll('.scan').length") == 2000
    assert 0 < timing < 3
    assert 0 < pictures < 200
