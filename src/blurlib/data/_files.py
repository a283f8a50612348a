"""Files of images, as listings read them and messages name them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from .._common.pictures import open_image
from .._common.texts import visible

_REMEDY = 'repair or remove it, or pass on_error="skip" to go on without it'


def decoded(path: Path) -> Image.Image:
    """The image in a file; errors name it."""
    try:
        with open_image(str(path)) as image:
            image.load()
    except FileNotFoundError:
        raise FileNotFoundError(visible(f"`root` lists {path}, which is missing; {_REMEDY}")) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the bytes lead to
        raise broken("read", str(path), error) from error
    return image


def contents(folder: Path) -> str:
    """What a folder holds, for messages."""
    return visible(", ".join(sorted(entry.name for entry in folder.iterdir())[:8])) or "nothing"


def text_of(name: str) -> str:
    """A file's name for texts: bytes that are no text are escaped, and control characters."""
    return visible(name.encode(errors="backslashreplace").decode())


def broken(verb: str, place: str, error: BaseException) -> ValueError:
    """What to raise for an image that cannot be read or used."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ValueError(visible(f"cannot {verb} {place}: {text}; {_REMEDY}"))
