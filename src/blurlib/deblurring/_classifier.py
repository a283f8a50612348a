"""Classification of deblurred images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..blurs import Blur, PerImageShake, Shake, Sharp, cached_kernel
from ..functional import Border, check_border
from ..models import MultiScale, Scales
from ..notation import parse
from ..protocol import normalisation, normalisation_source, normalised
from ._methods import METHODS, Deblur, check_restored


class DeblurThenClassify(nn.Module):
    """Deblur images by a known kernel, then classify them (the paper, section 4.4).

    In :func:`blurlib.evaluate` every image is blurred at the canonical side, deblurred there, rounded to 8
    bits, and then resized and cropped for the classifier as without deblurring. The assumed blur need not be
    that of the image: to measure the cost of a wrong one, evaluate under another blur.

    Called on images, it deblurs these, at their own resolution. A :class:`blurlib.models.MultiScale` or
    :class:`~blurlib.models.PerScale` has its own scales and crops; any other classifier sees the centre crop
    of 224 px at 256.

    Args:
        model: a classifier.
        method: "wiener", "richardson_lucy", "epll", or any (image, kernel) to image, with float images
            (3, H, W) in [0, 1] and kernels (h, w).
        blur: the assumed blur, or its short name. "shake" means that of each image, which only
            :func:`blurlib.evaluate` knows.
        border: border rule of the blur; methods given as a callable have their own.
        mean: of the colours, three values in [0, 1]; None takes the model's own (timm), else ImageNet's.
        std: of the colours, likewise.

    Raises:
        TypeError: if `model` is no module or `method` cannot be called.
        ValueError: if there is no such method, blur or border.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> deblurrer = DeblurThenClassify(network, "wiener", "D8")
        >>> deblurrer(torch.zeros(1, 3, 384, 512, dtype=torch.uint8)).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        model: nn.Module,
        method: str | Deblur,
        blur: str | Blur,
        *,
        border: Border = "reflect",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
        if isinstance(method, str) and method not in METHODS:
            raise ValueError(
                f"`method` must be one of {', '.join(METHODS)}, or a callable (image, kernel) to image, got "
                f"{method!r}"
            )
        if not isinstance(method, str) and not callable(method):
            raise TypeError(f"`method` must be a name or a callable, got {type(method).__name__}")
        self.colours = normalisation(model, mean, std)
        self.colours_source = normalisation_source(model, mean, std)
        self.model = model
        self.blur = parse(blur)
        self.method = method
        self.border = check_border(border)

    @property
    def name(self) -> str:
        """Name of the method."""
        if isinstance(self.method, str):
            return self.method
        function = getattr(self.method, "func", self.method)  # of functools.partial
        return str(getattr(function, "__name__", type(function).__name__))

    def restore(self, array: np.ndarray, blur: Blur | None = None) -> np.ndarray:
        """Deblur one 8-bit image.

        Args:
            array: uint8, shape (H, W, 3); it is not modified.
            blur: the true blur of the image, only used where the assumed blur is "shake".

        Returns:
            A uint8 array of the same shape.

        Raises:
            ValueError: if the assumed blur is "shake" and `blur` is no camera shake, or the method returns
                no such image.
        """
        image = torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)
        return self._deblurred(image, blur).permute(1, 2, 0).contiguous().numpy()

    def forward(self, images: Tensor) -> Tensor:
        """Mean log-probabilities (B, C) of blurred images (B, 3, H, W): uint8, or floating in [0, 1]."""
        seen = torch.stack([self._deblurred(image, None) for image in images])
        if seen.dtype == torch.uint8:
            ready = normalised(seen, *self.colours)
        else:
            means, stds = (seen.new_tensor(values).view(3, 1, 1) for values in self.colours)
            ready = (seen - means) / stds
        model = self.model
        if not isinstance(model, Scales):
            model = MultiScale(model, (256,), crops="center", crop=224)
        scores: Tensor = model(ready)
        return scores

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"method={self.name!r}, blur={str(self.blur)!r}"

    def _deblurred(self, image: Tensor, blur: Blur | None) -> Tensor:
        assumed_blur = self.blur
        if isinstance(assumed_blur, PerImageShake) and isinstance(blur, Shake):
            assumed_blur = blur
        if isinstance(assumed_blur, PerImageShake):
            raise ValueError(  # noqa: TRY004  a blur like others, but not here
                f"`blur` must name one kernel, got '{assumed_blur}', each image's own, which only `evaluate` "
                "under a shake knows; name one such as 'S17'"
            )
        if isinstance(assumed_blur, Sharp):
            return image
        kernel = cached_kernel(assumed_blur).to(image.device)
        if isinstance(self.method, str):
            restored = METHODS[self.method](image, kernel, border=self.border)
        else:
            restored = self._called(image, kernel)
        return restored

    def _called(self, image: Tensor, kernel: Tensor) -> Tensor:
        assert not isinstance(self.method, str)
        values = image.float() / 255 if image.dtype == torch.uint8 else image
        found = self.method(values, kernel)
        check_restored("method", found, values)
        if image.dtype == torch.uint8:
            return (found.clamp(0, 1) * 255).round().to(torch.uint8)
        return found
