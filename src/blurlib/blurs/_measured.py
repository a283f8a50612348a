"""A measured point spread function as a blur."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import kernels
from .._common.pictures import open_image
from ._values import Blur, check_scale

_LONGEST = int(2 * kernels.MAX_RADIUS) + 1


@dataclass(frozen=True, init=False)
class PointSpread(Blur):
    """A measured point spread function: what a lens, perhaps in a moving camera, makes of a point of light.

    Two are equal where name and values are. The name stands for it in tables, reports and pages; it is no
    short name, so that no text reads back to it.

    Args:
        array: amounts of light (h, w), an array or tensor of numbers, none of them negative, not all 0; both
            sides odd and at most 2049, the image point in the middle pixel, in pixels of the image that is
            blurred. It is divided by its sum.
        name: letters, digits and ``. _ -``, such as "lens".

    Attributes:
        name: what it is called.
        digest: first 16 digits of the SHA-256 of its values.

    Raises:
        TypeError: if `array` does not hold numbers, or `name` is no text.
        ValueError: if one is not as said above.

    Example:
        >>> lens = PointSpread([[0, 1, 0], [1, 4, 1], [0, 1, 0]], name="lens")
        >>> str(lens), float(lens.kernel()[1, 1])
        ('lens', 0.5)
        >>> lens == PointSpread(torch.tensor([[0, 2, 0], [2, 8, 2], [0, 2, 0]]), name="lens")
        True
    """

    name: str
    digest: str
    _taps: np.ndarray = field(repr=False, compare=False)

    def __init__(self, array: Any, *, name: str) -> None:
        taps = _checked(array)
        object.__setattr__(self, "name", _checked_name(name))
        object.__setattr__(self, "digest", digest_of(taps))
        object.__setattr__(self, "_taps", taps)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, name: str | None = None) -> PointSpread:
        """Read one from a NumPy file or an image.

        Args:
            path: a file .npy, or a grey image of 8, 16 or 32 bits (PNG, TIFF) whose values are amounts of
                light: as a raw file has them, without a gamma curve, the dark level subtracted.
            name: see :class:`PointSpread`; None takes the file's name without its ending.

        Returns:
            The blur.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it cannot be read, or does not hold a point spread function.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     np.save(f"{folder}/lens.npy", np.eye(3))
            ...     PointSpread.load(f"{folder}/lens.npy").name
            'lens'
        """
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"`path` must name a file .npy or an image, got {str(path)!r}")
        try:
            if source.suffix.lower() == ".npy":
                array = np.load(source, allow_pickle=False)
            else:
                with open_image(source) as image:
                    array = np.asarray(image.convert("L") if image.mode == "1" else image)
                    if image.mode in ("P", "PA"):
                        raise ValueError("a palette in place of amounts of light")
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(
                f"`path` must name a file .npy or a grey image, got {str(path)!r} ({error}); "
                "write one with numpy.save"
            ) from error
        return cls(array, name=source.stem if name is None else name)

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """See :meth:`Blur.kernel`; at another scale than 1 the kernel is resampled."""
        check_scale(scale)
        kernel = torch.from_numpy(self._taps.copy())
        return kernel if scale == 1.0 else kernels.resample(kernel, scale)

    def __str__(self) -> str:
        return self.name


def digest_of(taps: np.ndarray) -> str:
    """What tells kernels apart: first 16 digits of the SHA-256 of shape and values."""
    values = np.ascontiguousarray(taps, dtype="<f8") + 0.0  # -0.0 is 0.0
    return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()[:16]


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a text such as 'lens', got {type(name).__name__}: {name!r}")
    if not re.fullmatch(r"[\w.-]+", name):
        near = re.sub(r"[^\w.-]+", "-", name).strip("-") or "lens"
        raise ValueError(
            f"`name` must be of letters, digits and . _ - only, got {name!r}; for example name={near!r}"
        )
    return name


def _checked(array: Any) -> np.ndarray:
    """The array as float64 with sum 1."""
    found = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    if found.dtype.kind not in "buif":
        raise TypeError(f"`array` must hold numbers, got {found.dtype}; convert it, or take one part of it")
    taps = found.astype(np.float64)
    if taps.ndim == 3 and taps.shape[-1] in (3, 4) and (taps[..., :3] == taps[..., :1]).all():
        taps = taps[..., 0]  # grey, as image programs save it
    shape = f"got shape {found.shape}"
    if taps.ndim != 2:
        raise ValueError(
            f"`array` must be (h, w), {shape}; take one channel, such as array[..., 1] for green"
        )
    if 0 in taps.shape or taps.shape[0] % 2 == 0 or taps.shape[1] % 2 == 0:
        raise ValueError(
            f"`array` must have odd height and width, {shape}; add a row or column of zeros, "
            "so that the image point lies in the middle pixel"
        )
    if max(taps.shape) > _LONGEST:
        raise ValueError(f"`array` must have at most {_LONGEST} rows and columns, {shape}; crop it")
    if not np.isfinite(taps).all():
        raise ValueError("`array` must be finite, got NaN or infinity in it; look at how it was made")
    if taps.min() < 0:
        raise ValueError(
            f"`array` must not be negative, got {taps.min():g}; cut off noise below the dark level by "
            "array.clip(0)"
        )
    if not taps.any():
        raise ValueError("`array` must have a sum above 0, got zeros alone; look at how it was made")
    taps = taps / taps.max()  # so that no sum is infinite
    taps /= taps.sum()
    taps.flags.writeable = False
    return np.asarray(taps)
