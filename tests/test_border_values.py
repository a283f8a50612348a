"""A border of a value, `Constant`: values of every dtype, derivatives, layouts, modes, messages."""

from __future__ import annotations

import math

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

import blurlib
import oracles
from blurlib import BlurMixSampler, DiskBlur, GaussianBlur, MotionBlur, deblurring, kernels
from blurlib.functional import Constant, apply
from images import LAYOUTS, each_dtype, examples, in_layout, is_flat, odd_kernels, pixels

BLACK = tuple((0 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225)))
SIZES = st.integers(1, 20)


def around(image: np.ndarray, kernel_shape, values) -> np.ndarray:
    """The image with its border of values, by a loop over nothing but slices."""
    h, w = (side // 2 for side in kernel_shape[-2:])
    *lead, channels, rows, columns = image.shape
    found = np.empty((*lead, channels, rows + 2 * h, columns + 2 * w), image.dtype)
    for channel in range(channels):
        found[..., channel, :, :] = values[channel] if isinstance(values, tuple) else values
    found[..., h : h + rows, w : w + columns] = image
    return found


def inside(array, kernel_shape, rows, columns):
    h, w = (side // 2 for side in kernel_shape[-2:])
    return array[..., h : h + rows, w : w + columns]


def check_values(found: torch.Tensor, image: torch.Tensor, kernel: torch.Tensor, values) -> None:
    rows, columns = image.shape[-2:]
    if image.dtype == torch.uint8:
        bordered = around(image.numpy(), kernel.shape, values)
        if is_flat(kernel):
            expected = oracles.blur_flat(bordered, kernel.numpy(), "zeros")
            np.testing.assert_array_equal(found.numpy(), inside(expected, kernel.shape, rows, columns))
            return
    rounded = tuple(torch.tensor(values).to(image.dtype).double().reshape(-1).tolist())
    rounded = rounded if len(rounded) > 1 else rounded[0]
    bordered = around(image.double().numpy(), kernel.shape, rounded)
    expected = oracles.blur(bordered, kernel.numpy(), "zeros")
    expected = inside(expected, kernel.shape, rows, columns)
    if image.dtype == torch.uint8:
        expected = expected.clip(0, 255)
        sure = np.abs(expected % 1 - 0.5) > 1e-3
        np.testing.assert_array_equal(found.numpy()[sure], np.floor(expected + 0.5)[sure])
        return
    bits = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}
    # Of what a kernel with negative weights can make of the image; of any other that is its largest value.
    largest = np.abs(bordered).max(initial=0) * float(kernel.abs().sum())
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=bits[image.dtype] * largest)


@each_dtype
@given(
    leading=st.sampled_from([(1,), (3,), (2, 3), (2, 2, 3), (0, 3), (2, 0)]),
    height=SIZES,
    width=SIZES,
    kernel=odd_kernels(9),
    layout=st.sampled_from(LAYOUTS),
    several=st.booleans(),
    backend=st.sampled_from([None, "torch"]),
)
def test_a_border_of_values_is_the_reference(dtype, leading, height, width, kernel, layout, several, backend):
    """Images smaller than the kernel, empty ones, any layout; one value, or one for each channel."""
    image = in_layout(pixels((*leading, height, width), dtype), layout)
    count = leading[-1]
    levels = (7, 255, 0) if dtype == torch.uint8 else (-1.5, 3.25, 0.0)
    values = levels[:count] if several and count else levels[1]
    before = image.clone()
    found = blurlib.blur(image, kernel, border=Constant(values), backend=backend)
    assert torch.equal(image, before)
    assert (found.shape, found.dtype, type(found)) == (image.shape, image.dtype, torch.Tensor)
    check_values(found, image, kernel, values if not isinstance(values, tuple) or count > 1 else values[0])


@examples(0.3)
@given(height=st.integers(1, 9), width=st.integers(1, 9), channels=st.sampled_from([None, 1, 3, 4]))
def test_arrays_are_blurred_as_tensors_are(height, width, channels):
    rng = np.random.default_rng(height)
    for dtype in (np.uint8, np.float32, np.float64):
        array = rng.integers(0, 256, (height, width, *([channels] if channels else []))).astype(dtype)
        count = channels or 1
        border = Constant(tuple(range(3, 3 + count)))
        found = blurlib.blur(array, kernels.disk(2), border=border)
        planes = torch.from_numpy(np.moveaxis(array.reshape(height, width, count), -1, 0).copy())
        same = blurlib.blur(planes, kernels.disk(2), border=border)
        assert (found.shape, found.dtype, found.flags.c_contiguous) == (array.shape, array.dtype, True)
        np.testing.assert_allclose(
            np.moveaxis(found.reshape(height, width, count), -1, 0), same.numpy(), rtol=1e-6, atol=1e-4
        )


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("kernel", [kernels.disk(4), kernels.bank_kernel(3), kernels.gaussian(2)])
def test_one_level_stays_to_the_bit(value, kernel):
    image = torch.full((3, 11, 30), value, dtype=torch.uint8)
    assert torch.equal(blurlib.blur(image, kernel, border=Constant(value)), image)


