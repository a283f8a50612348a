"""How small patches of photographs look: a mixture of Gaussians, and the denoising that follows from it.

Zoran, Weiss, "From learning models of natural image patches to whole image restoration" (ICCV 2011), the
paper's reference [28]. :func:`blurlib.deblurring.epll` restores photographs with it.
"""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 32  # of patches at once: those of a whole photograph would fill the memory
# Directions of which less than this share survives are left out: it is most of them where noise is strong.
_LEAST_GAIN = 0.01


@dataclass(frozen=True, eq=False)
class PatchPrior:
    """A mixture of Gaussians of mean zero over square patches, their own mean taken off.

    Attributes:
        weights: (K,), positive, of sum 1.
        covariances: (K, s*s, s*s) for patches of s x s px, row by row, of luminances in [0, 1].

    Raises:
        TypeError: if one is not a floating tensor.
        ValueError: if the shapes do not fit, a value is not finite, or the weights are no shares.

    Example:
        >>> prior = PatchPrior(torch.ones(1), 0.01 * torch.eye(16)[None])
        >>> prior.side, prior.denoise(torch.full((1, 9, 9), 0.5), variance=0.001).unique()
        (4, tensor([0.5000]))
    """

    weights: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        """Checks both."""
        for name in ("weights", "covariances"):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
                raise TypeError(f"`{name}` must be a floating tensor, got {getattr(value, 'dtype', value)!r}")
            if not value.isfinite().all():
                raise ValueError(f"`{name}` must be finite, got NaN or infinity; fit the prior again")
        count, shape = len(self.weights), tuple(self.covariances.shape)
        size = shape[-1] if shape else 0
        if self.weights.ndim != 1 or shape != (count, size, size) or math.isqrt(size) ** 2 != size:
            raise ValueError(
                "`covariances` must be (K, s*s, s*s) for K weights and patches of s x s px, got shapes "
                f"{tuple(self.weights.shape)} and {shape}"
            )
        if not count or float(self.weights.min()) <= 0 or abs(float(self.weights.sum()) - 1) > 1e-3:
            raise ValueError(
                f"`weights` must be positive with sum 1, got the sum {float(self.weights.sum())}"
            )

    @property
    def side(self) -> int:
        """Side of the patches in px."""
        return math.isqrt(self.covariances.shape[-1])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PatchPrior:
        """Read a prior.

        Args:
            path: a file that :meth:`save` wrote.

        Returns:
            The prior.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is not such a file.
        """
        try:
            with np.load(Path(path), allow_pickle=False) as stored:
                weights, triangles = (torch.from_numpy(stored[key]) for key in ("weights", "covariances"))
                size = math.isqrt(2 * triangles.shape[-1])
                rows, columns = torch.tril_indices(size, size)
                covariances = torch.zeros(len(weights), size, size)
                covariances[:, rows, columns] = triangles
                covariances[:, columns, rows] = triangles
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever the bytes lead to
            raise ValueError(
                f"`path` must be a file that PatchPrior.save wrote, got {str(path)!r}: {error}"
            ) from error
        return cls(weights, covariances)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the prior: `weights` (K,) and the lower triangles of `covariances`, row by row, float32.

        Args:
            path: the file, .npz.
        """
        rows, columns = torch.tril_indices(*self.covariances.shape[1:])
        triangles = self.covariances[:, rows, columns].float().cpu().numpy()
        with Path(path).open("wb") as file:
            np.savez_compressed(file, weights=self.weights.float().cpu().numpy(), covariances=triangles)

    def denoise(self, image: Tensor, *, variance: float) -> Tensor:
        """Denoise each patch, and average the patches that cover a pixel.

        A patch goes to the component that is likeliest for it, noise included, and is then the mean of what
        it may have been: the Wiener filter of that component. Its own mean is kept.

        Args:
            image: (..., H, W), floating, values in [0, 1] or about.
            variance: of white Gaussian noise in `image`.

        Returns:
            A tensor like `image`.

        Raises:
            ValueError: if the image is smaller than a patch.
        """
        height, width = image.shape[-2:]
        if min(height, width) < self.side:
            raise ValueError(
                f"`image` must be at least {self.side} x {self.side} px, the size of a patch of the prior, "
                f"got {height} x {width}; use wiener() for images that small"
            )
        filters = [part.to(image) for part in _filters(self, variance)]
        planes = image.reshape(-1, height, width)
        return torch.stack([self._plane(plane, filters) for plane in planes]).reshape(image.shape)

    def _plane(self, plane: Tensor, filters: list[_Filter]) -> Tensor:
        total, side = torch.zeros_like(plane), self.side
        places = plane.shape[0] - side + 1
        for top in range(0, places, _ROWS):
            rows = plane[top : min(top + _ROWS, places) + side - 1]
            patches = F.unfold(rows[None, None], side)[0].T.contiguous()
            means = patches.mean(dim=1, keepdim=True)
            found = _likeliest(patches - means, filters) + means
            total[top : top + len(rows)] += F.fold(found.T[None], tuple(rows.shape), side)[0, 0]
        counts = [_coverage(size, side, plane.device) for size in plane.shape]
        return total / (counts[0][:, None] * counts[1])


@dataclass(frozen=True)
class _Filter:
    """What one component does under noise of one variance.

    The log density of a patch p is `offset` + |p @ score|² / 2, up to what all components share.
    """

    offset: float
    score: Tensor  # (D, rank)
    basis: Tensor  # (D, rank)
    gains: Tensor  # (rank,): the share of each direction that survives

    def to(self, image: Tensor) -> _Filter:
        return _Filter(self.offset, self.score.to(image), self.basis.to(image), self.gains.to(image))


@functools.lru_cache(maxsize=16)
def _filters(prior: PatchPrior, variance: float) -> list[_Filter]:
    spectra, bases = _decomposed(prior)
    found = []
    for weight, spectrum, basis in zip(prior.weights.double().tolist(), spectra, bases, strict=True):
        gains = spectrum / (spectrum + variance)
        kept = gains > _LEAST_GAIN
        offset = math.log(weight) - 0.5 * float((spectrum + variance).log().sum())
        found.append(
            _Filter(offset, basis[:, kept] * (gains[kept] / variance).sqrt(), basis[:, kept], gains[kept])
        )
    return found


@functools.lru_cache(maxsize=4)
def _decomposed(prior: PatchPrior) -> tuple[Tensor, Tensor]:
    spectra, bases = torch.linalg.eigh(prior.covariances.double().cpu())
    return spectra.clamp_min(0), bases


def _likeliest(patches: Tensor, filters: list[_Filter]) -> Tensor:
    """Each patch (N, D) through the filter of the component that it most likely comes from."""
    best = patches.new_full((len(patches),), -math.inf)
    owner = torch.zeros(len(patches), dtype=torch.long, device=patches.device)
    for number, part in enumerate(filters):
        score = (patches @ part.score).square_().sum(dim=1).mul_(0.5).add_(part.offset)
        owner[score > best] = number
        best = torch.maximum(best, score)
    order = owner.argsort(stable=True)
    ends = torch.bincount(owner, minlength=len(filters)).cumsum(0).tolist()
    found = torch.empty_like(patches)
    for part, start, end in zip(filters, [0, *ends], ends, strict=False):
        if end > start:
            mine = order[start:end]
            found[mine] = (patches[mine] @ part.basis * part.gains) @ part.basis.T
    return found


def _coverage(size: int, side: int, device: torch.device) -> Tensor:
    """How many patches cover each of the positions along one side of the image."""
    ends = torch.minimum(torch.arange(1, size + 1), torch.arange(size, 0, -1))
    return ends.clamp_max(min(side, size - side + 1)).to(device)


@functools.cache
def default_prior() -> PatchPrior:
    """The prior that comes with the library, fitted on photographs that scikit-image ships.

    Patches of 8 x 8 px; experiments/fit_patch_prior.py made the file and says how.

    Returns:
        The prior.

    Example:
        >>> default_prior().side
        8
    """
    with as_file(files(__package__) / "patch_prior.npz") as path:
        return PatchPrior.load(path)
