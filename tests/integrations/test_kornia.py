"""KorniaBlur in kornia: its conventions, its containers, and its own convolution as the reference."""

import copy
import pickle

import pytest
import torch

import blurlib
from blurlib.blurs import Disk
from blurlib.integrations import KorniaBlur

K = pytest.importorskip("kornia.augmentation")
filter2d = pytest.importorskip("kornia.filters").filter2d

MIX = {"sharp": 0.2, blurlib.DiskBlur((1, 6)): 0.5, "L9@30": 0.3}


def images(count=4, **kind):
    return torch.rand(count, 3, 32, 36, **kind)


def by_kornia(image, blur, border="reflect"):
    """kornia correlates, so a kernel is turned."""
    kernel = blur.kernel().flip(0, 1)[None].to(image.dtype)
    return filter2d(image[None], kernel, border_type=border)[0]


def drawn(augmentation):
    return [augmentation.mix.draw(index) for index in augmentation._params["index"].tolist()]


@pytest.mark.parametrize("border", ["reflect", "replicate", "circular"])
def test_each_image_has_a_blur_of_its_own_as_kornia_computes_it(border):
    augmentation = KorniaBlur(MIX, border=border, p=1.0)
    batch = images(8, dtype=torch.float64)
    result = augmentation(batch)
    blurs = drawn(augmentation)
    assert len(set(map(str, blurs))) > 3
    radii = {blur.radius for blur in blurs if isinstance(blur, Disk)}
    assert len(radii) > 1  # sizes of kernels that differ within a batch
    for image, blurred, blur in zip(batch, result, blurs, strict=True):
        torch.testing.assert_close(blurred, by_kornia(image, blur, border), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "mix", ["D4", "0.5 sharp + 0.5 D4", Disk(4), blurlib.GaussianBlur((1, 3)), {"D2": 1.0}]
)
def test_takes_what_a_mix_takes(mix):
    assert KorniaBlur(mix, p=1.0)(images()).shape == (4, 3, 32, 36)


def test_replay():
    augmentation, batch = KorniaBlur(MIX, p=0.6), images()
    first = augmentation(batch)
    parameters = copy.deepcopy(augmentation._params)
    augmentation(batch)
    assert torch.equal(augmentation(batch, params=parameters), first)
    assert torch.equal(pickle.loads(pickle.dumps(augmentation))(batch, params=parameters), first)
    assert torch.equal(KorniaBlur(MIX, p=0.6)(batch, params=parameters), first)


def test_seed_and_epochs():
    augmentation, batch = KorniaBlur(MIX, p=0.6), images()
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append([augmentation(batch) for _ in range(2)])
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    assert not torch.equal(*results[0])


def test_probability_is_for_each_image():
    augmentation, batch = KorniaBlur("D4", p=0.5), images(64)
    same = [torch.equal(image, blurred) for image, blurred in zip(batch, augmentation(batch), strict=True)]
    assert 16 < sum(same) < 48
    assert same == (augmentation._params["batch_prob"] < 0.5).tolist()
    assert torch.equal(KorniaBlur("D4", p=0.0)(batch), batch)


def test_same_on_batch():
    augmentation = KorniaBlur(MIX, p=1.0, same_on_batch=True)
    for _ in range(5):
        result = augmentation(images(1).expand(4, -1, -1, -1))
        assert all(torch.equal(result[0], each) for each in result)
        assert len(set(augmentation._params["index"].tolist())) == 1


