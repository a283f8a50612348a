"""The page in headless Chromium: no error, toggles by click and key, both themes, phone and paper.

It needs Chromium (`apt-get install chromium`) and Playwright (`pip install playwright`); axe-core, whose
rules judge the page for screen readers, is taken from the folder in AXE_CORE, or `npm root --global`.
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from blurlib import demo, evaluate

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = "<script>alert('x')</script> \"'&"


class Photos(list):
    classes = (HOSTILE, "dog", "cow")


def photo(seed):
    draws = np.random.default_rng(seed)
    blocks = draws.integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return Image.fromarray(blocks)


def classifier(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3)
    )


def segmenter(seed):
    torch.manual_seed(seed)
    return nn.Conv2d(3, 3, 5, padding=2)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each task, before and after, and that of the example."""
    folder = tmp_path_factory.mktemp("pages")
    options = {"canonical_side": 96, "examples": 3, "device": "cpu", "workers": 0, "progress": False}
    photos = Photos((photo(seed), seed % 3) for seed in range(9))
    scenes = [(image, Image.fromarray(np.asarray(image)[..., 0] // 86)) for image, _ in photos[:4]]
    found = {}
    for task, make, root, own in (
        (
            "classification",
            classifier,
            photos,
            {"blurs": "sharp, D2, D4, H4, H8, shake", "scales": 64, "crop": 56},
        ),
        ("segmentation", segmenter, scenes, {"blurs": "sharp, D2, D4"}),
    ):
        before, after, control = (evaluate(make(n), root, task=task, **own, **options) for n in range(3))
        found[task] = after.to_html(folder / f"{task}.html", before=before, control=control)
    found["demo"] = demo.run(folder / "demo", quick=True, progress=False)
    return found


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, pages):
    """Opens a page; anything that it says to the console, or asks of the network, is an error."""
    contexts, said = [], []

    def opened(task, width=1400, theme="light", **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda request: (
                said.append(request.url) if not request.url.startswith(("file:", "data:")) else None
            ),
        )
        page.goto(pages[task].as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


# What reaches beyond the window, but for what scrolls by itself.
BEYOND = """() => [...document.querySelectorAll('main *')].filter(each => {
  if (each.closest('.scroll, pre, .unseen, svg') || !each.getClientRects().length) return false
  const { left, right } = each.getBoundingClientRect()
  return left < -1 || right > innerWidth + 1
}).map(each => each.outerHTML.slice(0, 80))"""

TASKS = pytest.mark.parametrize("task", ["classification", "segmentation", "demo"])


@TASKS
@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_layout_holds(visit, pages, task, width, theme):
    page = visit(task, width, theme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(BEYOND) == []
    ink, paper = (
        page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor")
    )
    shade = [sum(map(int, each[4:-1].split(","))) for each in (ink, paper)]
    assert (shade[0] < shade[1]) == (theme == "light")
    assert pages[task].stat().st_size < 3e6


def test_the_theme_is_chosen_by_key(visit):
    page = visit("classification", theme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme-auto"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(colour) == light
    page.keyboard.press("ArrowRight")
    dark = page.evaluate(colour)
    assert dark != light and page.locator("#theme-dark").is_checked()
    page.get_by_text("Light", exact=True).click()
    assert page.evaluate(colour) == light


@TASKS
def test_a_blur_is_chosen_by_click_and_key(visit, task):
    page = visit(task)
    switch = page.locator(".switch").first
    panels = switch.locator("> .panel")
    shown = [panels.nth(number).is_visible() for number in range(panels.count())]
    assert sum(shown) == 1
    switch.locator("> label").first.click()
    assert panels.first.is_visible() and sum(panels.nth(n).is_visible() for n in range(panels.count())) == 1
    page.keyboard.press("ArrowRight")
    assert not panels.first.is_visible() and panels.nth(1).is_visible()
    # Another switch has stayed as it was.
    other = page.locator(".switch").nth(1).locator("> .panel")
    assert [other.nth(number).is_visible() for number in range(other.count())] == shown
    outline = switch.locator("> label").nth(1).evaluate("each => getComputedStyle(each).outlineStyle")
    assert outline == "solid"  # where the keyboard is


def test_before_and_after_are_chosen(visit):
    page = visit("classification")
    before, after = (page.locator(f".said.{role} >> visible=true") for role in ("before", "after"))
    count = before.count()
    assert count == after.count() == 3
    page.get_by_text("Before", exact=True).click()
    assert (before.count(), after.count()) == (count, 0)
    page.keyboard.press("ArrowRight")
    assert (before.count(), after.count()) == (0, count)


@TASKS
def test_paper_has_everything_in_black_on_white(visit, task):
    page = visit(task, theme="dark")
    page.locator("label", has_text="Dark").click()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    panels = page.locator(".switch > .panel")
    assert all(panels.nth(number).is_visible() for number in range(panels.count()))
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_hostile_names_are_text(visit):
    page = visit("classification")
    assert page.locator("main script").count() == 0 and page.get_by_text(HOSTILE).count() > 3


def axe_core():
    folders = [os.environ.get("AXE_CORE", "")]
    if npm := shutil.which("npm"):
        found = subprocess.run([npm, "root", "--global"], capture_output=True, text=True, check=False)
        folders.append(found.stdout.strip())
    for folder in filter(None, folders):
        for place in (Path(folder), Path(folder) / "axe-core", Path(folder) / "node_modules" / "axe-core"):
            if (place / "axe.min.js").is_file():
                return (place / "axe.min.js").read_text(encoding="utf-8")
    pytest.skip("there is no axe-core: npm install --global axe-core")
    return None


@TASKS
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visit, task, theme):
    rules = axe_core()
    page = visit(task, theme=theme, bypass_csp=True)
    page.evaluate(rules)
    found = page.evaluate("axe.run()")
    assert [
        (each["id"], each["impact"], each["nodes"][0]["html"][:120]) for each in found["violations"]
    ] == []
    assert len(found["passes"]) > 20
