"""Image files: which are looked for in a folder, and how one is opened; nothing but photographs decodes."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

__all__ = ["IMAGE_SUFFIXES", "image_paths", "open_image"]

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif"),
    *(".jp2", ".pbm", ".pgm", ".pnm", ".ppm"),
)
Seen = dict[tuple[int, int], str]  # device and number of a folder, and its path
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@functools.cache
def _formats() -> tuple[str, ...]:
    """Pillow's formats of the suffixes. It has others that start programs, such as Ghostscript."""
    known = Image.registered_extensions()
    return tuple({known[suffix]: None for suffix in IMAGE_SUFFIXES if suffix in known})


def open_image(source: str | Path | IO[bytes]) -> Image.Image:
    """Open a photograph as `PIL.Image.open` does, to be decoded later.

    Args:
        source: a path or an open file.

    Returns:
        The image, a context manager.

    Raises:
        OSError: if there is no such file, if it is none (a FIFO would be waited for), or if it has none of
            the formats of IMAGE_SUFFIXES, whatever its name says.
        ValueError: if it has more pixels than Pillow decodes.
    """
    if isinstance(source, (str, Path)):
        kind = stat.S_IFMT(os.stat(source).st_mode)  # noqa: PTH116  without an object: once for each image read
        if kind != stat.S_IFREG:
            raise OSError(f"it is {_KINDS.get(kind, 'something else')}, not a regular file")
    try:
        return Image.open(source, formats=_formats())
    except UnidentifiedImageError:
        raise OSError(f"it is damaged, not an image, or none of {', '.join(_formats())}") from None
    except Image.DecompressionBombError:
        raise ValueError(
            f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels; shrink it, or, if you trust it, "
            "raise PIL.Image.MAX_IMAGE_PIXELS at the top of your program"
        ) from None


def image_paths(
    root: str, folder: str = "", *, seen: dict[tuple[int, int], str] | None = None
) -> Iterator[str]:
    """Paths below `root` of the images in a folder of it: sorted folders, and in each its files by name.

    Hidden files and folders are left out, links to folders are followed. A folder that cannot be listed, or
    comes twice, is an error; `seen` keeps those that came, over several calls.
    """
    # Strings instead of Path objects: with a million files the objects alone take half a minute.
    for place, _, names in sorted(_walked(os.path.join(root, folder), {} if seen is None else seen)):  # noqa: PTH118  text, not Path
        below = place[len(root) :].lstrip(os.sep)
        for name in sorted(names):
            if name[0] != "." and name.lower().endswith(IMAGE_SUFFIXES):
                yield f"{below}{os.sep}{name}" if below else name


def _walked(top: str, seen: Seen) -> Iterator[tuple[str, list[str], list[str]]]:
    for place, folders, names in os.walk(top, followlinks=True, onerror=_unreadable):
        found = os.stat(place)  # noqa: PTH116  text, not Path
        first = seen.setdefault((found.st_dev, found.st_ino), place)
        # Some file systems number several folders alike.
        if first != place and os.path.realpath(first) == os.path.realpath(place):
            raise ValueError(
                f"a folder of images must be there once, got {place!r} and {first!r}, which are the same by "
                "a link; remove the link"
            )
        folders[:] = [name for name in folders if name[0] != "."]
        yield place, folders, names


def _unreadable(error: OSError) -> None:
    raise OSError(
        f"cannot list the folder {error.filename!r} ({error.strerror}); make it readable, or move it away"
    ) from None
