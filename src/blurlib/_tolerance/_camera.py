"""Pixels of blur in the words of a camera: speed, rotation and depth (pinhole and thin lens)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from .._common.checks import check_number


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera, which turns a size of blur in pixels into metres, seconds and degrees.

    Motion
        A point at a distance of Z m that crosses the view at v m/s moves by F v t / Z pixels in t s, where F
        is the focal length in pixels (pinhole camera: Hartley and Zisserman, "Multiple View Geometry", 2004,
        section 6.1).
    Rotation
        A camera that turns by w radians a second moves the middle of its picture by F w t pixels, for the
        small angles of an exposure.
    Depth
        A lens of focal length f m and f-number N, focused at Zf m, shows a point at Z m as a disk of radius
        F (f / N) abs(Z - Zf) / (2 Z (Zf - f)) pixels (thin lens: Potmesil and Chakravarty, "Synthetic image
        generation with a lens and aperture camera model", 1982).

    Attributes:
        focal_px: focal length in pixels, in an image whose shorter side is `image_side`. From a horizontal
            angle of view a and a width of W px it is W / 2 / tan(a / 2).
        exposure_s: exposure in seconds, such as 1/60.
        image_side: shorter side in px of the images that `focal_px` is given for; None for images of the
            canonical side, 384 px.
        distance_m: of what is looked at, in metres; the lens is focused there.
        focal_mm: focal length of the lens in millimetres, not "equivalent"; for depth.
        f_number: of the aperture, such as 2.8; for depth.

    Raises:
        TypeError: if a value is not a number.
        ValueError: if one is out of its range, or the distance is not beyond the focal length.

    Example:
        >>> phone = Camera(focal_px=1440, image_side=1080, exposure_s=1 / 60, distance_m=2)
        >>> round(phone.speed(4), 4), round(phone.rotation(4), 2)
        (0.9375, 26.86)
    """

    focal_px: float
    exposure_s: float
    image_side: float | None = None
    distance_m: float = 2.0
    focal_mm: float | None = None
    f_number: float | None = None

    def __post_init__(self) -> None:
        ranges = {
            "focal_px": (1.0, 1e6, "pixels"),
            "exposure_s": (1e-7, 60.0, "seconds, such as 1 / 60"),
            "distance_m": (1e-3, 1e9, "metres"),
        }
        optional = {
            "image_side": (8.0, 1e6, "pixels"),
            "focal_mm": (0.1, 1e4, "millimetres"),
            "f_number": (0.3, 256.0, "times, such as 2.8"),
        }
        ranges |= {name: rule for name, rule in optional.items() if getattr(self, name) is not None}
        for name, (low, high, unit) in ranges.items():
            value = check_number(name, getattr(self, name), low=low, high=high, unit=unit)
            object.__setattr__(self, name, value)
        if (self.focal_mm is None) != (self.f_number is None):
            missing = "f_number" if self.f_number is None else "focal_mm"
            raise ValueError(
                f"`focal_mm` and `f_number` must come together, got none for `{missing}`; give both"
            )
        if self.focal_mm is not None and self.distance_m <= self.focal_mm / 1000:
            raise ValueError(
                f"`distance_m` must be beyond the focal length, {self.focal_mm / 1000:g} m, got "
                f"{self.distance_m:g}; a lens cannot be focused there"
            )

    def focal(self, canonical_side: float = 384) -> float:
        """The focal length in pixels of images of the canonical side.

        Args:
            canonical_side: their shorter side in px.

        Returns:
            Pixels.

        Example:
            >>> Camera(focal_px=1440, image_side=1080, exposure_s=0.01).focal()
            512.0
        """
        return self.focal_px * (canonical_side / (self.image_side or canonical_side))

    def speed(self, length: float, *, canonical_side: float = 384) -> float:
        """The speed across the view that makes motion blur of a length.

        Args:
            length: in px at the canonical side.
            canonical_side: in px.

        Returns:
            Metres a second, at `distance_m`.

        Example:
            >>> Camera(focal_px=500, exposure_s=0.01, distance_m=1).speed(5)
            1.0
        """
        return length * self.distance_m / (self.focal(canonical_side) * self.exposure_s)

    def rotation(self, length: float, *, canonical_side: float = 384) -> float:
        """The rotation of the camera that makes motion blur of a length in the middle of the picture.

        Args:
            length: in px at the canonical side.
            canonical_side: in px.

        Returns:
            Degrees a second.

        Example:
            >>> round(Camera(focal_px=500, exposure_s=0.01).rotation(5), 2)
            57.3
        """
        return math.degrees(length / (self.focal(canonical_side) * self.exposure_s))

    def depth(self, radius: float, *, canonical_side: float = 384) -> tuple[float, float]:
        """From where to where the view may reach until a point is out of focus by a radius.

        Args:
            radius: of the disk in px at the canonical side.
            canonical_side: in px.

        Returns:
            The nearest and the furthest distance in metres; the latter may be infinite.

        Raises:
            ValueError: if the camera has no `focal_mm` and `f_number`.

        Example:
            >>> portrait = Camera(focal_px=500, exposure_s=0.01, distance_m=2, focal_mm=50, f_number=2)
            >>> near, far = portrait.depth(1)
            >>> round(near, 3), round(far, 3)
            (1.524, 2.907)
        """
        if self.focal_mm is None or self.f_number is None:
            raise ValueError(
                "`focal_mm` and `f_number` must be given for depth, got none; name the lens: "
                "Camera(..., focal_mm=4.3, f_number=1.8)"
            )
        focus, lens = self.distance_m, self.focal_mm / 1000
        reach = 2 * radius * (focus - lens) / (self.focal(canonical_side) * lens / self.f_number)
        return focus / (1 + reach), focus / (1 - reach) if reach < 1 else math.inf

    def __str__(self) -> str:
        """The exposure and the distance, as one says them."""
        whole = Fraction(self.exposure_s).limit_denominator(10_000)
        close = whole and abs(float(whole) - self.exposure_s) < 1e-3 * self.exposure_s
        exposure = f"{whole} s" if close and whole.numerator == 1 else f"{self.exposure_s:.3g} s"
        return f"{exposure}, {self.distance_m:g} m"
