"""The rules of the house that a machine can hold: wings, names, docstrings, light import, plain files.

`python tests/test_house.py` writes the inventory of public names anew, after a deliberate change.
"""

import ast
import dataclasses
import functools
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
FILES = sorted(PACKAGE.rglob("*.py"))
INVENTORY = Path(__file__).parent / "public_names.txt"

# Ground first. Wings and front rooms import from lower rows only; files of one wing import each other freely.
ORDER = (
    "_common _engine",
    "kernels metrics",
    "blurs",
    "notation",
    "functional",
    "protocol",
    "reporting",
    "transforms models data _gauge",
    "mixes deblurring",
    "_tasks",
    "training evaluation",
    "_tolerance demo integrations paper",
    "_cli",
    "__main__",
)
HEIGHT = {wing: height for height, row in enumerate(ORDER) for wing in row.split()}
PUBLIC = [wing for wing in HEIGHT if not wing.startswith("_")]
# Its names are imported on use, each with a package that not everybody has; tests/integrations looks into it.
ON_DEMAND = ("integrations",)
# A face shows what is inside; these two are entered by their modules.
WITHOUT_FACE = ("_common", "_cli")

LONGEST = 400
# Still longer; the list only shrinks.
STILL_LONG = {}

# Nobody pays for these who only blurs images: they are imported where they are used.
HEAVY = (
    "albumentations", "cv2", "deepinv", "jinja2", "kornia", "matplotlib", "rich", "scipy.fft",
    "scipy.interpolate", "scipy.ndimage", "scipy.signal", "skimage", "sklearn", "timm", "typer",
)  # fmt: skip

# Hooks of torchvision's and torch's base classes, described there.
HOOKS = {"make_params", "transform", "check_inputs", "forward", "extra_repr"}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def wing_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """What a file imports of the package, at its top, in functions or for type checkers.

    ("_common", "rng"), ("reporting", "Report"), ("blurs", "Disk"); () is the package itself.
    """
    place = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                module = place[: len(place) - node.level + 1] + module
            elif module[:1] == ("blurlib",):
                module = module[1:]
            else:
                continue
            yield from ((*module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split(".")[1:]) for a in node.names if a.name.split(".")[0] == "blurlib")


def public_objects(wing: str) -> Iterator[tuple[str, object]]:
    module = importlib.import_module(f"blurlib.{wing}")
    if wing in ON_DEMAND:
        return
    # A name without an object is another test's matter (test_all_lists_what_there_is).
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
    for wing in PUBLIC:
        if wing in ON_DEMAND:
            module = importlib.import_module(f"blurlib.{wing}")
            yield from (f"blurlib.{wing}.{name}" for name in module.__all__)
        for name, value in public_objects(wing):
            yield f"blurlib.{wing}.{name}"
            if inspect.isclass(value):
                fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
                attributes = {field.name for field in fields} | {name for name, _ in members(value)}
                yield from (
                    f"blurlib.{wing}.{name}.{each}" for each in attributes if not each.startswith("_")
                )


def documented() -> list[tuple[str, object]]:
    """Public functions, classes and their methods, each once, in the wing that defines it."""
    found = []
    for wing in PUBLIC:
        for name, value in public_objects(wing):
            defined = getattr(value, "__module__", "").split(".")
            if defined[:2] != ["blurlib", wing]:
                continue
            if inspect.isclass(value) or inspect.isroutine(value):
                found.append((f"{wing}.{name}", value))
            if inspect.isclass(value):
                own = ((method, item) for method, item in members(value) if not redefined(method, value))
                found += [(f"{wing}.{name}.{method}", item) for method, item in own]
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


@each_file
def test_imports_go_down_only(path):
    wing = wing_of(path)
    if wing == "__init__":
        return
    assert wing in HEIGHT, f"{wing} has no place: add it to ORDER here and to docs/architecture.md"
    found = {target[0] if target else "blurlib" for target in imports(path)} - {wing}
    wrong = [name for name in found if HEIGHT.get(name, len(ORDER)) >= HEIGHT[wing]]
    assert not wrong, f"{path.name} of {wing} imports {wrong}: same row or above"


@each_file
def test_a_wing_is_entered_by_its_face(path):
    """`from ..data import Listing`, never `from ..data._listing import Listing`."""
    others = (each for each in imports(path) if each and each[0] not in (wing_of(path), *WITHOUT_FACE))
    inside = [
        ".".join(each)
        for each in others
        if len(each) > 2 or (len(each) == 2 and (PACKAGE / each[0] / f"{each[1]}.py").exists())
    ]
    assert not inside, f"{path.name} imports {inside}: import from the face"


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name == "__init__.py"], ids=lambda path: path.parent.name
)
def test_a_face_holds_names_only(path):
    for node in tree(path).body:
        is_names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("__all__", "__version__")
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        is_table = isinstance(node, ast.Expr) and ast.unparse(node).startswith("on_demand(")
        is_import = all(isinstance(each, ast.ImportFrom) for each in (node.body if for_types else [node]))
        assert is_import or is_names or is_text or is_table, f"{path.parent.name}: {ast.unparse(node)}"


def test_inventory_of_public_names():
    stored = INVENTORY.read_text(encoding="utf-8").split()
    actual = sorted(set(public_names()))
    gone, new = sorted(set(stored) - set(actual)), sorted(set(actual) - set(stored))
    assert stored == actual, (
        f"gone: {gone}; new: {new}. If that is meant, run `python tests/test_house.py`, "
        "and tell users in CHANGELOG.md"
    )


