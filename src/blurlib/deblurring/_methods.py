"""Non-blind deblurring: a baseline for robust networks (the paper, section 4.4).

Every method takes the kernel and the border rule of :func:`blurlib.blur`: with both, the blurred image is a
linear function of the sharp one up to its borders, which then cause no ringing. Values are those of
photographs: uint8, or floating in [0, 1]. A method is any callable ``(image, kernel) -> image``.

======================== ======================================================= ============================
Method                   Assumes of the sharp image                              Time
======================== ======================================================= ============================
:func:`wiener`           its spectrum falls like that of photographs             0.2 s; 2 s where borders ask
:func:`richardson_lucy`  it is nowhere negative                                  2 s
:func:`epll`             its patches look like those of photographs              half a minute
:func:`deepinv_restorer` what a network has learned                              the network's
======================== ======================================================= ============================

(For an image of 384 x 576 px on one core, as the page of results has it measured.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from .. import functional
from .._common.checks import check_integer, check_number
from ..functional import Border, check_border
from ._linear import LinearBlur
from ._patch_prior import PatchPrior, default_prior

Deblur: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A method: (image, kernel) to an image of the same shape and dtype."""

ROUNDING = 1 / (255 * 12**0.5)
"""Standard deviation of the rounding of an image to 8 bits, in units of its range: 0.00113."""

# The spectrum of photographs falls faster than the square of the frequency, which is what a penalty on
# gradients alone expects. Measured on photographs under D2, D8, S7, G2 and H8, at noise of 0.001, 0.01 and
# 0.03: a weight of 1 costs up to 3 dB against this one, one of 16 up to 2 dB.
_BALANCE = 4.0
_TINY = 1e-12
_BETAS = tuple(50.0 * 2**step for step in range(10))
_LUMA = (0.299, 0.587, 0.114)


def wiener(image: Tensor, kernel: Tensor, *, noise: float = ROUNDING, border: Border = "reflect") -> Tensor:
    """Undo a known blur by the Wiener filter, the best linear one for what has the spectrum of photographs.

    The result x minimises ``|A x - y|² + λ |∇x|²`` for the blurred image y and the blur A with its border.
    λ follows from the noise and from the energy of the gradients of y, in each channel. Under "circular"
    borders, and under "reflect" and "symmetric" ones where the kernel is its own mirror image both ways
    (disks, odd boxes, Gaussians), that is one product in the Fourier domain; elsewhere 100 steps of conjugate
    gradients.

    Args:
        image: (..., C, H, W), the blurred image: uint8, or floating with values in [0, 1].
        kernel: (h, w) for all images or, with an image (B, ..., C, H, W), (B, h, w) for one each; as for
            :func:`blurlib.blur`. It may be larger than the image.
        noise: standard deviation of the noise in `image`, in units of its range, above 0. The default is that
            of rounding to 8 bits. Where the kernel may be inexact, take more, such as 0.01:
            under the default a disk one pixel off leaves a worse image than the blur did.
        border: border rule of the blur.

    Returns:
        A tensor of the image's shape, dtype and device, values in the range.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a shape or a value is wrong, `noise` is 0, or the image holds NaN or values far outside
            its range.

    Example:
        >>> import blurlib
        >>> sharp = torch.zeros(1, 64, 64)
        >>> sharp[:, 20:40, 20:40] = 1
        >>> disk = blurlib.kernels.disk(4)
        >>> restored = wiener(blurlib.blur(sharp, disk), disk, noise=0.001)
        >>> bool((restored - sharp).abs().mean() < 0.03)
        True
    """
    problem = _Observation(image, kernel, noise=noise, border=border)
    return problem.finished(_wiener(problem.observed, problem.system, noise))


def richardson_lucy(image: Tensor, kernel: Tensor, *, steps: int = 200, border: Border = "reflect") -> Tensor:
    """Undo a known blur by Richardson's and Lucy's multiplications, which keep every value positive.

    Each step multiplies the estimate x by Aᵀ(y / A x) / Aᵀ1, for the blurred image y and the blur A, its
    border included. The first estimate is the blurred image. Noise grows with the steps: fewer are the
    regularisation. On 8-bit photographs small blurs are best after 200, large ones go on improving.

    Args:
        image: (..., C, H, W), the blurred image: uint8, or floating with values in [0, 1].
        kernel: (h, w), or (B, h, w) for one each, as for :func:`blurlib.blur`.
        steps: how many, at least 1.
        border: border rule of the blur.

    Returns:
        A tensor of the image's shape, dtype and device, values in the range.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a shape or a value is wrong, or the image holds NaN or values far outside its range.

    Example:
        >>> import blurlib
        >>> disk = blurlib.kernels.disk(2)
        >>> photo = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
        >>> richardson_lucy(blurlib.blur(photo, disk), disk, steps=10).dtype
        torch.uint8
    """
    check_integer("steps", steps, low=1, high=100_000)
    problem = _Observation(image, kernel, noise=ROUNDING, border=border)
    system, tiny = problem.system, torch.finfo(torch.float32).tiny
    observed = problem.observed.clamp_min(0)
    shares = system.adjoint(torch.ones_like(observed)).clamp_min(tiny)
    found = observed.clamp_min(ROUNDING / 10)  # a zero would stay one for ever
    for _ in range(steps):
        ratio = observed / system.forward(found).clamp_min(tiny)
        found = found * (system.adjoint(ratio) / shares)
    return problem.finished(found)


