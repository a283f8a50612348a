"""Cases computed by hand, from the formulas of a textbook, in millimetres."""

import math

import pytest

import blurlib
from blurlib import Camera

# A full-frame camera: 24 mm are 384 px, so 16 px are a millimetre, and 50 mm are 800 px.
LENS = {"focal_px": 800, "exposure_s": 1 / 100, "distance_m": 2, "focal_mm": 50, "f_number": 2}


def test_speed_across_the_view():
    # At 2 m a millimetre on the sensor is 40 mm; 8 px are half of one, 20 mm in 10 ms.
    assert Camera(**LENS).speed(8) == pytest.approx(2.0)


def test_rotation():
    # 8 px are the angle atan(0.5 mm / 50 mm), in 10 ms.
    assert Camera(**LENS).rotation(8) == pytest.approx(math.degrees(math.atan(0.5 / 50)) / 0.01, rel=1e-4)


@pytest.mark.parametrize("point", [3000.0, 1500.0])
def test_depth(point):
    # Aperture 25 mm; the cone behind the lens ends at v' instead of v: a circle of A |v - v'| / v'.
    focus, aperture = 2000.0, 25.0
    image, own = (1 / (1 / 50 - 1 / distance) for distance in (focus, point))
    radius = aperture * abs(image - own) / own / 2 * 16
    near, far = Camera(**LENS).depth(radius)
    # Pixels are those of a focal length of 50 mm, the image distance is 51.3 mm.
    assert (far if point > focus else near) == pytest.approx(point / 1000, rel=0.03)


def test_depth_is_the_thin_lens_exactly():
    radius = 800 * 0.025 * abs(3 - 2) / (2 * 3 * (2 - 0.05))
    near, far = Camera(**LENS).depth(radius)
    assert far == pytest.approx(3.0)
    assert 800 * 0.025 * (2 - near) / (2 * near * (2 - 0.05)) == pytest.approx(radius)


def test_beyond_the_hyperfocal_distance_all_is_sharp_enough():
    near, far = Camera(focal_px=500, exposure_s=0.01, distance_m=5, focal_mm=4, f_number=2).depth(2)
    assert math.isinf(far)
    assert near < 5


def test_sides_are_converted():
    small = Camera(focal_px=400, exposure_s=0.02)
    large = Camera(focal_px=400 * 1080 / 384, image_side=1080, exposure_s=0.02)
    assert large.focal() == pytest.approx(small.focal()) == 400
    assert large.speed(3) == pytest.approx(small.speed(3))
    assert large.focal(192) == pytest.approx(200)
    assert Camera(focal_px=400, exposure_s=0.02).focal(192) == 400


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"exposure_s": 0}, ValueError, "`exposure_s`.*seconds, such as 1 / 60"),
        ({"exposure_s": 100}, ValueError, "`exposure_s`.*at most 60"),
        ({"focal_px": -1}, ValueError, "`focal_px`"),
        ({"focal_px": math.nan}, ValueError, "`focal_px`"),
        ({"focal_px": "50 mm"}, TypeError, "`focal_px`"),
        ({"distance_m": 0.05}, ValueError, "`distance_m` must be beyond the focal length, 0.05 m"),
        ({"image_side": 0}, ValueError, "`image_side`"),
        ({"f_number": None}, ValueError, "`focal_mm` and `f_number` must come together.*`f_number`"),
        ({"focal_mm": None}, ValueError, "`focal_mm` and `f_number` must come together.*`focal_mm`"),
    ],
)
def test_impossible_cameras(changed, error, words):
    with pytest.raises(error, match=words):
        Camera(**LENS | changed)


def test_depth_needs_a_lens():
    with pytest.raises(ValueError, match="`focal_mm` and `f_number` must be given"):
        blurlib.Camera(focal_px=500, exposure_s=0.01).depth(2)


def test_text():
    assert str(Camera(**LENS)) == "1/100 s, 2 m"
    assert str(Camera(focal_px=500, exposure_s=1 / 60)) == "1/60 s, 2 m"
    assert str(Camera(focal_px=500, exposure_s=0.7)) == "0.7 s, 2 m"
