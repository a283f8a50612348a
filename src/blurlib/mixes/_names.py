"""Keys of images that have names and no numbers."""

from __future__ import annotations

import hashlib


def index_of(name: str) -> int:
    """The index for keyed draws of an image that has a name: the first 62 bits of the name's SHA-256.

    It is the same in every process, on every machine and in every order of a stream. Two names of ten million
    share an index with a probability of 1 in 90 000; they would share their blurs, no more.

    Args:
        name: what the image is called in its data set, with "/" between folders on every system:
            "n01440764/n01440764_10026", `sample["__key__"]` of WebDataset. It is encoded in UTF-8.

    Returns:
        From 0 to 2**62 - 1.

    Raises:
        TypeError: if `name` is no text.
        ValueError: if it is empty.

    Example:
        >>> index_of("n01440764/n01440764_10026")
        4203744414435081228
        >>> import blurlib
        >>> blurlib.BlurMixSampler("sharp + D4 + D8").draw(index_of("n01440764/n01440764_10026"), epoch=1)
        Disk(radius=8.0, antialias=False)
    """
    if not isinstance(name, str):
        raise TypeError(
            f"`name` must be the text by which the data set knows the image, got {type(name).__name__}: "
            f"{name!r}; of a path take `path.relative_to(folder).as_posix()`, and give a number as it is: "
            "`draw(7)`"
        )
    if not name:
        raise ValueError(
            "`name` must not be empty, got '': images without names would all get the same blur; name each "
            "by its file, or number them and draw by the number"
        )
    # File names that are no UTF-8 count by their bytes.
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 2