@pytest.mark.parametrize("wing", PUBLIC)
def test_all_lists_what_there_is(wing):
    loaded = importlib.import_module(f"blurlib.{wing}")
    listed = list(loaded.__all__)
    assert len(set(listed)) == len(listed)
    assert not [name for name in listed if name not in dir(loaded)]


PROPERTIES = (property, functools.cached_property)


@each_documented
def test_docstring_has_its_sections(name, value):
    function = getattr(value, "fget", None) or getattr(value, "func", value)  # of a property, a cached one
    function = getattr(function, "__func__", function)
    text = inspect.getdoc(function) or ""
    assert len(text.splitlines()) >= 1 and text.strip(), f"{name} has no docstring"
    last = name.rsplit(".", 1)[-1]
    if isinstance(value, PROPERTIES) or last in HOOKS:
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
    if isinstance(value, PROPERTIES) or name.rsplit(".", 1)[-1] in HOOKS:
        return
    function = getattr(value, "__func__", value)
    positional = [p for p in parameters(function) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    wrong = [p.name for p in positional[2:] if p.default is not p.empty]
    assert not wrong, f"{name}: {wrong} should be keyword-only"


@each_documented
def test_settings_are_frozen(name, value):
    if inspect.isclass(value) and dataclasses.is_dataclass(value):
        assert value.__dataclass_params__.frozen, f"{name} is a dataclass that can be changed"


def test_import_is_light_and_changes_nothing_global():
    code = (
        "import os, random, signal, sys, numpy, torch\n"
        "def state():\n"
        "    numbers = torch.initial_seed(), random.getstate(), str(numpy.random.get_state())\n"
        # torch's compiler sets that one when it is imported
        "    process = dict(os.environ) | {'TORCHINDUCTOR_CACHE_DIR': ''}, signal.getsignal(signal.SIGINT)\n"
        "    return process, torch.get_num_threads(), torch.get_default_dtype(), numbers\n"
        "before = state()\n"
        "import blurlib\n"
        "assert state() == before\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))\n"
        "print(*({'torchvision.transforms.v2'} - set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    heavy, missing = result.stdout.split("\n")[:2]
    assert not heavy, f"`import blurlib` imports {heavy}: import it inside the function that needs it"
    assert not missing


@each_file
def test_file_is_one_idea(path):
    name = path.relative_to(PACKAGE).as_posix()
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if name in STILL_LONG:
        assert lines > LONGEST, f"{name} is short now: take it from STILL_LONG"
    else:
        assert lines <= LONGEST, f"{name} has {lines} lines: is it two ideas?"
    assert ast.get_docstring(tree(path)), f"{name} does not say what it is"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_example_is_short(path):
    assert re.match(r"\d\d?_", path.name), "examples are numbered, in the order of reading"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 100


# What runs what a text or a file says.
LOADERS = ("cloudpickle", "dill", "joblib", "marshal", "pickle", "pty", "shelve", "subprocess", "yaml")
RUNNERS = re.compile(
    r"eval|exec|compile|__import__|os\.(system|popen|exec\w+|spawn\w+)|torch\.hub\.load|jinja2\.Template|"
    rf"\w*\.?read_pickle|({'|'.join(LOADERS)})\.(?!dump)\w+"
)
# What does so unless it is told not to, and what it must be told.
TOLD = {
    "torch.load": ("weights_only", True),
    "jinja2.Environment": ("autoescape", True),
    "Image.open": ("formats", None),
    "PIL.Image.open": ("formats", None),
    "np.load": ("allow_pickle", False),
}


# What this process, or one that it has started, has written: into a file of its own, or a pipe.
OWN = {
    "data/_streams.py": {"pickle", "pickle.load(file)"},
    "_common/passing.py": {"pickle", "pickle.loads(self.content)"},
}


@each_file
def test_nothing_runs_what_a_file_says(path):
    wrong = []
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None) or ""
            names = [f"{module}.{each.name}".strip(".") for each in node.names]
            wrong += [name for name in names if name.split(".")[0] in LOADERS]
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {each.arg: ast.unparse(each.value) for each in node.keywords}
        option, value = TOLD.get(called, (None, None))
        needed = option is not None and (
            option not in given or (value is not None and given[option] != str(value))
        )
        unsafe = given.get("shell") == "True" or given.get("weights_only", "True") != "True"
        if RUNNERS.fullmatch(called) or needed or unsafe or given.get("allow_pickle", "False") != "False":
            wrong.append(ast.unparse(node))
    wrong = set(wrong) - OWN.get(path.relative_to(PACKAGE).as_posix(), set())
    assert not wrong, f"{path.name}: {wrong}"


def texts() -> Iterator[Path]:
    """Every text file of the checkout that is ours."""
    skipped = {".git", ".venv", ".hypothesis", "__pycache__", "_build", "build", "dist", "demo-output"}
    kinds = {
        ".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".json", ".csv", ".cff", ".jinja", ".cfg", ".html",
    }  # fmt: skip
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
    assert f"\nversion: {blurlib.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_package_carries_its_type_marker():
    assert (PACKAGE / "py.typed").exists()


if __name__ == "__main__":
    INVENTORY.write_text("\n".join(sorted(set(public_names()))) + "\n", encoding="utf-8")
