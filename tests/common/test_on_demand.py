"""Names that are imported on use: what is missing is named with the command that installs it."""

import sys
import types

import pytest

from blurlib import integrations
from blurlib._common.on_demand import on_demand

NAMES = {
    "kornia": "KorniaBlur",
    "albumentations": "AlbumentationsBlur",
    "lightning": "LightningBlur",
    "transformers": "TrainerEpochs",
}


@pytest.mark.parametrize("missing", NAMES)
def test_missing_package_is_named_with_its_extra(monkeypatch, missing):
    name = NAMES[missing]
    monkeypatch.delitem(vars(integrations), name, raising=False)
    monkeypatch.delitem(sys.modules, f"blurlib.integrations._{missing}", raising=False)
    for module in [module for module in sys.modules if module.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not installed
    with pytest.raises(
        ImportError, match=rf'`blurlib.integrations.{name}` needs .* "blurlib\[{missing}\]"'
    ) as error:
        getattr(integrations, name)
    assert error.value.name == missing
    with pytest.raises(ImportError, match=rf"blurlib\[{missing}\]"):
        exec(f"from blurlib.integrations import {name}", {})


def test_names_show_without_being_imported():
    assert {"KorniaBlur", "AlbumentationsBlur", "insert_blur"} <= set(dir(integrations))
    with pytest.raises(AttributeError, match=r"module 'blurlib.integrations' has no attribute 'KornBlur'"):
        integrations.KornBlur  # noqa: B018  the look-up is what is tested


def test_a_file_of_ours_that_is_missing_stays_a_mistake(monkeypatch):
    module = types.ModuleType("blurlib.integrations.faked")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    on_demand(module.__name__, {"Gone": "_gone"})
    with pytest.raises(ModuleNotFoundError, match=r"blurlib\.integrations\.faked"):
        module.Gone  # noqa: B018  the look-up is what is tested