def test_zero_is_the_border_zeros_and_large_kernels_go_by_fft():
    image = pixels((2, 20, 23), torch.float64)
    noise = np.random.default_rng(0).random((41, 37))
    for kernel in (kernels.disk(3), kernels.bank_kernel(1), torch.from_numpy(noise / noise.sum())):
        zeros = blurlib.blur(image, kernel, border="zeros")
        np.testing.assert_allclose(blurlib.blur(image, kernel, border=Constant(0)), zeros, atol=1e-12)
        check_values(blurlib.blur(image, kernel, border=Constant(2.5)), image, kernel, 2.5)


def test_black_outside_of_a_normalised_image_is_black_before():
    """The reason for it: normalising and blurring commute only with the border's own value."""
    image = pixels((3, 20, 24), torch.float64).abs()
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64)[
        ..., None, None
    ]
    kernel = kernels.disk(5)
    wanted = (blurlib.blur(image, kernel, border="zeros") - mean) / std
    found = blurlib.blur((image - mean) / std, kernel, border=Constant(BLACK))
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    grey = blurlib.blur((image - mean) / std, kernel, border="zeros")
    assert float((grey - wanted).abs().max()) > 0.5


def test_each_image_has_its_kernel_and_each_call_its_layout():
    image = pixels((3, 3, 9, 8), torch.float64)
    each = torch.stack([kernels.bank_kernel(number) for number in range(3)])
    found = blurlib.blur(image, each, border=Constant(BLACK))
    for number in range(3):
        alone = blurlib.blur(image[number], each[number], border=Constant(BLACK))
        assert torch.allclose(found[number], alone, atol=1e-14)
    last = image.contiguous(memory_format=torch.channels_last)
    for layout in (last, image):
        same = blurlib.blur(layout, each, border=Constant(BLACK))
        assert same.stride() == layout.stride()
        assert torch.allclose(same, found, atol=1e-14)


# Derivatives, compilers, other devices


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_gradients():
    image = pixels((2, 3, 6, 5), torch.float64).requires_grad_()
    kernel = kernels.bank_kernel(0)[6:11, 5:12]
    kernel = kernel / kernel.sum()

    def blurred(x):
        return blurlib.blur(x, kernel, border=Constant((1.0, -2.0, 0.5)))

    assert torch.autograd.gradcheck(blurred, image, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(blurred, image)
    plain = image.detach()
    each = torch.vmap(blurred)(plain)
    assert torch.allclose(each, blurred(plain), atol=1e-14)
    grads = torch.func.grad(lambda x: blurred(x).square().sum())(plain)
    image.grad = None
    blurred(image).square().sum().backward()
    assert torch.allclose(grads, image.grad, atol=1e-12)


def test_it_compiles_in_one_graph():
    torch._dynamo.reset()
    kernel = kernels.disk(2)
    for border in (Constant(0.25), Constant(BLACK)):
        function = torch.compile(
            lambda x, border=border: blurlib.blur(x, kernel, border=border),
            fullgraph=True,
            backend="aot_eager",
        )
        image = pixels((3, 9, 8), torch.float32)
        assert torch.allclose(function(image), blurlib.blur(image, kernel, border=border), atol=1e-6)
    transform = DiskBlur((1, 4), border=Constant(BLACK))
    compiled = torch.compile(transform, fullgraph=True, backend="aot_eager")
    torch.manual_seed(3)
    found = compiled(image)
    torch.manual_seed(3)
    assert torch.allclose(found, transform(image), atol=1e-5)
    torch._dynamo.reset()


def test_shapes_are_known_without_memory():
    image = torch.empty((2, 3, 9, 8), device="meta")
    found = blurlib.blur(image, kernels.disk(2).to("meta"), border=Constant(BLACK))
    assert (found.shape, found.device.type) == (image.shape, "meta")


@pytest.mark.cuda
@each_dtype
def test_cuda_is_as_the_processor(dtype):
    values = (7, 255, 0) if dtype == torch.uint8 else BLACK
    for kernel in (kernels.disk(3), kernels.bank_kernel(2)):
        image = pixels((2, 3, 30, 41), dtype)
        found = blurlib.blur(image.cuda(), kernel.cuda(), border=Constant(values))
        assert found.device.type == "cuda"
        check_values(found.cpu(), image, kernel, values)


# Where `border` goes


def test_every_door_takes_it():
    image, border = pixels((3, 12, 10), torch.float32), Constant(BLACK)
    for found, kernel in (
        (blurlib.functional.disk_blur(image, 2.5, border=border), kernels.disk(2.5, antialias=True)),
        (blurlib.functional.motion_blur(image, 5, border=border), kernels.line(5)),
        (blurlib.functional.gaussian_blur(image, 1, border=border), kernels.gaussian(1)),
        (blurlib.functional.camera_shake_blur(image, 4, border=border), kernels.bank_kernel(4, "train")),
        (DiskBlur(2, border=border)(image), kernels.disk(2, antialias=True)),
        (MotionBlur(5, 0, border=border)(image), kernels.line(5)),
        (GaussianBlur(1, border=border)(tv_tensors.Image(image)), kernels.gaussian(1)),
        (BlurMixSampler("D3", border=border)(image[None])[0], kernels.disk(3)),
    ):
        assert torch.allclose(found, blurlib.blur(image, kernel, border=border), atol=1e-6)
    assert repr(DiskBlur(2, border=Constant(0.5))).endswith("border=Constant(value=0.5))")
    assert "border=Constant(value=(1.0, 2.0))" in repr(BlurMixSampler("D3", border=Constant([1, 2])))
    assert Constant(np.array([1, 2])) == Constant(torch.tensor([1.0, 2.0])) == Constant((1, 2))
    assert hash(Constant(1)) == hash(Constant(np.float32(1)))


@pytest.mark.parametrize(("mode", "bands"), [("L", 1), ("RGB", 3), ("CMYK", 4), ("F", 1)])
def test_pillow_images_have_a_value_for_each_band(mode, bands):
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 256, (9, 12), dtype=np.uint8) for _ in range(bands)]
    images = [PIL.Image.fromarray(plane) for plane in planes]
    image = images[0].convert(mode) if bands == 1 else PIL.Image.merge(mode, images)
    values = tuple(range(40, 40 + bands))
    found = apply(image, "D2", border=Constant(values))
    for band, plane in zip(found.split(), planes, strict=True):
        value = values[found.split().index(band)]
        wanted = blurlib.blur(plane.astype(np.float64), kernels.disk(2), border=Constant(value))
        assert np.abs(np.asarray(band, float) - wanted).max() <= (1e-3 if mode == "F" else 0.5 + 1e-9)


