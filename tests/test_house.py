"""The rules of the house that a machine can hold: layers, names, docstrings, light import, plain files.

`python tests/test_house.py` writes the inventory of public names anew, after a deliberate change.
"""

import ast
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import blurlib

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(blurlib.__file__).parent
WINGS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MODULES = sorted([*(path.stem for path in PACKAGE.glob("*.py")), *WINGS])
FILES = sorted([*PACKAGE.glob("*.py"), *(path for wing in WINGS for path in (PACKAGE / wing).glob("*.py"))])
INVENTORY = Path(__file__).parent / "data" / "public_names.txt"

# Bottom first. A module imports from lower rows only: neither upwards nor from its own row.
LAYERS = (
    {"_engine", "paper", "_model_config", "_progress", "_stored", "_starting"},
    {"_identity", "randomness", "tables", "patch_prior"},
    {"bootstrap", "processes", "page"},
    {"kernels"},
    {"convolution"},
    {"blurs", "_inverse"},
    {"_compiled"},
    {"transforms"},
    {"mixes"},
    {"data", "protocol", "metrics", "samples", "confusion"},
    {"masks", "segmentation", "segmentation_counts"},
    {"segmentation_protocol"},
    {"_views", "runs", "models", "comparison", "confidence", "figures", "plots", "outcomes"},
    {"deblurring"},
    {"reproduction_settings", "reproduction_costs"},
    {"_cells"},
    {"report"},
    {"records"},
    {"_classifying", "segmentation_comparison"},
    {"_segmenting", "segmentation_records"},
    {"segmentation_evaluation"},
    {"training", "evaluation", "analysis"},
    {"demo", "reproduction", "segmentation_reproduction", "_networks", "_photographs", "_options"},
    {"exhibits"},
    {"_finetune", "_reproduce"},
    {"cli"},
    {"__main__"},
)
LAYER_OF = {name: height for height, names in enumerate(LAYERS) for name in names}

# Nobody pays for these who only blurs images: they are imported where they are used.
HEAVY = (
    "deepinv",
    "jinja2",
    "kornia",
    "matplotlib",
    "rich",
    "scipy.fft",
    "scipy.interpolate",
    "scipy.ndimage",
    "scipy.signal",
    "skimage",
    "sklearn",
    "timm",
    "typer",
)

