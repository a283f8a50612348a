"""Blurs in the pipelines of other libraries, under the conventions of each.

Each name is imported on first use, with the library that it serves. Where that is missing, an ImportError
names the command that installs it.
"""

from typing import TYPE_CHECKING

from .._common.on_demand import on_demand

if TYPE_CHECKING:
    from ._albumentations import AlbumentationsBlur
    from ._kornia import KorniaBlur
    from ._timm import insert_blur

# From each name to its file, which is called as the extra that it needs.
on_demand(
    __name__,
    {
        "AlbumentationsBlur": "_albumentations",
        "KorniaBlur": "_kornia",
        "insert_blur": "_timm",
    },
)

__all__ = [
    "AlbumentationsBlur",
    "KorniaBlur",
    "insert_blur",
]
