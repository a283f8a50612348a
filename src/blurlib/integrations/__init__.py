"""Blurs in the pipelines of other libraries, under the conventions of each.

Each name is imported on first use, with the library that it serves. Where that is missing, an ImportError
names the command that installs it.
"""

from typing import TYPE_CHECKING

from .._common.on_demand import on_demand

if TYPE_CHECKING:
    from ._albumentations import AlbumentationsBlur
    from ._kornia import KorniaBlur
    from ._lightning import LightningBlur
    from ._timm import insert_blur
    from ._transformers import TrainerEpochs

# From each name to its file, which is called as the extra that it needs.
on_demand(
    __name__,
    {
        "AlbumentationsBlur": "_albumentations",
        "KorniaBlur": "_kornia",
        "LightningBlur": "_lightning",
        "TrainerEpochs": "_transformers",
        "insert_blur": "_timm",
    },
)

__all__ = [
    "AlbumentationsBlur",
    "KorniaBlur",
    "LightningBlur",
    "TrainerEpochs",
    "insert_blur",
]