def epll(
    image: Tensor,
    kernel: Tensor,
    *,
    noise: float = ROUNDING,
    border: Border = "reflect",
    prior: PatchPrior | None = None,
    channels: Literal["luminance", "each"] = "luminance",
    betas: Sequence[float] = _BETAS,
) -> Tensor:
    """Undo a known blur by the expected patch log likelihood, the method of the paper's table 5.

    The result fits the blurred image and is made of patches that a mixture of Gaussians finds likely (Zoran,
    Weiss, ICCV 2011, the paper's reference [28]). It starts from the Wiener filter's result. Each of `betas`
    in turn sets how strongly image and patches are coupled: patches are denoised by the prior, then the image
    is the best compromise between them and the observation.

    Args:
        image: (..., C, H, W), the blurred image: uint8, or floating with values in [0, 1].
        kernel: (h, w), or (B, h, w) for one each, as for :func:`blurlib.blur`.
        noise: standard deviation of the noise in `image`, in units of its range, above 0.
        border: border rule of the blur.
        prior: None takes the one that comes with the library.
        channels: "luminance" restores the luminance of RGB images so and leaves the colours to the Wiener
            filter, in a third of the time; "each" every channel. Images of other than three channels: each.
        betas: one over a variance of patches in units of the range, ascending.

    Returns:
        A tensor of the image's shape, dtype and device, values in the range.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if a shape or a value is wrong, `noise` is 0, the image is smaller than a patch, or it
            holds NaN or values far outside its range.

    Example:
        >>> import blurlib
        >>> disk = blurlib.kernels.disk(2)
        >>> photo = torch.full((3, 24, 24), 100, dtype=torch.uint8)
        >>> epll(blurlib.blur(photo, disk), disk).unique()
        tensor([100], dtype=torch.uint8)
    """
    if channels not in ("luminance", "each"):
        raise ValueError(f"`channels` must be 'luminance' or 'each', got {channels!r}")
    chosen = prior if prior is not None else default_prior()
    if not isinstance(chosen, PatchPrior):
        raise TypeError(f"`prior` must be a PatchPrior, got {type(chosen).__name__}; see PatchPrior.load")
    strengths = [check_number("betas", beta, low=1e-6, high=1e12, unit="1 / variance") for beta in betas]
    problem = _Observation(image, kernel, noise=noise, border=border)
    first = _wiener(problem.observed, problem.system, noise)
    seen, found = problem.observed, first
    luma = seen.new_tensor(_LUMA).view(3, 1, 1) if channels == "luminance" and seen.shape[1] == 3 else None
    if luma is not None:
        seen, found = ((planes * luma).sum(dim=1, keepdim=True) for planes in (seen, first))
    start = found
    for beta in strengths:
        patches = chosen.denoise(found, variance=1 / beta)
        found = problem.system.solve(seen, weight=beta * noise**2, towards=patches)
    return problem.finished(found if luma is None else first + (found - start))


METHODS: dict[str, Callable[..., Tensor]] = {
    "wiener": wiener,
    "richardson_lucy": richardson_lucy,
    "epll": epll,
}
"""The methods that need no weights, by name."""