# Hooks of torchvision's and torch's base classes, described there.
HOOKS = {"make_params", "transform", "check_inputs", "forward", "extra_repr"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, at its top, in functions or for type checkers.

    Those of a wing are counted as the wing; its own files import each other as they like.
    """
    is_inside = path.parent != PACKAGE
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            if is_inside and node.level == 1:
                continue
            dotted = "blurlib." * (node.level > 0) + (node.module or "")
            parts = dotted.strip(".").split(".")
            if parts[0] == "blurlib":
                names = parts[1:2] or [alias.name for alias in node.names]
                yield from (name for name in names if name in MODULES)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "blurlib":
                    yield parts[1] if len(parts) > 1 else "__init__"


def public_objects(module_name: str) -> Iterator[tuple[str, object]]:
    module = importlib.import_module(f"blurlib.{module_name}")
    # A name without an object is another test's matter (test_all_lists_what_the_module_defines).
    yield from ((name, getattr(module, name)) for name in module.__all__ if hasattr(module, name))


def members(cls: type) -> Iterator[tuple[str, object]]:
    """Public methods and properties that the class itself defines."""
    for name, value in vars(cls).items():
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            yield name, value


def redefined(name: str, owner: type) -> bool:
    """Whether a base class has the method too, and so the description."""
    return any(hasattr(base, name) for base in owner.__bases__)


def public_names() -> Iterator[str]:
    yield from (f"blurlib.{name}" for name in blurlib.__all__)
    for module in MODULES:
        if module.startswith("_"):
            continue
        for name, value in public_objects(module):
            yield f"blurlib.{module}.{name}"
            if inspect.isclass(value):
                fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
                attributes = {field.name for field in fields} | {name for name, _ in members(value)}
                attributes = {attribute for attribute in attributes if not attribute.startswith("_")}
                yield from (f"blurlib.{module}.{name}.{attribute}" for attribute in attributes)


def documented() -> list[tuple[str, object]]:
    """Public functions, classes and their methods, each once, in the module that defines it."""
    found = []
    for module in MODULES:
        if module.startswith("_"):
            continue
        for name, value in public_objects(module):
            if getattr(value, "__module__", None) != f"blurlib.{module}":
                continue
            if inspect.isclass(value) or inspect.isroutine(value):
                found.append((f"{module}.{name}", value))
            if inspect.isclass(value):
                own = ((method, item) for method, item in members(value) if not redefined(method, value))
                found += [(f"{module}.{name}.{method}", item) for method, item in own]
    return found


def parameters(value: object) -> list[inspect.Parameter]:
    try:
        return [
            parameter
            for parameter in inspect.signature(value).parameters.values()
            if parameter.name not in ("self", "cls") and not parameter.name.startswith("_")
        ]
    except ValueError:  # a class whose constructor is written in C
        return []


DOCUMENTED = documented()
each_documented = pytest.mark.parametrize(("name", "value"), DOCUMENTED, ids=[name for name, _ in DOCUMENTED])


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_imports_go_down_only(module):
    assert module in LAYER_OF, f"{module}.py has no layer: add it to LAYERS here and to docs/architecture.md"
    paths = [PACKAGE / f"{module}.py"] if module not in WINGS else (PACKAGE / module).glob("*.py")
    wrong = [
        name
        for path in paths
        for name in imports(path)
        if name != "__init__" and LAYER_OF[name] >= LAYER_OF[module]
    ]
    assert not wrong, f"{module}.py (layer {LAYER_OF[module]}) imports {wrong}: same layer or above"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_wing_is_entered_by_its_face(path):
    """`from ._engine import apply`, never `from ._engine.operators import apply`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level == len(path.relative_to(PACKAGE).parts):
            wing, *inside = (node.module or "").split(".")
            assert wing not in WINGS or not inside, f"{path.name} imports {node.module}"


def test_only_the_top_imports_the_package_itself():
    wrong = [
        path.stem for path in FILES if path.stem not in ("cli", "__main__") and "__init__" in imports(path)
    ]
    assert not wrong, f"{wrong} import `blurlib`: import the module that is meant"


def test_inventory_of_public_names():
    stored = INVENTORY.read_text(encoding="utf-8").split()
    actual = sorted(set(public_names()))
    gone, new = sorted(set(stored) - set(actual)), sorted(set(actual) - set(stored))
    assert stored == actual, (
        f"gone: {gone}; new: {new}. If that is meant, run `python tests/test_house.py`, "
        "and tell users in CHANGELOG.md"
    )


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("_")])
def test_all_lists_what_the_module_defines(module):
    loaded = importlib.import_module(f"blurlib.{module}")
    listed = list(loaded.__all__)
    assert len(set(listed)) == len(listed)
    assert not [name for name in listed if not hasattr(loaded, name)]


@each_documented
def test_docstring_has_its_sections(name, value):
    function = value.fget if isinstance(value, property) else value
    function = getattr(function, "__func__", function)
    text = inspect.getdoc(function) or ""
    assert len(text.splitlines()) >= 1 and text.strip(), f"{name} has no docstring"
    last = name.rsplit(".", 1)[-1]
    if isinstance(value, property) or name.startswith("cli.") or last in HOOKS:
        return
    by_hand = "made by :func:" not in text  # else users never call the constructor
    for parameter in parameters(function) if by_hand else ():
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        pattern = (
            rf"^\s*{re.escape(stars)}{parameter.name}( \([^)]*\))?:|\b{parameter.name}, |, {parameter.name}\b"
        )
        assert re.search(pattern, text, re.MULTILINE), f"{name} does not describe `{parameter.name}`"
    if inspect.isfunction(function):
        returns = inspect.signature(function).return_annotation
        if returns not in (None, "None", inspect.Signature.empty) and name.count(".") == 1:
            assert re.search(r"^(Returns|Yields):", text, re.MULTILINE), (
                f"{name} does not say what it returns"
            )
        source = inspect.getsource(function)
        if re.search(r"^\s+raise \w+Error", source, re.MULTILINE):
            assert re.search(r"^Raises:", text, re.MULTILINE), f"{name} does not list its errors"
    if name.count(".") == 1:
        assert ">>> " in text, f"{name} has no example that runs"


