"""The network: log spectra to the kind of the blur, and to quantiles of the size for each kind."""

from __future__ import annotations

import functools
from importlib.resources import as_file, files

import numpy as np
import torch
from torch import Tensor, nn

from ._spectrum import CHANNELS, EXTRAS

#: Sizes of the training, in px: radius, length, side, standard deviation.
RANGES = {"defocus": (0.75, 24.0), "motion": (1.5, 48.0), "shake": (5.0, 65.0), "gaussian": (0.4, 12.0)}
BLURS = tuple(RANGES)
CLASSES = ("sharp", *BLURS, "unknown")
QUANTILES = (0.05, 0.5, 0.95)
WEIGHTS = "weights.npz"

_WIDTH = 96
_LAST = 64


class SpectrumNet(nn.Module):
    """Circular convolutions over the angle, so that a turned picture gives the same answer."""

    spectrum_mean: Tensor
    spectrum_std: Tensor
    extra_mean: Tensor
    extra_std: Tensor
    widening: Tensor

    def __init__(self) -> None:
        """Layers before training; the scales of the inputs are buffers."""
        super().__init__()
        widths = (CHANNELS, _WIDTH, _WIDTH, _LAST)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(
                widths[i], widths[i + 1], 3, padding=2**i, dilation=2**i, padding_mode="circular"
            )
            for i in range(3)
        )  # fmt: skip
        self.hidden = nn.Linear(2 * _LAST + EXTRAS, _LAST)
        self.last = nn.Linear(_LAST, len(CLASSES) + len(BLURS) * len(QUANTILES))
        for name, shape in (("spectrum", (CHANNELS, 1)), ("extra", (EXTRAS,))):
            self.register_buffer(f"{name}_mean", torch.zeros(shape))
            self.register_buffer(f"{name}_std", torch.ones(shape))
        #: Added to both sides of the intervals of log sizes, by kind: measured on photographs kept aside.
        self.register_buffer("widening", torch.zeros(len(BLURS)))

    def forward(self, spectrum: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and log sizes (N, kinds, quantiles) of (N, CHANNELS, ANGLES), (N, EXTRAS)."""
        x = (spectrum - self.spectrum_mean) / self.spectrum_std
        for convolution in self.convolutions:
            x = convolution(x).relu()
        x = torch.cat([x.mean(2), x.amax(2), (extra - self.extra_mean) / self.extra_std], dim=1)
        x = self.last(self.hidden(nn.functional.dropout(x, 0.1, self.training)).relu())
        log_sizes = x[:, len(CLASSES) :].unflatten(1, (len(BLURS), len(QUANTILES)))
        return x[:, : len(CLASSES)], log_sizes + self.widening[:, None] * x.new_tensor((-1, 0, 1))


@functools.cache
def trained() -> SpectrumNet:
    """The network with the weights that come with the package."""
    with torch.device("meta"):  # draws nothing from the global generator
        net = SpectrumNet()
    with as_file(files(__package__) / WEIGHTS) as path, np.load(path, allow_pickle=False) as stored:
        state = {name: torch.from_numpy(stored[name]).float() for name in stored.files}
    net.load_state_dict(state, assign=True)
    return net.eval()
