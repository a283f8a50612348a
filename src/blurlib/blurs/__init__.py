"""Blurs as values: each names one kernel and has a short name that reads back to the same value.

========== ============================ ==========================================================
Short name Value                        Kernel
========== ============================ ==========================================================
sharp      Sharp()                      none
D4, D2.5a  Disk(4), Disk(2.5, True)     defocus disk of that radius, binary (paper), antialiased
H8, V8     Box(8), Box(8, True)         box of that many pixels, horizontal, vertical
L12@30     Line(12, 30)                 line of that length at that angle in degrees
L12@any    PerImageLine(12)             the same at a different angle for each image
G4         Gaussian(4)                  Gaussian of that standard deviation
S17        Shake(17)                    camera-shake kernel 17 of the test bank
S17@train  Shake(17, "train")           camera-shake kernel 17 of the train bank
S17@41     Shake(17, size=41)           such a kernel of 41 px instead of 17
shake      PerImageShake()              a different camera-shake kernel for each image
shake@41   PerImageShake(41)            the same, of 41 px
========== ============================ ==========================================================

A measured kernel is a :class:`PointSpread`, and any other blur a subclass of :class:`Blur`: both are shown by
their ``str()``, which is no short name and does not read back.
"""

from ._measured import PointSpread
from ._properties import describe
from ._values import (
    Blur,
    Box,
    Disk,
    Gaussian,
    Line,
    PerImage,
    PerImageLine,
    PerImageShake,
    Shake,
    Sharp,
    shake_of_image,
)

# isort: split
# For other wings, not for users.
from ._picture import kernel_levels, kernel_words
from ._properties import cached_kernel, fingerprint, fingerprints, has_short_name
from ._values import number_text

__all__ = [
    "Blur",
    "Box",
    "Disk",
    "Gaussian",
    "Line",
    "PerImage",
    "PerImageLine",
    "PerImageShake",
    "PointSpread",
    "Shake",
    "Sharp",
    "describe",
    "shake_of_image",
]
