"""albumentations and AlbumentationsX, by one class: both are imported as `albumentations`."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from albumentations import ImageOnlyTransform

from .. import transforms
from ..blurs import Blur, cached_kernel
from ..functional import Constant, Outside, blur
from ..mixes import BlurMixSampler
from ..notation import is_short_name
from ..transforms import BlurTransform
from ._indices import INDICES

# AlbumentationsX has another hook for draws, and refuses classes with the older one.
_NEWER = hasattr(ImageOnlyTransform, "sample_parameters")


class AlbumentationsBlur(ImageOnlyTransform):  # type: ignore[misc]  # mypy does not follow albumentations
    """Blur images in a pipeline of albumentations or AlbumentationsX; masks, boxes and key points pass.

    Arrays (H, W) or (H, W, C) of any number of channels, uint8 or floating. A call draws one blur, by the
    pipeline's own generator: all of its `images`, or slices of its `volume`, get the same. What is drawn is a
    number, ``params["index"]``, and ``transform.sampler.draw(index)`` is the blur. In a worker of a
    DataLoader the seed is the pipeline's plus the worker's, as AlbumentationsX has it, with 2.0.8 too.

    Args:
        mix: what :class:`blurlib.BlurMixSampler` takes: "0.5 sharp + 0.5 D4", `Disk(4)`, ``DiskBlur((1, 8))``
            for a random radius, or a mapping from such to shares. Or the list that `to_dict` makes of these.
        border: see :func:`blurlib.blur`.
        p: probability that a call blurs at all.

    Raises:
        TypeError: if `mix` is none of these.
        ValueError: if a blur or the border is unknown, the shares do not sum to 1, or `p` is not in [0, 1].

    Example:
        >>> import albumentations
        >>> pipeline = albumentations.Compose([AlbumentationsBlur("D4", p=1.0)], seed=0)
        >>> pipeline(image=np.zeros((48, 64, 3), np.uint8))["image"].shape
        (48, 64, 3)
    """

    def __init__(
        self,
        mix: str | Blur | BlurTransform | Mapping[Any, float] | list[dict[str, Any]],
        *,
        border: Outside | Mapping[str, Any] = "reflect",
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        outside = Constant(**border) if isinstance(border, Mapping) else border
        self.sampler = BlurMixSampler(_read(mix) if isinstance(mix, list) else mix, border=outside)
        # As `to_dict` keeps them, by these names.
        self.mix = mix if isinstance(mix, str) else _entries(self.sampler)
        self.border = dataclasses.asdict(outside) if isinstance(outside, Constant) else outside
        self._worker_seed: int | None = None

    @classmethod
    def get_class_fullname(cls) -> str:
        """The name in stored pipelines, which does not depend on where the class stands."""
        return f"blurlib.integrations.{cls.__name__}"

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        """What `to_dict` stores beside `p` (albumentations' hook)."""
        return ("mix", "border")

    def apply(self, img: np.ndarray, index: int, **params: Any) -> np.ndarray:
        """Blur an image (albumentations' hook)."""
        del params
        if img.ndim not in (2, 3):
            raise ValueError(
                f"`image` must be an array (H, W) or (H, W, C), got shape {img.shape}; pass several "
                "images, or a batch of one, as `images`"
            )
        if img.ndim == 3 and img.shape[0] <= 4 < min(img.shape[1:]):
            raise ValueError(
                f"`image` must be an array (H, W, C), got shape {img.shape}, which looks like (C, H, W); use "
                "image.transpose(1, 2, 0)"
            )
        return blur(img, cached_kernel(self.sampler.draw(index)), border=self.sampler.border)

    if _NEWER:

        def sample_parameters(self, params: Any, data: Any, targets: Any, sampling: Any) -> Any:
            """Draw a number by the pipeline's generator (AlbumentationsX' hook)."""
            from albumentations.core.transform_params import SampledParams

            del params, data, targets
            return SampledParams(params={"index": sampling.py_random.randrange(INDICES)})

    else:

        def get_params(self) -> dict[str, Any]:
            """Draw a number by the pipeline's generator (albumentations' hook)."""
            return {"index": self.py_random.randrange(INDICES)}

        def should_apply(self, force_apply: bool = False) -> bool:
            """Whether this call blurs (albumentations' hook).

            2.0.8 copies a pipeline's generators into the workers of a DataLoader, where each draws the same,
            and anew in each epoch. Ours are seeded there instead.
            """
            worker = torch.utils.data.get_worker_info()
            if worker is not None and worker.seed != self._worker_seed:
                self._worker_seed = worker.seed
                seed = ((self.seed or 0) + worker.seed) % 2**32
                self.set_random_state(np.random.default_rng(seed), random.Random(seed))
            return bool(super().should_apply(force_apply))


def _entries(sampler: BlurMixSampler) -> list[dict[str, Any]]:
    """A mix as JSON can hold it; a measured kernel, or a blur of one's own, stands in it as it is."""
    found = []
    for each, share in sampler.shares.items():
        entry: dict[str, Any] = {"share": share}
        if isinstance(each, Blur):
            entry["blur"] = str(each) if is_short_name(str(each)) else each
        elif getattr(transforms, type(each).__name__, None) is type(each):
            entry["transform"] = type(each).__name__
            settings = {name: value for name, value in vars(each).items() if not name.startswith("_")}
            entry |= {name: settings[name] for name in settings if name not in ("training", "border")}
        else:
            entry["transform"] = each
        found.append(entry)
    return found


def _read(entries: Sequence[Any]) -> dict[Any, float]:
    """The mix that `_entries` has written down."""
    mix: dict[Any, float] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or "share" not in entry or not entry.keys() & {"blur", "transform"}:
            raise TypeError(
                "`mix` as a list must be one that `to_dict` has made, each entry with a share and a blur "
                f"or a transform, got {entry!r}; give several blurs as 'D2 + D4', or as a mapping to shares"
            )
        settings = {
            name: value for name, value in entry.items() if name not in ("share", "blur", "transform")
        }
        each = entry.get("blur", entry.get("transform"))
        if "transform" in entry and isinstance(each, str):
            if each not in transforms.__all__:
                raise ValueError(
                    f"`mix` must name a transform of blurlib, {', '.join(transforms.__all__)}, got {each!r}"
                )
            each = getattr(transforms, each)(**settings)
        mix[each] = entry["share"]
    return mix
