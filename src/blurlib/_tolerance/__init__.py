"""How much blur a network stands, in pixels and in the words of a camera."""

from ._camera import Camera
from ._result import KindTolerance, Tolerance
from ._share import BlurShare
from ._tolerance import tolerance

__all__ = ["BlurShare", "Camera", "KindTolerance", "Tolerance", "tolerance"]
