"""Streams, whose items come one after the other: read once, and kept where any of them can be read again."""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import pickle
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from ._columns import as_pair, check_named, column_classes, dataset_name


def is_stream(root: object) -> bool:
    """Whether it yields items and has no positions."""
    if isinstance(root, IterableDataset):  # it inherits `__getitem__`
        return True
    indexed = hasattr(root, "__getitem__") and hasattr(root, "__len__")
    return hasattr(root, "__iter__") and not indexed and not isinstance(root, (bytes, Mapping, Set))


class StoredStream(Dataset[Any]):
    """The first items of a stream as a dataset; they lie in a temporary file, encoded as the stream has them.

    Blurs and crops are keyed by positions, and epochs and loader processes take items in any order. Memory
    holds two numbers an item.

    Attributes:
        name: of the stream: the dataset's (Hugging Face), else its type.
        classes: names of the classes, where the stream knows them.
        targets: int64 array of the labels, where they are whole numbers; else empty.

    Args:
        stream: the items.
        columns: where items are mappings, the names of image and target.
        limit: how many are read at most; None reads all.
        check: refuses the first pair of image and target, given where it is, before others are read.
    """

    def __init__(
        self,
        stream: Any,
        columns: tuple[str, ...],
        *,
        limit: int | None,
        check: Callable[[Any, str], object],
    ) -> None:
        check_named(stream, columns)
        self.name, self.classes = dataset_name(stream), column_classes(stream, columns[1])
        self._features: list[Any] = [None, None]
        features = getattr(stream, "features", None)
        if isinstance(features, Mapping) and hasattr(
            stream, "decode"
        ):  # Hugging Face: keep files, not pixels
            self._features = [features[name] for name in columns]
            stream = stream.select_columns(list(columns)).with_format(None).decode(False)
        handle, name = tempfile.mkstemp(prefix="blurlib-", suffix=".stream")
        self._path, self._starts = Path(name), array("q")
        self._owner = weakref.finalize(self, _remove, self._path, os.getpid())
        labels = array("q")
        with os.fdopen(handle, "wb") as file:
            for item in _items(stream, limit):
                place = f"item {len(self._starts)} of the stream"
                pair = as_pair(item, columns, place)
                if isinstance(pair, (tuple, list)) and len(pair) == 2:
                    pair = tuple(map(_local, pair, self._features))
                if not self._starts:
                    with contextlib.suppress(OSError, SyntaxError, ValueError):  # broken: it may be skipped
                        check(self._decoded(pair), place)
                self._starts.append(file.tell())
                with contextlib.suppress(IndexError, KeyError, TypeError):  # a mask, or no label
                    labels.append(operator.index(pair[1]))
                try:
                    pickle.dump(pair, file, protocol=pickle.HIGHEST_PROTOCOL)
                except OSError as error:
                    raise OSError(
                        error.errno,
                        f"the items of the stream `root` must fit into {str(self._path.parent)!r}, got "
                        f"{error.strerror!r} after {len(self._starts) - 1}; pass `limit` to take the first "
                        "ones, or set TMPDIR to a folder with more room",
                    ) from error
        self.targets = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, position: int) -> Any:
        with self._path.open("rb") as file:
            file.seek(self._starts[position])
            return self._decoded(pickle.load(file))  # what this class has written

    def __getstate__(self) -> dict[str, Any]:
        """For loader processes, which do not own the file."""
        return {name: value for name, value in vars(self).items() if name != "_owner"}

    def _decoded(self, pair: Any) -> Any:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            return pair
        return tuple(
            feature.decode_example(value) if _encoded(value, feature) else value
            for value, feature in zip(pair, self._features, strict=True)
        )


def _encoded(value: object, feature: Any) -> bool:
    """Whether it is an image as Hugging Face keeps it, which is to be decoded."""
    return isinstance(value, Mapping) and getattr(feature, "decode", None) is True


def _local(value: Any, feature: Any) -> Any:
    """An image that is not at hand, such as one in an archive, is read at once."""
    far = _encoded(value, feature) and value.get("bytes") is None and not os.path.isfile(value["path"])  # noqa: PTH113  text
    return feature.decode_example(value) if far else value


def _items(stream: Iterable[Any], limit: int | None) -> Iterable[Any]:
    count, items = 0, itertools.islice(iter(stream), limit)
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except Exception as error:  # a stream's own, whatever it reads from
            raise ValueError(
                f"`root` must be a stream that can be read, got {type(error).__name__} ({error}) after "
                f"{count} items; repair its source"
                + (f", or pass limit={count} to take those before" if count else "")
            ) from error
        count += 1
        yield item


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not a forked process
        path.unlink(missing_ok=True)
