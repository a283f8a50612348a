"""A data set whose images are blurred."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset

from .._common.checks import check_whole
from ..blurs import Blur, cached_kernel
from ..functional import convolve
from ._items import replace_image
from ._sampler import BlurMixSampler

_UNTOLD = -1  # the epoch


class BlurredDataset(Dataset[Any]):
    """A map-style data set whose images are blurred, each by the mix's draw for (seed, epoch, position).

    An image gets the blur that ``mix(images, indices=positions, epoch=epoch)`` gives it, whatever the
    workers, batches, order or processes. The epoch is a number in shared memory, so that persistent workers
    learn of it; or a sampler such as :class:`blurlib.data.KeyedSampler` yields (epoch, position).

    Args:
        dataset: its items are images (PIL images, tensors (..., C, H, W), tv_tensors), or tuples, lists or
            mappings that hold one.
        mix: a :class:`BlurMixSampler`, or what it is made of: "sharp + D2 + D4".
        image: where an item holds its image, a position or a key. By default the first of a tuple or list;
            "image" or "pixel_values" of a mapping.
        epoch: where it is not to change, as in validation. By default `set_epoch` must tell it before the
            first item is taken.

    Raises:
        TypeError: if `dataset` has no length or no positions.

    Example:
        >>> photos = [(torch.rand(3, 32, 32), label) for label in range(4)]
        >>> blurred = BlurredDataset(photos, "sharp + D4", epoch=0)
        >>> image, label = blurred[2]
        >>> torch.equal(image, blurred.mix(photos[2][0][None], indices=[2])[0]), label
        (True, 2)
    """

    def __init__(
        self,
        dataset: Any,
        mix: BlurMixSampler | str | Blur | Mapping[Any, float],
        *,
        image: int | str | None = None,
        epoch: int | None = None,
    ) -> None:
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise TypeError(
                f"`dataset` must have a length and positions, got {type(dataset).__name__}; for a stream "
                "draw by name: "
                "blurlib.functional.apply(image, mix.draw(blurlib.mixes.index_of(name), epoch))"
            )
        self.dataset = dataset
        self.mix = mix if isinstance(mix, BlurMixSampler) else BlurMixSampler(mix)
        self.image = image
        epoch = _UNTOLD if epoch is None else check_whole("epoch", epoch)
        self.__setstate__(vars(self) | {"_epoch": torch.tensor(epoch)})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy too, the epoch is in shared memory."""
        vars(self).update(state)
        self._epoch: torch.Tensor = state["_epoch"].share_memory_()

    def __repr__(self) -> str:
        return f"BlurredDataset({type(self.dataset).__name__} of {len(self)}, {self.mix!r})"

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int | tuple[int, int]) -> Any:
        epoch, position = index if isinstance(index, tuple) else (int(self._epoch), index)
        if epoch == _UNTOLD:
            raise ValueError(
                "`epoch` must be known before the first item is taken, got none yet; call "
                "`set_epoch(epoch)` at the start of each, or make the data set with `epoch=0` for blurs that "
                "never change"
            )
        position = range(len(self))[position]
        kernel = cached_kernel(self.mix.draw(position, epoch))
        return replace_image(
            self.dataset[position], self.image, lambda image: convolve(image, kernel, self.mix.border)
        )

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch, to workers that run already too.

        Args:
            epoch: 0 or more; of the items that are taken from now on.
        """
        self._epoch.fill_(check_whole("epoch", epoch))
