"""README and pages: their Python uses what exists, their commands parse, their links lead somewhere.

Examples written with `>>>` run as doctests; this file looks after the others, and runs those without data.
"""

import ast
import importlib
import inspect
import re
import runpy
import shlex
from pathlib import Path

import pytest

import blurlib

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "experiments" / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
# A block that mentions one of these needs data, weights or a network, and is only checked, not run.
NEEDS_DATA = ("imagenet", "photos/", "weights=", "OxfordIIITPet", "load_dataset", "runs/")


def blocks(language: str, pages: list[Path] = PAGES) -> list:
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for number, body in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        ):
            if ">>>" not in body:
                found.append(pytest.param(body, id=f"{page.relative_to(ROOT).as_posix()}-{number}"))
    return found


def resolve(node: ast.expr) -> object:
    """The object that a dotted name beginning with `blurlib` stands for, or None."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not (isinstance(node, ast.Name) and node.id == "blurlib"):
        return None
    value: object = blurlib
    for name in reversed(names):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("code", blocks("python"))
def test_python_uses_what_exists(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "blurlib":
            module = importlib.import_module(node.module)
            assert not [alias.name for alias in node.names if alias.name not in dir(module)]
        elif isinstance(node, ast.Attribute):
            resolve(node)
        elif isinstance(node, ast.Call):
            called = resolve(node.func)
            if called is not None:
                values = {keyword.arg: ... for keyword in node.keywords}
                inspect.signature(called).bind(*node.args, **values)


def test_promises_name_tests_that_are_there():
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert len(named) > 20
    for file, test in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{file} has no {test}"
    every = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for test in re.findall(r"`(test_\w+)`", page):
        assert f"def {test}(" in every, test


# Those of `integrations` need other libraries: tests/integrations runs them.
@pytest.mark.parametrize(
    "code", blocks("python", [page for page in PAGES if page.parent.name != "integrations"])
)
def test_python_without_data_runs(code):
    if any(word in code for word in NEEDS_DATA):
        pytest.skip("needs data; its names and arguments are checked above")
    exec(compile(code, "<page>", "exec"), {})


@pytest.mark.parametrize("text", blocks("bash"))
def test_commands_parse(text):
    typer = pytest.importorskip("typer")
    cli = importlib.import_module("blurlib._cli.main")
    group = typer.main.get_command(cli.app)
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["blurlib"]:
            command = group if words[1].startswith("-") else group.commands[words[1]]
            options = {option for parameter in command.params for option in parameter.opts}
            unknown = [word for word in words[1:] if word.startswith("-") and word not in options]
            assert not unknown, f"`blurlib {words[1]}` has no {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_tables_are_those_of_the_records():
    if not (ROOT / "experiments" / "results").is_dir():
        pytest.skip("an sdist has no records")
    module = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    stale = [
        page.name for page in PAGES if module["filled"](page.read_text("utf-8")) != page.read_text("utf-8")
    ]
    assert not stale, f"{stale}: run `make tables`"


def test_every_public_module_has_its_page():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    package = Path(blurlib.__file__).parent
    names = [path.stem for path in package.glob("*.py")] + [
        path.parent.name for path in package.glob("*/__init__.py")
    ]
    modules = [name for name in names if not name.startswith("_")]
    assert not [name for name in modules if f"automodule:: blurlib.{name}\n" not in pages]
