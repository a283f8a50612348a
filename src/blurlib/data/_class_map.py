"""Which of a network's outputs each class of a root is, where the root has some of the network's classes."""

from __future__ import annotations

import operator
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class ClassMap:
    """Outputs of a network, one for each class of a root in the order of the labels.

    Attributes:
        outputs: their numbers, from 0.
        known: how many outputs the network has, if the map tells.
    """

    outputs: tuple[int, ...]
    known: int | None

    def chosen(self, scores: torch.Tensor) -> torch.Tensor:
        """The scores (B, classes, ...) of these classes, of all (B, outputs, ...)."""
        count = scores.shape[1]
        if self.known not in (None, count) or max(self.outputs) >= count:
            wanted = f"name all {count} outputs" if self.known else f"hold outputs from 0 to {count - 1}"
            got = f"{self.known} names" if self.known else max(self.outputs)
            raise ValueError(
                f"`class_map` must {wanted} of `model`, got {got}; take the list of the data that the "
                "network was trained on, in the order of its outputs"
            )
        return scores[:, list(self.outputs)]


def class_outputs(
    class_map: str | os.PathLike[str] | Mapping[str, int] | Sequence[str], classes: Sequence[str]
) -> ClassMap:
    """Look up the classes of a root.

    Args:
        class_map: the names of all outputs in their order, or a mapping from names to outputs; or a text file
            of these: a name a line (or its first word, as in ImageNet's LOC_synset_mapping.txt), or a name
            and a number a line.
        classes: of the root, in the order of the labels.
    """
    if not classes:
        raise ValueError(
            "`class_map` needs the names of the classes of `root`, got a dataset without the attribute "
            "`classes`; set it to their names in the order of the labels, or pass a folder"
        )
    source, tables = _tables(class_map)
    # Of the ways in which a file can be read, the first that knows most of the classes.
    table, known = max(tables, key=lambda each: sum(name in each[0] for name in classes))
    missing = [name for name in classes if name not in table]
    if missing:
        raise ValueError(
            f"`class_map` must name every class of `root`, got {source} without "
            f"{', '.join(map(repr, missing[:5]))}{', ...' if len(missing) > 5 else ''} ({len(missing)} of "
            f"{len(classes)}); its names must be those of the class folders: it begins with "
            f"{', '.join(map(repr, list(table)[:2])) or 'nothing'}"
        )
    outputs = tuple(table[name] for name in classes)
    for output in outputs:
        if output < 0 or outputs.count(output) > 1:
            names = [repr(name) for name in classes if table[name] == output]
            raise ValueError(
                f"`class_map` must give each class an output of its own, counted from 0, got {output} for "
                f"{' and '.join(names[:2])} in {source}; correct its numbers"
            )
    return ClassMap(outputs, known)


_Table = tuple[dict[str, int], int | None]


def _tables(class_map: object) -> tuple[str, list[_Table]]:
    """What messages call the map; outputs by name and the number of outputs, for each way to read it."""
    if isinstance(class_map, Mapping):
        try:
            pairs = {str(name): operator.index(output) for name, output in class_map.items()}
        except TypeError:
            raise TypeError(
                "`class_map` must map names of classes to numbers of outputs, got "
                f"{dict(list(class_map.items())[:3])}; number the outputs from 0"
            ) from None
        return f"a mapping of {len(pairs)}", [(pairs, None)]
    if isinstance(class_map, (str, os.PathLike)):
        path = Path(class_map)
        if not path.is_file():
            raise FileNotFoundError(
                f"`class_map` must be a text file of class names, got {str(path)!r}, which is "
                f"{'a folder' if path.is_dir() else 'not there'}; write one with a name for each output of "
                "the network, in their order"
            )
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
        lines = [line for line in lines if line]
        tables = [_listed(lines)]
        split = [line.replace(",", " ").replace("\t", " ").rsplit(maxsplit=1) for line in lines]
        if all(len(words) == 2 and words[1].isdecimal() for words in split):
            tables.append(({words[0].strip(): int(words[1]) for words in split}, None))
        tables.append(_listed([line.split(maxsplit=1)[0] for line in lines]))
        return f"{str(path)!r} ({len(lines)} lines)", tables
    if isinstance(class_map, Sequence) and all(isinstance(name, str) for name in class_map):
        return f"a list of {len(class_map)}", [_listed(class_map)]
    raise TypeError(
        "`class_map` must be a text file, a list of the names of all outputs, or a mapping from names to "
        f"outputs, got {type(class_map).__name__}"
    )


def _listed(names: Sequence[str]) -> _Table:
    """Names in the order of the outputs; one that is there twice is no name of an output."""
    table = {name: number for number, name in enumerate(names)}
    if len(table) < len(names):
        times = Counter(names)
        table = {name: number for name, number in table.items() if times[name] == 1}
    return table, len(names)
