"""Features and predictions against plain transcriptions and SciPy."""

import numpy as np
import pytest
import torch
import torchvision.models as tv
from PIL import Image
from scipy.spatial import distance
from torch import nn

from blurlib.blurs import Disk, Sharp
from blurlib.evaluation import Invariance, disparity, invariance, predictions
from blurlib.protocol import IMAGENET_MEAN, IMAGENET_STD, Protocol, evaluation_views, normalised

# Feature invariance


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 16, 4),
    )


def test_distances_are_those_of_scipy_at_every_location():
    model = small().eval()
    sharp, blurred = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    found = disparity(model, sharp, blurred, layers=["2", "4", "6"])
    with torch.inference_mode():
        for name, count in (("2", 3), ("4", 5), ("6", 7)):
            # Without the ReLU that would write over what batch norm returns.
            one, two = (model[:count](images.clone()) for images in (sharp, blurred))
            one, two = one.clone(), two.clone()
            for b in range(2):
                for y in range(one.shape[2]):
                    for x in range(one.shape[3]):
                        a, c = one[b, :, y, x].numpy(), two[b, :, y, x].numpy()
                        assert found[name].hamming[b, y, x] == pytest.approx(distance.hamming(a > 0, c > 0))
                        if a.any() and c.any():
                            assert found[name].cosine[b, y, x] == pytest.approx(
                                distance.cosine(a, c), abs=1e-5
                            )


def test_equal_images_are_equal_features_and_silence_is_like_silence():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    model[0].weight.data[:] = 0
    model[0].bias.data[:] = torch.tensor([-1.0, -1.0, -1.0, -1.0])
    images = torch.rand(1, 3, 5, 5)
    found = disparity(model, images, images, layers=["1"])["1"]
    assert found.hamming.abs().max() == 0
    assert found.cosine.abs().max() == 0


def test_the_five_poolings_of_a_vgg_are_the_default():
    torch.manual_seed(0)
    model = tv.vgg11(num_classes=2, init_weights=False).features
    model.train()
    found = disparity(model, torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96))
    assert [maps.hamming.shape[1:] for maps in found.values()] == [(32 >> k, 48 >> k) for k in range(5)]
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_tokens_and_vectors():
    model = nn.Sequential(nn.Flatten(2), nn.Linear(16, 5), nn.Flatten(), nn.Linear(15, 3))
    found = disparity(model, torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), layers=["1", "3"])
    assert found["1"].hamming.shape == (2, 3, 1)
    assert found["3"].cosine.shape == (2, 1, 1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["pool5"], r"nearest are '.+'"),
        ("2", "list of names"),
        ([], "list of names"),
        (["9.unused"], "did not"),
    ],
)
def test_layers_that_cannot_be(layers, message):
    model = small()
    model.add_module("9", nn.Module())
    model[9].unused = nn.ReLU()
    model[9].forward = lambda x: x
    with pytest.raises(ValueError, match=message):
        disparity(model, torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16), layers=layers)


def test_a_network_without_poolings_must_name_its_layers():
    with pytest.raises(ValueError, match="which has no pooling layers"):
        disparity(nn.Sequential(nn.Conv2d(3, 3, 1)), torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4))


def test_what_returns_no_tensor_is_named():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return self.pair(x)[0]

    with pytest.raises(TypeError, match="'pair' gave tuple"):
        disparity(Whole(), torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4), layers=["pair"])


def photos(count, size=(70, 52)):
    rng = np.random.default_rng(0)
    return [
        (Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)), i % 2)
        for i in range(count)
    ]