def test_sequential_with_masks_boxes_and_points():
    batch, mask = images(), (torch.rand(4, 1, 32, 36) > 0.5).float()
    boxes = torch.tensor([[[2.0, 3.0, 20.0, 30.0]]]).repeat(4, 1, 1)
    points = 30 * torch.rand(4, 5, 2)
    keys = ["input", "mask", "bbox_xyxy", "keypoints"]
    sequential = K.AugmentationSequential(KorniaBlur(MIX, p=1.0), data_keys=keys)
    result = sequential(batch, mask, boxes, points)
    assert not torch.equal(result[0], batch)
    for before, after in zip((mask, boxes, points), result[1:], strict=True):
        assert torch.equal(before, after)
    with_flip = K.AugmentationSequential(K.RandomHorizontalFlip(), KorniaBlur(MIX), data_keys=keys)
    first = with_flip(batch, mask, boxes, points)
    again = with_flip(batch, mask, boxes, points, params=with_flip._params)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert K.ImageSequential(KorniaBlur(MIX), K.RandomVerticalFlip())(batch).shape == batch.shape


@pytest.mark.parametrize("same", [True, False])
def test_video(same):
    clip = torch.rand(1, 3, 1, 32, 32).expand(2, -1, 6, -1, -1)
    video = K.VideoSequential(
        KorniaBlur(blurlib.DiskBlur((1, 6)), p=1.0), data_format="BCTHW", same_on_frame=same
    )
    result = video(clip)
    equal = [torch.equal(result[:, :, 0], result[:, :, frame]) for frame in range(1, 6)]
    assert all(equal) if same else not any(equal)
    assert not torch.equal(result[0], result[1])


def test_shapes_kinds_and_gradient():
    augmentation = KorniaBlur("D2 + L5@20", p=1.0)
    assert augmentation(images(1)).shape == (1, 3, 32, 36)
    assert augmentation(images(0)).shape == (0, 3, 32, 36)
    assert augmentation(images()[0]).shape == (1, 3, 32, 36)
    assert KorniaBlur("D2", p=1.0, keepdim=True)(images()[0]).shape == (3, 32, 36)
    assert augmentation(torch.rand(2, 7, 9, 5)).shape == (2, 7, 9, 5)
    for dtype in (torch.float16, torch.float64):
        assert augmentation(images().to(dtype)).dtype == dtype
    batch = torch.rand(2, 1, 9, 8, dtype=torch.float64, requires_grad=True)
    augmentation(batch)
    parameters = augmentation._params
    assert torch.autograd.gradcheck(lambda x: augmentation(x, params=parameters), batch)
    assert torch.equal(augmentation.transform_matrix, torch.eye(3, dtype=torch.float64).expand(2, 3, 3))


def test_compiler():
    augmentation, batch = KorniaBlur("D2", p=1.0), images()
    assert torch.allclose(torch.compile(augmentation, backend="eager")(batch), augmentation(batch))


@pytest.mark.cuda
def test_on_cuda_images_stay_there():
    augmentation, batch = KorniaBlur(MIX, p=1.0), images()
    result = augmentation.to("cuda")(batch.cuda())
    assert result.device.type == "cuda"
    expected = augmentation(batch, params=augmentation._params)
    torch.testing.assert_close(result.cpu(), expected, atol=1e-5, rtol=0)


def test_range_of_floats_does_not_matter():
    """A blur is linear: 0..255 is as right as 0..1, and nothing is clamped."""
    augmentation, batch = KorniaBlur("D4", p=1.0), images(dtype=torch.float64)
    torch.testing.assert_close(
        augmentation(255 * batch - 100), 255 * augmentation(batch) - 100, atol=1e-9, rtol=0
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: KorniaBlur("D4", p=1.0)(torch.rand(2, 32, 36, 3)),
            r"`input` must be \(B, C, H, W\), got shape \(2, 32",
        ),
        (lambda: KorniaBlur("D4", p=1.0)(torch.zeros(2, 3, 32, 36, dtype=torch.uint8)), "uint8"),
        (lambda: KorniaBlur("Q4"), "`blur` must be one of the forms"),
        (lambda: KorniaBlur("0.5 sharp + 0.4 D4"), "`mix` must have shares that sum to 1"),
        (lambda: KorniaBlur(4), "`mix` must be a text"),
        (lambda: KorniaBlur("D4", border="mirror"), "`border` must be one of"),
        (lambda: KorniaBlur(blurlib.DiskBlur(4, border="zeros")), "`border` of a mix holds for all"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
