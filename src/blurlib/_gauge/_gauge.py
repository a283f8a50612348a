"""gauge(): the kind and the size of the blur of one picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from ..protocol import scaled_size, to_rgb
from ._network import BLURS, CLASSES, RANGES, trained
from ._spectrum import WINDOW, spectra

_BEYOND = 1.25  # times the largest size of the training; more is a guess
_LEAST_SHARE = 0.5  # of the kind
# Of the window with most detail, as a logarithm: a standard deviation of about 6 levels. Below it rounding
# and JPEG leave too little: of dark photographs, sharp ones were taken for blurred.
_LEAST_ENERGY = 10.0
_MASK = "which is a mask; give the image itself"

#: px: the side at which sizes are stated, and to which larger pictures are reduced.
SIDE = 384

_MEASURES = {
    "defocus": "disk, radius",
    "motion": "line, length",
    "shake": "camera shake, side",
    "gaussian": "standard deviation",
}


@dataclass(frozen=True, kw_only=True)
class BlurEstimate:
    """The blur of a picture, as :func:`blurlib.gauge` finds it.

    Attributes:
        kind: "sharp", "defocus", "motion", "shake", "gaussian", or "unknown" where the picture is too small,
            too smooth or too faint to tell.
        size: in px at a shorter side of 384 px: of defocus the radius of a disk, of motion the length of a
            line, of shake the side of the kernel, of a Gaussian the standard deviation; 0 of "sharp", None
            of "unknown".
        interval: of the size, 90 %, if the kind is right; of "sharp" from 0 to the largest disk that may have
            gone unseen; None of "unknown".
        probability: of the kind, as the network sees it.
        image_size: (width, height) of the picture in px.

    Example:
        >>> found = BlurEstimate(kind="defocus", size=4.0, interval=(3.5, 4.4), probability=0.98,
        ...                      image_size=(1024, 768))
        >>> print(found)
        defocus (disk, radius): 4.0 px [3.5, 4.4]
        >>> found.size_in_image
        8.0
    """

    kind: str
    size: float | None
    interval: tuple[float, float] | None
    probability: float
    image_size: tuple[int, int]

    @property
    def size_in_image(self) -> float | None:
        """The size in px of the picture itself."""
        return None if self.size is None else self.size * min(self.image_size) / SIDE

    @property
    def text(self) -> str:
        """The size with its interval, such as "4.0 px [3.5, 4.4]"."""
        if self.size is None or self.interval is None:
            if min(self.image_size) < WINDOW:
                return "too small to tell"
            return "too smooth to tell" if self.probability >= _LEAST_SHARE else "no kind is likely"
        return f"{self.size:.1f} px [{self.interval[0]:.1f}, {self.interval[1]:.1f}]"

    def __str__(self) -> str:
        measure = f" ({_MEASURES[self.kind]})" if self.kind in _MEASURES else ""
        return self.text if self.size is None else f"{self.kind}{measure}: {self.text}"


def gauge(image: Image.Image | np.ndarray | Tensor) -> BlurEstimate:
    """Estimate how blurred a picture is: kind and size, with an interval, of one blur of the whole picture.

    A picture with a shorter side of more than 384 px is reduced to that; a smaller one is read as it is, and
    the size is scaled. Local power spectra are read by a small network, which was trained on photographs
    blurred by this library: disks of radius 0.75 to 24 px, lines of 1.5 to 48 px, camera shakes of side 5 to
    65 px and Gaussians of 0.4 to 12 px, with gamma, noise, JPEG and sharpening. Where blur is not uniform,
    or there are two, the answer is one all the same.

    Args:
        image: one picture: PIL of any mode, an array (H, W) or (H, W, 3) of uint8, or a tensor (1 or 3, H, W)
            of uint8 or floating in [0, 1].

    Returns:
        Kind, size and interval; "unknown" where the picture is too smooth, too faint or smaller than 64 px,
        or no kind has half of the probability.

    Raises:
        TypeError: if `image` is something else, such as a mask.
        ValueError: if its shape or its values are those of no picture.

    Example:
        >>> import numpy as np
        >>> gauge(np.full((300, 400), 128, np.uint8)).text
        'too smooth to tell'
    """
    picture = _pillow(image)
    size = picture.size
    if min(size) < WINDOW:
        return BlurEstimate(kind="unknown", size=None, interval=None, probability=1.0, image_size=size)
    grey = to_rgb(picture).convert("L")
    if min(size) > SIDE:
        grey = grey.resize(scaled_size(*grey.size, SIDE), Image.Resampling.BILINEAR)
    levels, extras = spectra(np.asarray(grey))
    with torch.inference_mode():
        logits, log_sizes = trained()(torch.from_numpy(levels)[None], torch.from_numpy(extras)[None])
    shares = logits[0].double().softmax(0).tolist()
    kind, probability = CLASSES[int(np.argmax(shares))], max(shares)
    answer: dict[str, Any] = {"size": None, "interval": None}
    if extras[-1] < _LEAST_ENERGY:
        kind, probability = "unknown", 1.0
    elif probability < _LEAST_SHARE:
        kind = "unknown"
    if kind != "unknown":
        scale = SIDE / min(grey.size)
        like = "defocus" if kind == "sharp" else kind
        low, middle, high = log_sizes[0, BLURS.index(like)].sort().values.double().exp().tolist()
        if kind == "sharp":
            answer = {"size": 0.0, "interval": (0.0, scale * high)}
        elif middle <= _BEYOND * RANGES[kind][1]:
            answer = {"size": scale * middle, "interval": (scale * low, scale * high)}
        else:
            kind = "unknown"
    return BlurEstimate(kind=kind, probability=probability, image_size=size, **answer)


def _pillow(image: object) -> Image.Image:
    """The picture as Pillow has it, or an error that says what it must be."""
    if isinstance(image, Image.Image):
        if image.mode == "1":
            raise TypeError(f"`image` must be a photograph, got mode '1', {_MASK}")
        return image
    if isinstance(image, tv_tensors.TVTensor) and not isinstance(image, tv_tensors.Image):
        raise TypeError(
            f"`image` must be one photograph, got a {type(image).__name__}; give the image itself"
        )
    array = _array(image) if isinstance(image, Tensor) else image
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"`image` must be a Pillow image, an array or a tensor, got {type(image).__name__}; open files "
            "by PIL.Image.open"
        )
    if array.dtype != np.uint8:
        remedy = f", {_MASK}" if array.dtype == bool else "; scale it to 0 to 255 and convert it"
        raise TypeError(f"`image` must be uint8, or a tensor of floats, got {array.dtype}{remedy}")
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.ndim != 2 and array.shape[2:] != (3,):
        raise _wrong_shape(array)
    return Image.fromarray(np.ascontiguousarray(array))


def _array(image: Tensor) -> np.ndarray:
    """(H, W, C) of a tensor (C, H, W); floats become 8 bits."""
    plain = image.detach().cpu().as_subclass(Tensor)
    if plain.ndim != 3 or plain.shape[0] not in (1, 3):
        raise _wrong_shape(plain)
    if plain.is_floating_point() and plain.numel():
        plain = plain.float()
        low, high = plain.min().item(), plain.max().item()
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"`image` must hold values from 0 to 1 as a tensor of floats, got {low:g} to {high:g}; undo "
                "the normalisation"
            )
        plain = (plain * 255 + 0.5).to(torch.uint8)
    return np.asarray(plain.permute(1, 2, 0))


def _wrong_shape(image: np.ndarray | Tensor) -> ValueError:
    wanted = "(H, W) or (H, W, 3) as an array, (1 or 3, H, W) as a tensor"
    return ValueError(
        f"`image` must be one picture, {wanted}, got {tuple(image.shape)}; take one of a batch, and Pillow "
        "for transparency"
    )
