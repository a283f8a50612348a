"""Where an item of a data set holds its image, and whether that can be one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import PIL.Image
from torch import Tensor

_USUAL = ("image", "pixel_values")


def check_channels_first(name: str, tensor: Tensor) -> None:
    """Refuse what can only be (..., H, W, C), whose columns and colours would be averaged without a word."""
    *_, height, width, channels = tensor.shape
    if channels in (3, 4) and min(height, width) >= 16:
        raise ValueError(
            f"`{name}` must have their channels before height and width (..., C, H, W), got shape "
            f"{tuple(tensor.shape)}, which looks like (..., H, W, C); move them: `{name}.movedim(-1, -3)`"
        )


def replace_image(item: Any, where: int | str | None, change: Callable[[Any], Any]) -> Any:
    """The same item, in a container of its own, with the image changed that it holds at a position or key."""
    if isinstance(item, (Tensor, PIL.Image.Image)) and where is None:
        image = item
    else:
        where = _place(item, where)
        image = item[where]
    if isinstance(image, Tensor):
        if image.ndim < 3:
            raise ValueError(
                f"`image` must say where the image is, got {where!r}, where a tensor of shape "
                f"{tuple(image.shape)} is"
            )
        check_channels_first("image", image)
    changed = change(image)
    if image is item:
        return changed
    if isinstance(item, Mapping):
        return {**item, where: changed}
    values = [*item]
    values[where] = changed  # type: ignore[index]  # a position here
    return item._make(values) if hasattr(item, "_make") else type(item)(values)


def _place(item: Any, where: int | str | None) -> int | str:
    """Where an item holds its image."""
    if isinstance(item, Mapping):
        known: Any = item
        found = where if where is not None else next((name for name in _USUAL if name in item), None)
    elif isinstance(item, (tuple, list)):
        known = range(-len(item), len(item))
        found = 0 if where is None else where
    else:
        raise TypeError(
            f"`image` must be a position in a tuple or list or a key of a mapping, got {where!r} for an item "
            f"of type {type(item).__name__}"
        )
    if found is None or found not in known:
        held = f"keys {', '.join(map(str, item))}" if isinstance(item, Mapping) else f"{len(item)} parts"
        raise ValueError(f"`image` must say where an item holds its image, got {where!r} for one with {held}")
    return found
