"""How blurred a picture is: kind and size with an interval."""

from ._gauge import BlurEstimate, gauge

__all__ = ["BlurEstimate", "gauge"]
