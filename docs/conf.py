"""Sphinx configuration. `make docs` builds the pages; a warning is an error."""

import inspect
from importlib.metadata import version as installed_version

from sphinx.ext.autodoc.mock import mock

import blurlib

# The adapters are described without the libraries that they serve, whose classes stand in for them else.
with mock(["albumentations", "kornia", "lightning", "transformers"]):
    for adapter in (getattr(blurlib.integrations, each) for each in blurlib.integrations.__all__):
        if inspect.isclass(adapter):
            first, *others = inspect.signature(adapter.__init__).parameters.values()
            adapter.__signature__ = inspect.Signature(others)

project = "blurlib"
author = "the blurlib developers"
copyright = author  # noqa: A001  Sphinx asks for this name
release = version = installed_version("blurlib")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

default_role = "code"  # single backticks in docstrings are code

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = False  # the entries stand on the wing's page, below its table
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False

html_theme = "furo"
html_title = f"blurlib {release}"
html_static_path = ["_static"]
html_show_copyright = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

# `blurlib.blur` and its like are described in their wing; references by the short name lead there.
SHORT = {
    f"blurlib.{name}": ".".join([*value.__module__.split(".")[:2], name])
    for name, value in vars(blurlib).items()
    if name in blurlib.__all__ and hasattr(value, "__qualname__")
}


def resolve_short(app, env, node, contnode):
    """Sends a reference to a top-level name to the name's own module."""
    target = SHORT.get(node.get("reftarget"))
    if target is None or node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], target, node, contnode)


def add_table(app, what, name, obj, options, lines):  # noqa: ARG001  Sphinx calls it so
    """Puts a table of a wing's functions and classes below the wing's description."""
    if what == "module":
        found = [f"   {each}" for each in obj.__all__ if hasattr(getattr(obj, each), "__qualname__")]
        lines += ["", ".. autosummary::", "   :nosignatures:", "", *found, ""]


def setup(app):
    """Sphinx's hook."""
    app.connect("autodoc-process-docstring", add_table)
    app.connect("missing-reference", resolve_short)