def deepinv_restorer(
    model: nn.Module | Callable[..., Tensor], *, noise: float = ROUNDING, border: Border = "reflect"
) -> Deblur:
    """A reconstruction of deepinv as a method here: DPIR, RAM, or what one has trained.

    Nothing is downloaded: give the model its weights as a file, such as ``DRUNet(pretrained="drunet.pth")``.
    deepinv's own blurs know fewer borders; the physics that the model is shown is the blur of this library.

    Args:
        model: called with the blurred images (B, C, H, W) in [0, 1], float32, and a
            `deepinv.physics.LinearPhysics` whose noise model has the standard deviation `noise`. Its
            parameters decide the device.
        noise: standard deviation of the noise, in units of the range, above 0.
        border: border rule of the blur.

    Returns:
        The method.

    Raises:
        ImportError: if deepinv is missing, with the remedy.
        TypeError: if `model` cannot be called.
        ValueError: if `noise` is 0 or the border is unknown.

    Example:
        >>> import pytest, blurlib
        >>> _ = pytest.importorskip("deepinv")
        >>> disk = blurlib.kernels.disk(2)
        >>> method = deepinv_restorer(lambda observed, physics: physics.A_adjoint(observed))
        >>> method(torch.zeros(3, 24, 24), disk).shape
        torch.Size([3, 24, 24])
    """
    if not callable(model):
        raise TypeError(f"`model` must be a reconstruction of deepinv, got {type(model).__name__}")
    _check_noise(noise)
    check_border(border)
    try:
        from deepinv.physics import GaussianNoise, LinearPhysics
    except ImportError as error:
        raise ImportError('deepinv_restorer needs deepinv; pip install "blurlib[deblur]"') from error

    def restore(image: Tensor, kernel: Tensor) -> Tensor:
        problem = _Observation(image, kernel, noise=noise, border=border)
        parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        place = image.device if parameter is None else parameter.device
        system = problem.system.to(place)
        physics = LinearPhysics(
            A=lambda x, **_: system.forward(x),
            A_adjoint=lambda y, **_: system.adjoint(y),
            noise_model=GaussianNoise(noise),
            device=place,
        )
        with torch.inference_mode():
            found = model(problem.observed.to(place), physics)
        check_restored("model", found, problem.observed)
        return problem.finished(found.to(image.device))

    return restore


# --- What the methods share ---
def _check_noise(noise: float) -> None:
    if check_number("noise", noise, high=1.0, unit="the image's range") == 0:
        raise ValueError(
            "`noise` must be above 0, got 0: without any, what the blur took away would be divided by "
            "nothing; the rounding of 8-bit images alone is deblurring.ROUNDING, 0.0011"
        )


def check_restored(name: str, found: object, image: Tensor) -> None:
    """Check what a restoration function returned."""
    if not isinstance(found, Tensor):
        raise TypeError(f"`{name}` must return a tensor, got {type(found).__name__}")
    if found.shape != image.shape or not found.is_floating_point():
        raise ValueError(
            f"`{name}` must return a floating tensor of the image's shape {tuple(image.shape)}, got "
            f"{found.dtype} {tuple(found.shape)}"
        )
    if not found.isfinite().all():
        raise ValueError(f"`{name}` must return finite values, got NaN or infinity")


class _Observation:
    """Blurred images in the form that methods work on, float (N, C, H, W), and the way back."""

    def __init__(self, image: Tensor, kernel: Tensor, *, noise: float, border: Border) -> None:
        _check_noise(noise)
        if not isinstance(image, Tensor):
            raise TypeError(
                f"`image` must be a torch.Tensor (..., C, H, W), got {type(image).__name__}; for an array "
                "(H, W, C): torch.from_numpy(image).permute(2, 0, 1)"
            )
        # For its checks of all three; a border of a value would be no linear map.
        functional.blur(image[..., :1, :1], kernel, border=check_border(border))
        if not image.numel():
            raise ValueError(f"`image` must have pixels, got shape {tuple(image.shape)}")
        self.image = image
        wide = torch.float64 if image.dtype == torch.float64 else torch.float32
        values = image.detach().to(wide)
        if image.dtype == torch.uint8:
            values = values / 255
        else:
            _check_range(values)
        self.observed = values.reshape(-1, *image.shape[-3:])
        kernel = kernel.detach().to(wide)
        if kernel.ndim == 3:  # of videos, say: all frames have the kernel of theirs
            kernel = kernel.repeat_interleave(len(self.observed) // len(kernel), dim=0)
        self.system = LinearBlur(kernel, border, (image.shape[-2], image.shape[-1]))

    def finished(self, planes: Tensor) -> Tensor:
        values = planes.clamp(0, 1).reshape(self.image.shape)
        if self.image.dtype == torch.uint8:
            return (values * 255).round_().to(torch.uint8)
        return values.to(self.image.dtype)


def _check_range(values: Tensor) -> None:
    if not values.isfinite().all():
        raise ValueError("`image` must be finite, got NaN or infinity; mend these pixels first")
    low, high = (float(end) for end in values.aminmax())
    if low < -1 or high > 2:  # noise reaches beyond the range, another range further
        raise ValueError(
            f"`image` must hold values in [0, 1] where it is floating, got {low:g} to {high:g}; divide by "
            "its range, such as 255"
        )


def _wiener(observed: Tensor, system: LinearBlur, noise: float) -> Tensor:
    energy = sum(observed.diff(dim=dim).square().sum(dim=(-2, -1), keepdim=True) for dim in (-2, -1))
    assert isinstance(energy, Tensor)
    energy = energy / (observed.shape[-2] * observed.shape[-1])
    # What the noise added to it is taken off, but for a rest: where all seems noise, something is there.
    energy = torch.maximum(energy - 4 * noise**2, energy / 5).clamp_min(_TINY)
    taken = system.kernel.square().sum(dim=(-2, -1)).reshape(-1, 1, 1, 1)
    return system.solve(observed, weight=_BALANCE * noise**2 * taken / energy)
