"""Photographs on disk: which to read, where to write, and one of them blurred."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from .._common.files import replacing
from ..blurs import Blur
from ..data import IMAGE_SUFFIXES
from ..functional import Border, apply
from ..protocol import to_rgb


def pairs(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """(image, output) for a file or for the images of a folder at any depth, sorted by path."""
    if not source.exists():
        raise FileNotFoundError(
            f"`INPUT` must be an image or a folder of images, there is no {str(source)!r}"
        )
    if source.is_file():
        if out.is_dir():
            raise ValueError(
                f"`-o` must be a file for a file, got the folder {str(out)!r}; try {out / source.name}"
            )
        return [(source, _writable(out))]
    if out.is_file() or out.suffix.lower() in Image.registered_extensions():
        raise ValueError(f"`-o` must be a folder for a folder, got {str(out)!r}")
    if source.resolve() in (out.resolve(), *out.resolve().parents):
        raise ValueError(
            f"`-o` must be outside the folder {str(source)!r}, got {str(out)!r}; name another folder"
        )
    found = sorted(
        path.relative_to(source)
        for path in source.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and path.is_file()
    )
    if not found:
        raise ValueError(
            f"`INPUT` must hold images, got none in {str(source)!r} (suffixes looked for: "
            f"{' '.join(IMAGE_SUFFIXES)})"
        )
    return [(source / path, _writable(out / path)) for path in found]


def _writable(target: Path) -> Path:
    known = Image.registered_extensions()
    if known.get(target.suffix.lower()) not in Image.SAVE:
        raise ValueError(
            f"`-o` must have a suffix of an image format such as .png or .jpg, got {str(target)!r}"
        )
    return target


def blur_file(photograph: Path, target: Path, value: Blur, *, at: int | None, border: Border) -> str:
    """Blur one file, and say in a line what was done.

    `at` is the shorter side in px at which the blur is as its name says; None takes pixels of the photograph.
    The suffix of the target is its format.
    """
    try:
        with warnings.catch_warnings(), Image.open(photograph) as opened:
            warnings.simplefilter("ignore")  # on size and broken metadata: the file was named on purpose
            image = to_rgb(opened)
            # Other modes are converted to RGB, where their profile would be wrong.
            profile = opened.info.get("icc_profile") if opened.mode in ("RGB", "RGBA") else None
    except UnidentifiedImageError as error:
        raise ValueError(f"cannot read {photograph}: not an image, or of a kind that is not known") from error
    except Exception as error:  # Pillow's decoders raise whatever the bytes lead to
        raise ValueError(f"cannot read {photograph}: {error}") from error
    scale = 1.0 if at is None else min(image.size) / at
    try:
        blurred = apply(image, value, border=border, scale=scale)
    except ValueError as error:
        raise ValueError(f"cannot blur {photograph} by {value} at scale {scale:g}: {error}") from error
    kind = Image.registered_extensions()[target.suffix.lower()]
    options: dict[str, Any] = {"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {}
    with replacing(target, durable=False) as aside:
        blurred.save(aside, kind, icc_profile=profile, **options)
    how = "in pixels of the photograph" if at is None else f"at {at} px, scaled by {scale:.3g}"
    return f"{photograph} ({image.width} x {image.height} px) -> {target}: {value} {how}"
