"""Arrays as OpenCV has them need no adapter: `blurlib.blur` beside `cv2.filter2D`."""

import numpy as np
import pytest

import blurlib

cv2 = pytest.importorskip("cv2")
BORDERS = {
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
    "replicate": cv2.BORDER_REPLICATE,
}


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("name", ["D4", "L12@30", "G2", "S17"])
@pytest.mark.parametrize("shape", [(40, 48), (40, 48, 3), (40, 48, 4), (40, 48, 7)], ids=str)
def test_as_opencv(name, border, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    kernel = blurlib.notation.parse(name).kernel()
    found = blurlib.blur(image, kernel, border=border)
    bands = image.reshape(40, 48, -1).astype(np.float64)
    exact = np.stack(
        [
            cv2.filter2D(bands[..., c], -1, kernel.flip(0, 1).numpy(), borderType=BORDERS[border])
            for c in range(bands.shape[2])
        ],
        axis=-1,
    )
    assert found.shape == image.shape and found.dtype == np.uint8
    assert np.abs(found.reshape(bands.shape) - exact).max() <= 0.5 + 1e-3


def test_order_of_the_channels_does_not_matter():
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    kernel = blurlib.kernels.disk(4)
    assert np.array_equal(blurlib.blur(image[..., ::-1], kernel), blurlib.blur(image, kernel)[..., ::-1])


def test_float_of_any_range():
    image = np.random.default_rng(0).random((40, 48, 3))
    kernel = blurlib.kernels.disk(4)
    assert np.abs(blurlib.blur(255 * image, kernel) - 255 * blurlib.blur(image, kernel)).max() < 1e-9


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 40, 48), np.uint8), r"got shape \(3, 40, 48\), which looks like \(C, H, W\)"),
        (np.zeros((1, 40, 48, 3), np.uint8), "give one image at a time"),
        (np.zeros((40, 48), np.int32), "`image` must be uint8, float16, float32 or float64"),
    ],
)
def test_errors_say_what_is_wrong(image, message):
    with pytest.raises((TypeError, ValueError), match=message):
        blurlib.blur(image, blurlib.kernels.disk(4))