def test_averages_over_images_are_those_of_single_images():
    model, images = nn.Sequential(*list(small())[:7]), photos(3)
    found = invariance(model, images, blur="D4", side=32, canonical_side=48, progress=False, device="cpu")
    assert found.layers == ("2", "6")
    for number, (image, _) in enumerate(images):
        views = evaluation_views(
            image, [Sharp(), Disk(4)], protocol=Protocol(network_side=32, canonical_side=48), crops="dense"
        )
        one, two = (normalised(views[k, 32], IMAGENET_MEAN, IMAGENET_STD) for k in (0, 1))
        maps = disparity(model, one, two)
        for layer in (0, 1):
            name = found.layers[layer]
            assert found.hamming[number, layer] == pytest.approx(float(maps[name].hamming.mean()))
            assert found.cosine[number, layer] == pytest.approx(float(maps[name].cosine.mean()))
    assert found.hamming.min() > 0
    rows = found.to_dict()["layers"]
    assert rows[0]["hamming_interval"][0] <= rows[0]["hamming"] <= rows[0]["hamming_interval"][1]


def measured(ids, hamming):
    values = np.array(hamming)[:, None]
    return Invariance(blur="D8", side=32, layers=("a",), ids=np.array(ids), hamming=values, cosine=values)


def test_before_and_after_must_be_of_the_same_images():
    one, two = measured(["1", "2"], [0.4, 0.2]), measured(["1", "2"], [0.1, 0.1])
    assert "-0.200 [-0.300, -0.100]" in two.table(one)
    with pytest.raises(ValueError, match="same images"):
        two.table(measured(["1", "3"], [0.4, 0.2]))


# Predictions


def test_distributions_are_the_networks_own():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Dropout(0.9), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model.train()
    (image, _), *_ = photos(1)
    names = list("abcde")
    found = predictions(
        model, image, blurs=["sharp", "D4"], names=names, top=3, side=32, crop=28, canonical_side=48
    )
    assert model.training
    model.eval()
    sizes = Protocol(network_side=32, crop=28, canonical_side=48)
    views = evaluation_views(image, [Sharp(), Disk(4)], protocol=sizes)
    for number, distribution in enumerate(found):
        with torch.inference_mode():
            p = model(normalised(views[number, 32], IMAGENET_MEAN, IMAGENET_STD)).softmax(1)[0].double()
        best = p.topk(3)
        assert [name for name, _ in distribution.classes] == [names[k] for k in best.indices]
        np.testing.assert_allclose([share for _, share in distribution.classes], best.values, rtol=1e-5)
        assert distribution.entropy == pytest.approx(float(-(p * p.log()).sum()), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_of_one_channel_are_shown_grey(dtype):
    """Their numbers are those of a network whose first layer weighs the colours by the luminance."""
    colour, grey = small().to(dtype), small().to(dtype)
    grey[0] = nn.Conv2d(1, 6, 3, padding=1).to(dtype)
    luminance = torch.tensor([0.299, 0.587, 0.114], dtype=dtype).view(3, 1, 1)
    with torch.no_grad():
        colour[0].weight.copy_(grey[0].weight * luminance)
        colour[0].bias.copy_(grey[0].bias)
    usual = {"side": 20, "crop": 16, "canonical_side": 24}
    both = [predictions(model, photos(1)[0][0], blurs=["sharp", "D2"], **usual) for model in (grey, colour)]
    for mine, theirs in zip(*both, strict=True):
        assert mine.entropy == pytest.approx(theirs.entropy, rel=1e-5)
    changes = [
        invariance(model, photos(2), blur="D2", crops="center", device="cpu", progress=False, **usual)
        for model in (grey, colour)
    ]
    np.testing.assert_allclose(changes[0].cosine, changes[1].cosine, rtol=1e-4)


def test_a_network_that_does_not_take_the_image_says_so():
    with pytest.raises(ValueError, match=r"take images of \(1, 3, 9, 9\).*choose `side` and `crop`"):
        predictions(small(), photos(1)[0][0], side=9, crop=9, canonical_side=24)
    with pytest.raises(ValueError, match=r"take images of \(2, 3, 9, 9\).*`side`, `crops` and `crop`"):
        invariance(small(), photos(1), side=12, crops="center", crop=9, canonical_side=24, progress=False)
    for function in (predictions, invariance):
        with pytest.raises(TypeError, match="`model` must be a"):
            function("resnet18", photos(1)[0][0])


def test_each_output_has_a_name():
    with pytest.raises(ValueError, match="each of the network's 3 outputs, got 2"):
        predictions(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), photos(1)[0][0], names=["a", "b"])
