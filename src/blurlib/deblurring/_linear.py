"""A blur and its border as a linear map, and least squares with it: what undoing a blur comes down to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..functional import Border, blur

_STEPS = 100  # of conjugate gradients, where borders allow no closed form; 200 more change 0.1 dB


class LinearBlur:
    """A blur A with its border, its adjoint, and least squares with it."""

    def __init__(self, kernel: Tensor, border: Border, size: tuple[int, int]) -> None:
        self.kernel, self.border, self.size = kernel, border, size
        mirrored = _mirrored(kernel)
        # Where only some allow the closed form, each is solved by itself: no image may depend on others.
        self._each: list[LinearBlur] = []
        if kernel.ndim == 3 and border in ("reflect", "symmetric") and len(set(mirrored)) > 1:
            self._each = [LinearBlur(one[None], border, size) for one in kernel]
        self.is_periodic = border == "circular" or (border in ("reflect", "symmetric") and all(mirrored))
        """Whether A is a product in the Fourier domain, of the image or of it with its mirror images."""
        if self.is_periodic:
            self._rows, self._columns = (_period(length, border, kernel.device) for length in size)
            self._spectrum = self._transfer()

    def to(self, device: torch.device) -> LinearBlur:
        return LinearBlur(self.kernel.to(device), self.border, self.size)

    def forward(self, planes: Tensor) -> Tensor:
        return blur(planes, self.kernel, border=self.border)

    def adjoint(self, planes: Tensor) -> Tensor:
        found: Tensor = torch.ops.blurlib.blur_adjoint(planes.contiguous(), self.kernel, self.border)
        return found

    def solve(self, observed: Tensor, *, weight: float | Tensor, towards: Tensor | None = None) -> Tensor:
        """The x of least |A x - y|² + weight times |∇x|², or |x - towards|² where that is given."""
        if self._each:
            parts = []
            for number, one in enumerate(self._each):
                here = slice(number, number + 1)
                own = weight[here] if isinstance(weight, Tensor) else weight
                goal = None if towards is None else towards[here]
                parts.append(one.solve(observed[here], weight=own, towards=goal))
            return torch.cat(parts)
        if self.is_periodic:
            return self._divided(observed, weight, towards)
        if towards is None:
            start, right = observed, self.adjoint(observed)
        else:
            start, right = towards, self.adjoint(observed) + weight * towards

        def normal(planes: Tensor) -> Tensor:
            held = planes if towards is not None else _minus_laplacian(planes)
            return self.adjoint(self.forward(planes)) + weight * held

        return _conjugate_gradients(normal, right, start, steps=_STEPS)

    def _divided(self, observed: Tensor, weight: float | Tensor, towards: Tensor | None) -> Tensor:
        spectrum = self._spectrum
        power = spectrum.abs().square()
        right = spectrum.conj() * torch.fft.rfft2(self._extended(observed))
        if towards is None:
            left = power + weight * self._roughness(power)
        else:
            right = right + weight * torch.fft.rfft2(self._extended(towards))
            left = power + weight
        tall, wide = len(self._rows), len(self._columns)
        found: Tensor = torch.fft.irfft2(right / left, s=(tall, wide))
        return found[..., : self.size[0], : self.size[1]]

    def _extended(self, planes: Tensor) -> Tensor:
        if self.border == "circular":
            return planes
        return planes.index_select(-2, self._rows).index_select(-1, self._columns)

    def _transfer(self) -> Tensor:
        """The kernel's spectrum (B, 1, H', W'/2 + 1), wrapped as often as it is larger than the period."""
        tall, wide = len(self._rows), len(self._columns)
        height, width = self.kernel.shape[-2:]
        place = self.kernel.device
        rows = (torch.arange(height, device=place) - height // 2) % tall
        columns = (torch.arange(width, device=place) - width // 2) % wide
        kernels = self.kernel.reshape(-1, height, width)
        wrapped = kernels.new_zeros(len(kernels), tall, wide)
        wrapped.index_put_(
            (torch.arange(len(kernels), device=place)[:, None, None], rows[:, None], columns),
            kernels,
            accumulate=True,
        )
        spectra: Tensor = torch.fft.rfft2(wrapped)
        return spectra[:, None]

    def _roughness(self, power: Tensor) -> Tensor:
        """|∇|² of each frequency."""
        tall, wide = len(self._rows), len(self._columns)
        rows = torch.fft.fftfreq(tall, device=power.device, dtype=power.dtype)
        columns = torch.fft.rfftfreq(wide, device=power.device, dtype=power.dtype)
        found: Tensor = (
            4 * (torch.pi * rows).sin().square()[:, None] + 4 * (torch.pi * columns).sin().square()
        )
        return found


def _mirrored(kernel: Tensor) -> list[bool]:
    """Of each kernel, whether it is its own mirror image in both directions."""
    several = kernel.reshape(-1, *kernel.shape[-2:])
    bound = 1e-6 * several.amax(dim=(-2, -1))
    off = [(several - several.flip(dim)).abs().amax(dim=(-2, -1)) for dim in (-2, -1)]
    return [bool(same) for same in (torch.maximum(*off) <= bound).tolist()]


def _period(length: int, border: str, device: torch.device) -> Tensor:
    """Where the values of one period of an image with its border come from."""
    there = torch.arange(length, device=device)
    if border == "circular":
        return there
    back = there.flip(0)
    return torch.cat([there, back if border == "symmetric" else back[1:-1]])


def _minus_laplacian(planes: Tensor) -> Tensor:
    """∇ᵀ∇ without differences across the border."""
    found = torch.zeros_like(planes)
    rows, columns = planes.diff(dim=-2), planes.diff(dim=-1)
    found[..., 1:, :] += rows
    found[..., :-1, :] -= rows
    found[..., 1:] += columns
    found[..., :-1] -= columns
    return found


def _conjugate_gradients(
    normal: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, *, steps: int
) -> Tensor:
    """Each plane by itself, so that none depends on the others of its batch."""

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(-2, -1), keepdim=True)

    found = start
    rest = right - normal(start)
    direction, size = rest, inner(rest, rest)
    for _ in range(steps):
        product = normal(direction)
        curvature = inner(direction, product)
        # A plane that is solved to the last digit stays as it is.
        step = torch.where(curvature > 0, size / curvature.clamp_min(1e-30), 0.0)
        found = found + step * direction
        rest = rest - step * product
        new = inner(rest, rest)
        direction = rest + torch.where(size > 0, new / size.clamp_min(1e-30), 0.0) * direction
        size = new
    return found