@pytest.mark.parametrize(
    "values", [(200, 100, 50, 255), (200, 100, 50, 128), (9, 9, 9, 0), (255, 255, 255, 255)]
)
def test_values_of_transparent_images_count_by_their_alpha(values):
    rng = np.random.default_rng(1)
    array = rng.integers(0, 256, (9, 12, 4), dtype=np.uint8)
    found = np.asarray(apply(PIL.Image.fromarray(array), "D3", border=Constant(values)))
    large = np.empty((15, 18, 4), np.uint8)
    large[:] = values
    large[3:12, 3:15] = array
    wanted = np.asarray(apply(PIL.Image.fromarray(large), "D3", border="replicate"))[3:12, 3:15]
    np.testing.assert_array_equal(found, wanted)
    opaque = np.dstack([array[..., :3], np.full((9, 12), 255, np.uint8)])
    found = np.asarray(apply(PIL.Image.fromarray(opaque), "D3", border=Constant((*values[:3], 255))))
    plain = apply(PIL.Image.fromarray(opaque[..., :3].copy()), "D3", border=Constant(values[:3]))
    np.testing.assert_array_equal(found[..., :3], np.asarray(plain))


# Messages

IMAGE, KERNEL = torch.zeros(3, 8, 8), kernels.disk(1)


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (lambda: Constant("grey"), TypeError, "`value` must be a number"),
        (lambda: Constant([]), ValueError, "`value` must be a number, or one for each channel, got none"),
        (lambda: Constant(math.nan), ValueError, "`value` must be a finite number"),
        (lambda: Constant((1, -math.inf)), ValueError, "`value` must be a finite number"),
        (lambda: Constant(True), TypeError, "`value` must be a number"),
        (lambda: blurlib.blur(IMAGE, KERNEL, border=Constant((1, 2))), ValueError,
         "`border` must have one value, or one for each of the 3 channels of `image`, got 2 in Constant"),
        (lambda: blurlib.blur(IMAGE.byte(), KERNEL, border=Constant(0.5)), ValueError,
         "`border` must have whole numbers from 0 to 255 for an image of bytes, got 0.5"),
        (lambda: blurlib.blur(IMAGE.byte().numpy()[0], KERNEL, border=Constant(256)), ValueError, "got 256"),
        (lambda: apply(PIL.Image.new("RGB", (4, 4)), "D1", border=Constant(-1)), ValueError, "got -1"),
        (lambda: DiskBlur(3, border="constant"), TypeError,
         "`border` must say by Constant which value lies outside, got 'constant'; use border="),
        (lambda: BlurMixSampler("D3", border=0.5), TypeError, "functional.Constant(0.5)"),
        (lambda: blurlib.blur(IMAGE, KERNEL, border=(0, 0, 1)), TypeError, "Constant((0, 0, 1))"),
        (lambda: deblurring.wiener(IMAGE, KERNEL, border=Constant(0)), TypeError,
         "`border` must be one of reflect, symmetric, replicate, circular, zeros, got Constant"),
    ],
)  # fmt: skip
def test_wrong_borders_are_named(call, kind, says):
    with pytest.raises(kind) as caught:
        call()
    assert says in str(caught.value)
