"""The names under which people keep a split: folders, lists of Pascal VOC, entries of a mapping."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Literal

Split = Literal["train", "val"]

NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "valid", "test"),
}
"""Of each split, the first one that is there being taken."""


def found_split(split: Split, there: Container[str]) -> str | None:
    """The name under which a split is there; None where it is not."""
    return next((name for name in NAMES[split] if name in there), None)


def names_text(split: Split) -> str:
    """For messages: "'train'", "'val' (or 'validation', 'valid', 'test')"."""
    first, *others = map(repr, NAMES[split])
    return f"{first} (or {', '.join(others)})" if others else first


def entry_of(splits: Mapping[str, Any], split: Split) -> tuple[str, Any]:
    """Name and dataset of a split in a mapping of datasets, such as Hugging Face's `DatasetDict`."""
    name = found_split(split, splits)
    if name is None:
        there = ", ".join(map(repr, list(splits)[:8])) or "nothing"
        raise TypeError(
            f"`root` must be a dataset, or a mapping with one as {names_text(split)}, got "
            f"{type(splits).__name__} with {there}; pass one of the datasets, root[NAME]"
        )
    return name, splits[name]
