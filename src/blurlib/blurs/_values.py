"""The blurs that have a short name, and what all blurs are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch

from .. import kernels
from .._common import checks, rng
from ..kernels import Bank

# Purposes that keep keyed draws apart from those of other modules.
_OWN_SHAKE = 0x5AE
_OWN_ANGLE = 0xA27


def check_scale(scale: float) -> None:
    """Raise an error that names the rule and the value unless the scale is a finite number above 0."""
    checks.check_number("scale", scale, low=1e-6, high=1e6, unit="times")


class Blur:
    """A value that names one blur kernel; compare, hash, print and parse it.

    A kernel of one's own is a frozen dataclass that extends this: it has a method `kernel`, and a ``__str__``
    by which tables and pages show it. Mixes, `evaluate` and transforms take it as they take others.

    Example:
        >>> from blurlib.notation import parse
        >>> str(Disk(4)), parse("D4") == Disk(4)
        ('D4', True)
        >>> @dataclass(frozen=True)
        ... class Ghost(Blur):
        ...     offset: int
        ...
        ...     def kernel(self, scale=1.0):
        ...         kernel = torch.zeros(1, 2 * round(self.offset * scale) + 1, dtype=torch.float64)
        ...         kernel[0, kernel.shape[1] // 2] += 0.9
        ...         kernel[0, -1] += 0.1
        ...         return kernel
        ...
        ...     def __str__(self):
        ...         return f"ghost{self.offset}"
        >>> parse(Ghost(3)).kernel().shape, str(Ghost(3))
        (torch.Size([1, 7]), 'ghost3')
    """

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """The kernel for an image `scale` times as large as the one the blur is defined for.

        Args:
            scale: above 0; 1 is the blur as it is written.

        Returns:
            Float64 tensor (h, w), both odd, sum 1.

        Raises:
            ValueError: if the scaled kernel would be absurdly large, or the blur has no kernel of its own.

        Example:
            >>> Disk(2).kernel().shape, Disk(2).kernel(scale=3).shape
            (torch.Size([5, 5]), torch.Size([13, 13]))
        """
        raise TypeError(f"{type(self).__name__} has no kernel (scale {scale}); use Disk, Box, Line, ...")

    def of_image(self, index: int, *, seed: int = 0) -> Blur:  # noqa: ARG002  for blurs that depend on it
        """The blur of one image of an evaluation: that of :func:`shake_of_image` for `shake`, else this one.

        Args:
            index: of the image in the full sorted listing, before any `limit`.
            seed: see :func:`shake_of_image`.

        Returns:
            A blur with a kernel.

        Example:
            >>> str(Disk(4).of_image(7)), str(PerImageShake().of_image(7))
            ('D4', 'S72')
        """
        return self

    def _repr_html_(self) -> str:
        """What a notebook shows: the kernel and the name."""
        from ._picture import blur_html

        return blur_html(self)


@dataclass(frozen=True)
class Sharp(Blur):
    """No blur.

    Example:
        >>> Sharp().kernel().tolist()
        [[1.0]]
    """

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """See :meth:`Blur.kernel`: one pixel at every scale."""
        check_scale(scale)
        return torch.ones(1, 1, dtype=torch.float64)

    def __str__(self) -> str:
        return "sharp"


@dataclass(frozen=True)
class Disk(Blur):
    """Defocus: see :func:`blurlib.kernels.disk`.

    Attributes:
        radius: in pixels.
        antialias: area coverage instead of the paper's binary disk.

    Example:
        >>> str(Disk(2.5, antialias=True))
        'D2.5a'
    """

    radius: float
    antialias: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "radius", checks.check_number("radius", self.radius, high=kernels.MAX_RADIUS)
        )

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """See :meth:`Blur.kernel`."""
        check_scale(scale)
        return kernels.disk(self.radius * scale, antialias=self.antialias)

    def __str__(self) -> str:
        return f"D{number_text(self.radius)}{'a' if self.antialias else ''}"


@dataclass(frozen=True)
class Box(Blur):
    """Motion along an axis as in the paper: see :func:`blurlib.kernels.box`.

    Attributes:
        length: whole number of pixels.
        vertical: along y instead of x.

    Example:
        >>> str(Box(8)), str(Box(8, vertical=True))
        ('H8', 'V8')
    """

    length: int
    vertical: bool = False

    def __post_init__(self) -> None:
        length = checks.check_integer("length", self.length, low=1, high=int(2 * kernels.MAX_RADIUS))
        object.__setattr__(self, "length", length)

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """See :meth:`Blur.kernel`; at another scale than 1 the centred line of the scaled length."""
        check_scale(scale)
        if scale == 1.0:
            return kernels.box(self.length, vertical=self.vertical)
        return kernels.line(self.length * scale, 90.0 if self.vertical else 0.0)

    def __str__(self) -> str:
        return f"{'V' if self.vertical else 'H'}{self.length}"


@dataclass(frozen=True)
class Line(Blur):
    """Straight motion of any length and angle: see :func:`blurlib.kernels.line`.

    Attributes:
        length: in pixels.
        angle: degrees counter-clockwise from +x.

    Example:
        >>> str(Line(12, 30))
        'L12@30'
    """

    length: float
    angle: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "length", checks.check_number("length", self.length, high=2 * kernels.MAX_RADIUS)
        )
        angle = checks.check_number("angle", self.angle, low=-1e6, high=1e6, unit="degrees")
        object.__setattr__(self, "angle", angle)

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """See :meth:`Blur.kernel`."""
        check_scale(scale)
        return kernels.line(self.length * scale, self.angle)

    def __str__(self) -> str:
        return f"L{number_text(self.length)}@{number_text(self.angle)}"


@dataclass(frozen=True)
class Gaussian(Blur):
    """Gaussian blur cut at four standard deviations: see :func:`blurlib.kernels.gaussian`.

    Attributes:
        sigma: standard deviation in pixels.

    Example:
        >>> str(Gaussian(4))
        'G4'
    """

    sigma: float

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "sigma", checks.check_number("sigma", self.sigma, high=kernels.MAX_RADIUS / 4)
        )

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """See :meth:`Blur.kernel`."""
        check_scale(scale)
        return kernels.gaussian(self.sigma * scale)

    def __str__(self) -> str:
        return f"G{number_text(self.sigma)}"


@dataclass(frozen=True)
class Shake(Blur):
    """One camera-shake kernel of a bank: see :func:`blurlib.kernels.bank_kernel`.

    Attributes:
        index: its number in the bank.
        bank: "test" or "train".
        size: side of the kernel in pixels, odd; 17 is the paper's.

    Example:
        >>> str(Shake(17)), str(Shake(17, "train")), str(Shake(17, size=41))
        ('S17', 'S17@train', 'S17@41')
    """

    index: int
    bank: Bank = "test"
    size: int = field(default=kernels.BANK_SIDE, kw_only=True)

    def __post_init__(self) -> None:
        count = kernels.BANK_SIZES[checks.one_of("bank", self.bank, kernels.BANK_SIZES)]
        index = checks.check_integer("index", self.index, low=0, high=count - 1)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "size", kernels.check_side(self.size))

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """See :meth:`Blur.kernel`; at another scale than 1 the kernel is resampled."""
        check_scale(scale)
        kernel = kernels.bank_kernel(self.index, self.bank, size=self.size)
        return kernel if scale == 1.0 else kernels.resample(kernel, scale)

    def __str__(self) -> str:
        return f"S{self.index}{'@train' if self.bank == 'train' else ''}{_size_text(self.size)}"


class PerImage(Blur, ABC):
    """What blurs with a different kernel for each image are: there is none before an image is named.

    :meth:`of_image` resolves it in evaluation, :meth:`drawn` in training.

    Example:
        >>> isinstance(PerImageShake(), PerImage), isinstance(Shake(0), PerImage)
        (True, False)
    """

    def kernel(self, scale: float = 1.0) -> torch.Tensor:
        """See :meth:`Blur.kernel`; always an error here.

        Raises:
            ValueError: always, with the remedy.
        """
        check_scale(scale)
        raise ValueError(
            f"`{self}` has a kernel only for a given image; name one kernel instead, for example "
            f"{self.of_image(0)}"
        )

    @abstractmethod
    def drawn(self, share: float) -> Blur:
        """The blur of one draw.

        Args:
            share: of all of them, from 0 to below 1, uniform.

        Returns:
            A blur with a kernel.

        Example:
            >>> str(PerImageLine(12).drawn(0.5))
            'L12@90'
        """


@dataclass(frozen=True)
class PerImageShake(PerImage):
    """Camera shake with a different kernel for each image.

    It comes from the test bank in evaluation and from the train bank in training.

    Attributes:
        size: side of the kernels in pixels, odd; 17 is the paper's.

    Example:
        >>> str(PerImageShake()), str(PerImageShake(41))
        ('shake', 'shake@41')
    """

    size: int = kernels.BANK_SIDE

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", kernels.check_side(self.size))

    def of_image(self, index: int, *, seed: int = 0) -> Shake:
        """See :meth:`Blur.of_image`."""
        return shake_of_image(index, seed=seed, size=self.size)

    def drawn(self, share: float) -> Shake:
        """See :meth:`PerImage.drawn`: of the train bank."""
        return Shake(int(share * kernels.BANK_SIZES["train"]), "train", size=self.size)

    def __str__(self) -> str:
        return f"shake{_size_text(self.size)}"


@dataclass(frozen=True)
class PerImageLine(PerImage):
    """Straight motion with a different angle for each image, uniform over all directions.

    Attributes:
        length: in pixels.

    Example:
        >>> str(PerImageLine(12)), str(PerImageLine(12).of_image(0))
        ('L12@any', 'L12@104.71497685977454')
    """

    length: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", Line(self.length).length)

    def of_image(self, index: int, *, seed: int = 0) -> Line:
        """See :meth:`Blur.of_image`."""
        number = checks.check_integer("index", index, low=0, high=2**62)
        return self.drawn(float(rng.uniform(1, seed=seed, key=(number, _OWN_ANGLE))[0]))

    def drawn(self, share: float) -> Line:
        """See :meth:`PerImage.drawn`."""
        return Line(self.length, 180.0 * share)

    def __str__(self) -> str:
        return f"L{number_text(self.length)}@any"


def _size_text(size: int) -> str:
    return "" if size == kernels.BANK_SIDE else f"@{size}"


def number_text(number: float) -> str:
    """Shortest text that reads back to the same float; whole numbers without a point."""
    return repr(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)


def shake_of_image(index: int, *, seed: int = 0, size: int = kernels.BANK_SIDE) -> Shake:
    """The test-bank kernel of an image, the same in every setting (the paper, section 3).

    A keyed shuffle of each hundred indices, so that any hundred successive images share out the whole bank.

    Args:
        index: of the image in the full sorted listing, before any `limit`.
        seed: another seed is another assignment.
        size: side of the kernel in pixels; the paper's is 17.

    Returns:
        The shake.

    Raises:
        TypeError: if `index` is not a whole number.
        ValueError: if it is negative.

    Example:
        >>> len({shake_of_image(i) for i in range(300, 400)})
        100
    """
    bank = kernels.BANK_SIZES["test"]
    number = checks.check_integer("index", index, low=0, high=2**62)
    order = rng.permutation(bank, seed=seed, key=(number // bank, _OWN_SHAKE))
    return Shake(int(order[number % bank]), size=size)
