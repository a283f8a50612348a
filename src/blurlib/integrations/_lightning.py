"""Lightning: a callback that blurs the batches of training, on the device, after they are there."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from ..blurs import Blur
from ..mixes import BlurMixSampler, index_of, replace_image

_HOOK = "on_after_batch_transfer"


class LightningBlur(Callback):  # type: ignore[misc]  # Lightning is not looked into
    """Blurs each image of a training batch by a blur of its own: `Trainer(callbacks=[LightningBlur(...)])`.

    It runs after `on_after_batch_transfer` of the data module or module, and so on the device. Batches of
    validation, test and prediction stay as they are. With `indices` the draws are keyed by (seed, epoch,
    index), whatever the workers, batches, devices or a resume; without, torch's generator draws.

    Args:
        mix: a :class:`blurlib.BlurMixSampler`, or what it is made of: "sharp + D2 + D4".
        image: where a batch holds its images (B, C, H, W), a position or a key. By default the first of a
            tuple or list; "image" or "pixel_values" of a mapping.
        indices: where a batch holds the images' numbers in the data set, or their names, of which
            :func:`blurlib.mixes.index_of` makes numbers.

    Raises:
        TypeError: if `mix` is none.

    Example:
        >>> callback = LightningBlur("sharp + D2 + D4 + D6 + D8", indices=2)
        >>> callback.mix
        BlurMixSampler('sharp + D2 + D4 + D6 + D8', seed=0, border='reflect')
    """

    def __init__(
        self,
        mix: BlurMixSampler | str | Blur | Mapping[Any, float],
        *,
        image: int | str | None = None,
        indices: int | str | None = None,
    ) -> None:
        super().__init__()
        self.mix = mix if isinstance(mix, BlurMixSampler) else BlurMixSampler(mix)
        self.image, self.indices = image, indices
        self._owner: Any = self  # until there is a module

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stand behind the hook of the data module, if it has one, or of the module (Lightning's hook)."""
        if stage != "fit":
            return
        data = trainer.datamodule
        self._owner = pl_module if data is None or _is_default(data) else data
        before = getattr(self._owner, _HOOK)

        @functools.wraps(
            inspect.unwrap(before)
        )  # what Lightning looks at to see whether a class overrides it
        def hook(batch: Any, dataloader_idx: int) -> Any:
            batch = before(batch, dataloader_idx)
            return self.blur(batch, trainer.current_epoch) if trainer.training else batch

        setattr(self._owner, _HOOK, hook)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the hook as the class has it (Lightning's hook)."""
        del trainer, pl_module
        if stage == "fit":
            vars(self._owner).pop(_HOOK, None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the hook after an error too, when Lightning calls no `teardown` (Lightning's hook)."""
        del exception
        self.teardown(trainer, pl_module, "fit")

    def blur(self, batch: Any, epoch: int) -> Any:
        """Blur a batch.

        Args:
            batch: as the loader makes it.
            epoch: for keyed draws.

        Returns:
            The same structure, images blurred.
        """
        indices = None if self.indices is None else _numbers(batch, self.indices)
        return replace_image(batch, self.image, lambda images: self.mix(images, indices=indices, epoch=epoch))


def _is_default(data: object) -> bool:
    """Whether the hook is Lightning's own, of `lightning.pytorch` or of `pytorch_lightning`."""
    return next(each for each in type(data).__mro__ if _HOOK in vars(each)).__name__ == "DataHooks"


def _numbers(batch: Any, where: int | str) -> list[int]:
    try:
        found = batch[where]
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"`indices` must say where a batch holds the images' numbers or names, got {where!r}, where it "
            "holds nothing; let the data set return them, as image, label, index"
        ) from error
    if isinstance(found, (Tensor, np.ndarray)):
        found = found.tolist()
    if isinstance(found, str) or not isinstance(found, Iterable):
        raise TypeError(
            f"`indices` must say where a batch holds a number or name for each image, got {where!r}, where "
            f"{found!r} is"
        )
    return [index_of(each) if isinstance(each, str) else each for each in found]
