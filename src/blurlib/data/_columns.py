"""Datasets whose items are mappings, such as those of Hugging Face: which columns hold image and target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

USUAL = ("image", "label")


def check_columns(columns: Any) -> None:
    """Refuse what is not the names of two columns."""
    words = isinstance(columns, Sequence) and all(isinstance(name, str) for name in columns)
    if isinstance(columns, str) or not words or len(columns) != 2:
        raise TypeError(
            f"`columns` must be the names of two columns, the images' and the labels' or masks', such as "
            f"{USUAL}, got {columns!r}"
        )


def check_named(root: Any, columns: Sequence[str]) -> None:
    """Refuse columns that a dataset with named columns does not have."""
    there = getattr(root, "column_names", None)
    missing = [name for name in columns if name not in there] if isinstance(there, list) else []
    if missing:
        raise ValueError(
            f"`columns` must name the columns of image and target, got {tuple(columns)} where `root` has "
            f"{_listed(there)}; pass the right two names, columns=(image, target)"
        )


def as_pair(item: Any, columns: Sequence[str], place: str) -> Any:
    """Image and target of an item with named columns; any other stays as it is."""
    if not isinstance(item, Mapping):
        return item
    if not all(name in item for name in columns):
        raise TypeError(
            f"`columns` must name the columns of image and target, got {tuple(columns)} where {place} has "
            f"{_listed(item)}; pass the right two names, columns=(image, target)"
        )
    return tuple(item[name] for name in columns)


def column_classes(root: Any, column: str) -> tuple[str, ...]:
    """Names of the classes as Hugging Face's datasets know them."""
    features = getattr(root, "features", None)
    names = getattr(features.get(column), "names", None) if isinstance(features, Mapping) else None
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) else ()


def column_values(root: Any, column: str) -> np.ndarray | None:
    """A column of a Hugging Face dataset, of which no image is decoded; None of any other."""
    if not hasattr(root, "with_format") or column not in (getattr(root, "column_names", None) or ()):
        return None
    return np.asarray(root.with_format("numpy")[column][:])


def dataset_name(root: Any) -> str:
    """The name that Hugging Face's datasets have, else the type's."""
    named = getattr(getattr(root, "info", None), "dataset_name", None)
    return named if isinstance(named, str) else type(root).__name__


def _listed(names: Any) -> str:
    return ", ".join(map(repr, list(names)[:8])) or "none"