@each_documented
def test_options_are_keyword_only(name, value):
    """From the third parameter on, what has a default cannot be given by position."""
    if isinstance(value, property) or name.startswith("cli.") or name.rsplit(".", 1)[-1] in HOOKS:
        return
    function = getattr(value, "__func__", value)
    positional = [p for p in parameters(function) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    wrong = [p.name for p in positional[2:] if p.default is not p.empty]
    assert not wrong, f"{name}: {wrong} should be keyword-only"


@each_documented
def test_settings_are_frozen(name, value):
    if inspect.isclass(value) and dataclasses.is_dataclass(value):
        assert value.__dataclass_params__.frozen, f"{name} is a dataclass that can be changed"


def test_import_is_light():
    code = (
        "import sys, blurlib\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))\n"
        "print(*(set(('torch', 'torchvision.transforms.v2')) - set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    heavy, missing = result.stdout.split("\n")[:2]
    assert not heavy, f"`import blurlib` imports {heavy}: import it inside the function that needs it"
    assert not missing


def test_import_changes_nothing_global():
    code = (
        "import os, random, signal, numpy, torch, torchvision.transforms.v2\n"
        "def state():\n"
        "    numbers = torch.initial_seed(), random.getstate(), str(numpy.random.get_state())\n"
        "    process = dict(os.environ), torch.get_num_threads(), signal.getsignal(signal.SIGINT)\n"
        "    return process, torch.get_default_dtype(), numbers\n"
        "before = state()\n"
        "import blurlib\n"
        "assert state() == before"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def code_lines(path: Path) -> int:
    """Lines of a file that are neither docstring, comment nor empty."""
    source = path.read_text(encoding="utf-8")
    texts = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            texts |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and n not in texts for n, line in lines
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_one_idea(path):
    """At most 400 lines of code; docstrings do not count, or the rule would be against describing things."""
    assert code_lines(path) <= 400, f"{path.name} is long: is it two ideas?"
    assert ast.get_docstring(tree(path)), f"{path.name} does not say what it is"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example_is_short(path):
    assert re.match(r"\d\d?_", path.name), "examples are numbered, in the order of reading"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 100


def texts() -> Iterator[Path]:
    """Every text file of the checkout that is ours."""
    skipped = {".git", ".venv", ".hypothesis", "__pycache__", "_build", "build", "dist", "demo-output"}
    kinds = {
        ".py",
        ".md",
        ".toml",
        ".yml",
        ".yaml",
        ".txt",
        ".json",
        ".csv",
        ".cff",
        ".jinja",
        ".cfg",
        ".html",
    }
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in skipped and not name.endswith("_cache")]
        for name in files:
            path = Path(folder) / name
            if path.suffix in kinds or name in ("Makefile", "run"):
                yield path


def test_no_file_names_a_machine():
    """Neither a home folder, nor a folder for temporary files, nor the place where this checkout lies."""
    home = "|".join(("/" + "home/", "/" + "root/", "/" + "Users/", "/" + "tmp/", r"[A-Z]:\\Users"))
    places = [str(place) for place in (ROOT, Path(sys.prefix)) if len(place.parts) > 2]
    pattern = re.compile("|".join([home, *map(re.escape, places)]))
    found = {}
    for path in texts():
        hit = pattern.search(path.read_text(encoding="utf-8", errors="replace"))
        if hit:
            found[str(path.relative_to(ROOT))] = hit.group()
    assert not found


def test_nothing_is_left_to_do():
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")
    found = [
        str(path.relative_to(ROOT))
        for path in texts()
        if path.suffix == ".py" and marks.search(path.read_text(encoding="utf-8"))
    ]
    assert not found


def test_version_has_one_home():
    from importlib.metadata import version

    assert blurlib.__version__ == version("blurlib")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{blurlib.__version__}]" in changelog


def test_package_carries_its_type_marker():
    assert (PACKAGE / "py.typed").exists()


if __name__ == "__main__":
    INVENTORY.parent.mkdir(exist_ok=True)
    INVENTORY.write_text("\n".join(sorted(set(public_names()))) + "\n", encoding="utf-8")
