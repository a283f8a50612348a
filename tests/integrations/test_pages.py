"""Pages on neighbours run from top to bottom, as a reader would paste them; so do examples of our names."""

import doctest
import gc
import importlib.util
import re
from pathlib import Path

import pytest

import blurlib.integrations

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "integrations").glob("*.md"))
FILES = sorted(path for path in (ROOT / "src/blurlib/integrations").glob("_*.py") if path.stem != "__init__")


def skip_if_missing(error: ImportError) -> None:
    name = (error.name or "").split(".")[0]
    if name and importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


@pytest.mark.filterwarnings("default")  # neighbours warn of what they do to each other
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names = {"__name__": "page"}
    try:
        for block in code:
            exec(compile(block, str(page), "exec"), names)
    except ImportError as error:
        skip_if_missing(error)
        raise
    finally:
        names.clear()
        gc.collect()  # here, where a file that a neighbour leaves open is a warning


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_examples_run(path):
    try:
        module = importlib.import_module(f"blurlib.integrations.{path.stem}")
    except ImportError as error:
        skip_if_missing(error)
        raise
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).failed == 0


@pytest.mark.parametrize("name", blurlib.integrations.__all__)
def test_names_keep_the_rules_of_the_house(name):
    house = pytest.importorskip("test_house")
    try:
        value = getattr(blurlib.integrations, name)
    except ImportError as error:
        skip_if_missing(error)
        raise
    found = [(f"integrations.{name}", value)]
    found += [
        (f"integrations.{name}.{method}", item)
        for method, item in (house.members(value) if isinstance(value, type) else ())
        if not house.redefined(method, value)
    ]
    for each, item in found:
        house.test_docstring_has_its_sections(each, item)
        house.test_options_are_keyword_only(each, item)
