"""A sampler that draws a blur for each image of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from .._common import checks, rng
from .._common.devices import sent
from ..blurs import Blur, PerImage, cached_kernel, fingerprints
from ..functional import Outside, check_outside
from ..notation import parse_mix
from ..transforms import BlurTransform, CameraShakeBlur, DiskBlur, MotionBlur
from ._items import check_channels_first

_DRAW = 0xB1  # purpose of a keyed draw


def wide() -> dict[Any, float]:
    """The mix "wide": what lenses, motion and hands make, for a camera of which nothing is known.

    The shares are the best of four on held-out photographs (experiments/wide.py).
    """
    return {
        "sharp": 0.2,
        DiskBlur((0.5, 8.0)): 0.3,
        MotionBlur((2.0, 16.0)): 0.2,
        CameraShakeBlur(size=(9, 25)): 0.3,
    }


_NAMED = {"wide": wide}


def _named(mix: Any) -> Any:
    """What a text that names a mix stands for; anything else as it is."""
    words = mix.lower().split() if isinstance(mix, str) else []
    for name in _NAMED.keys() & words:
        if mix.strip() != name:
            raise ValueError(
                f"`mix` must be {name!r} alone, for it is a mix already, got {mix!r}; for another one take "
                f"its parts, `BlurMixSampler({name!r}).shares`"
            )
        return _NAMED[name]()
    return mix


class _BatchBlur(BlurTransform):
    """One kernel for each image of a batch, as a v2 transform: what is not an image passes through."""

    def __init__(self, kernels_of: Callable[[int], Tensor], border: Outside) -> None:
        super().__init__(border)
        self._kernels_of = kernels_of

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        for inpt in flat_inputs:
            ndim = 5 if isinstance(inpt, tv_tensors.Video) else 4
            if not isinstance(inpt, Tensor) or inpt.ndim != ndim:
                got = f"shape {tuple(inpt.shape)}" if isinstance(inpt, Tensor) else type(inpt).__name__
                remedy = "call the mix after the DataLoader or in `collate_fn`"
                if isinstance(inpt, Tensor) and inpt.ndim == 5:
                    remedy = "wrap videos in tv_tensors.Video"
                raise ValueError(
                    f"`images` must be a batch (B, C, H, W), or videos (B, T, C, H, W), got {got}; {remedy}"
                )
            check_channels_first("images", inpt)
        stack = self._kernels_of(len(flat_inputs[0]))
        for inpt in flat_inputs:
            if len(inpt) != len(stack):
                raise ValueError(f"`indices` must name each of the {len(inpt)} images, got {len(stack)}")
        return {"kernel": sent(stack, flat_inputs[0].device)}


class BlurMixSampler:
    """Blur each image of a batch differently, by blurs drawn from a mix with stated shares.

    Used like torchvision's `CutMix`: after the DataLoader or in `collate_fn`, on ``mix(images, labels)`` or
    any nested structure; labels, masks and boxes pass through. With `indices` the draw is keyed: an image
    gets the same blur in the same epoch whatever the workers, batches, order or processes. Sharp images cost
    a copy.

    Images are blurred on their device, all by one call. Nothing waits for a GPU where `indices` are on the
    CPU: kernels are drawn there, and sent from pinned memory.

    Args:
        mix: "sharp + D2 + D4 + D6 + D8" (equal shares), "0.2 sharp + 0.8 shake" (`shake`: a random kernel of
            the train bank), "wide" (0.2 sharp, 0.3 disks of radius 0.5 to 8, 0.2 lines of length 2 to 16 at
            any angle, 0.3 camera shakes of 9 to 25 px), a blur or a transform alone, or a mapping from names,
            blurs and transforms to shares, ``{"sharp": 0.2, CameraShakeBlur(): 0.8}``,
            ``{"sharp": 0.5, blurs.PointSpread.load("lens.npy"): 0.5}``.
        seed: of the keyed draws.
        border: see :func:`blurlib.blur`.

    Raises:
        TypeError: if `mix` is none of these.
        ValueError: if a blur is unknown, the shares do not sum to 1, or a transform has a border of its own.

    Example:
        >>> mix = BlurMixSampler("sharp + D2 + D4 + D6 + D8")
        >>> mix.draw(index=7, epoch=1) == mix.draw(index=7, epoch=1)
        True
        >>> images, labels = mix(torch.rand(4, 3, 32, 32), torch.arange(4), indices=[0, 1, 2, 3])
        >>> images.shape, labels.tolist()
        (torch.Size([4, 3, 32, 32]), [0, 1, 2, 3])
    """

    def __init__(
        self,
        mix: str | Blur | BlurTransform | Mapping[Any, float],
        *,
        seed: int = 0,
        border: Outside = "reflect",
    ) -> None:
        self.shares = parse_mix(_named(mix))
        self.seed = rng.check_seed(seed)
        self.border = check_outside(border)
        for each in self.shares:
            if getattr(each, "border", "reflect") not in ("reflect", self.border):
                raise ValueError(
                    f"`border` of a mix holds for all of its blurs, got {each} in a mix with "
                    f"{self.border!r}; give border={each.border!r} to the mix"
                )
        self._edges = np.cumsum(list(self.shares.values()))
        self._own = fingerprints(self.shares)

    def __repr__(self) -> str:
        own = f", kernels={self._own!r}" if self._own else ""  # which no text reads back to
        return f"BlurMixSampler({str(self)!r}, seed={self.seed}, border={self.border!r}{own})"

    def __str__(self) -> str:
        equal = len(set(self.shares.values())) == 1
        return " + ".join(str(b) if equal else f"{share:.12g} {b}" for b, share in self.shares.items())

    def draw(self, index: int, epoch: int = 0) -> Blur:
        """The blur of one image in one epoch.

        Args:
            index: of the image in its listing, 0 or more.
            epoch: 0 or more.

        Returns:
            A blur with a kernel: `shake` has become a `Shake` of the train bank.

        Raises:
            TypeError: if `index` or `epoch` is not a whole number.
            ValueError: if one is negative.
        """
        key = (checks.check_whole("epoch", epoch), checks.check_whole("index", index), _DRAW)
        which, inner = rng.uniform(2, seed=self.seed, key=key)
        return self._resolve(which, inner, lambda: rng.generator(seed=self.seed, key=(*key[:2], _DRAW + 1)))

    def kernels(self, indices: Iterable[int], epoch: int = 0) -> Tensor:
        """The kernels of several images, with zeros around the smaller ones.

        Args:
            indices: of the images; whole numbers, or a tensor or an array of such.
            epoch: 0 or more.

        Returns:
            Float64 tensor (B, h, w), both odd.

        Raises:
            TypeError: if `indices` or `epoch` are not whole numbers.
            ValueError: if one is negative.
        """
        return _stack([cached_kernel(self.draw(number, epoch)) for number in checks.check_indices(indices)])

    def __call__(self, *inputs: Any, indices: Iterable[int] | None = None, epoch: int = 0) -> Any:
        """Blur a batch.

        Args:
            inputs: a batch of images (B, C, H, W) or videos (B, T, C, H, W), and whatever comes with it; see
                :mod:`blurlib.transforms` for what is an image. Several batches need `tv_tensors.Image`.
            indices: of the images in the data set, for keyed draws; whole numbers, or a tensor or an array of
                such, best on the CPU. Without them torch's generator draws.
            epoch: for keyed draws.

        Returns:
            The same structure, images blurred.

        Raises:
            TypeError: if `indices` or `epoch` are not whole numbers, or images would be left sharp.
            ValueError: if the images are not a batch, or `indices` are not one each.
        """
        checks.check_whole("epoch", epoch)
        keyed = None if indices is None else self.kernels(indices, epoch)
        return _BatchBlur(lambda count: self._drawn(count) if keyed is None else keyed, self.border)(*inputs)

    def _drawn(self, count: int) -> Tensor:
        draws = torch.rand(count, 2, dtype=torch.float64).tolist()
        return _stack([cached_kernel(self._resolve(which, inner, lambda: None)) for which, inner in draws])

    def _resolve(self, which: float, inner: float, generator: Any) -> Blur:
        choice = list(self.shares)[
            min(int(np.searchsorted(self._edges, which, side="right")), len(self.shares) - 1)
        ]
        if isinstance(choice, PerImage):
            return choice.drawn(inner)
        drawn: Blur = choice if isinstance(choice, Blur) else choice.draw(generator())
        return drawn


def _stack(each: list[Tensor]) -> Tensor:
    height, width = (max((k.shape[d] for k in each), default=1) for d in (0, 1))
    stack = torch.zeros(len(each), height, width, dtype=torch.float64)
    for target, k in zip(stack, each, strict=True):
        top, left = (height - k.shape[0]) // 2, (width - k.shape[1]) // 2
        target[top : top + k.shape[0], left : left + k.shape[1]] = k
    return stack
