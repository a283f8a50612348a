"""Dense networks against the networks they come from."""

import copy
import time

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as tv
from torch import nn
from torchvision.models.vgg import make_layers
from torchvision.transforms.v2 import CenterCrop, FiveCrop

from blurlib.models import Dense, MultiScale, PerScale, dense
from images import exhaustive

CLASSES = 7


def head(features, window, classes=CLASSES):
    return nn.Sequential(
        nn.Linear(features * window * window, 12),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(12, 10),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(10, classes),
    )


def small_vgg(*, batch_norm=False, pointwise=False):
    """torchvision's VGG class with few channels; its own head of 120 million weights is never drawn."""
    with torch.device("meta"):
        model = tv.VGG(
            make_layers([4, "M", 6, "M", 8, 8, "M", 8, "M", 8, "M"], batch_norm), init_weights=False
        )
    model.features = make_layers([4, "M", 6, "M", 8, 8, "M", 8, "M", 8, "M"], batch_norm)
    model.classifier = head(8, 7)
    if pointwise:
        keep_centre(model)
    return loud(model).eval()


def small_alexnet(*, pointwise=False):
    model = tv.AlexNet(num_classes=CLASSES)
    model.features[10] = nn.Conv2d(256, 8, 3, padding=1)
    model.classifier = nn.Sequential(nn.Dropout(), *head(8, 6))
    if pointwise:
        keep_centre(model)
    return loud(model).eval()


def keep_centre(model):
    """Each convolution sees one pixel only: borders play no part, a crop is a window of the whole."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            centre = layer.kernel_size[0] // 2
            mask = torch.zeros_like(layer.weight)
            mask[..., centre, centre] = 1
            layer.weight.data *= mask


def loud(model):
    """Weights large enough that the scores of small random networks differ between images."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            seen = max(1, int((layer.weight[0] != 0).sum()))
            layer.weight.data *= (2 / seen) ** 0.5 / layer.weight.data[layer.weight.data != 0].std()
    return model


def log_p(model, images):
    with torch.inference_mode():
        return model(images).log_softmax(dim=1)


NETWORKS = {
    "vgg": small_vgg,
    "vgg_bn": lambda **k: small_vgg(batch_norm=True, **k),
    "alexnet": small_alexnet,
}


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_at_the_training_size_dense_is_the_original(build):
    model, images = build(), torch.randn(3, 3, 224, 224)
    expected = log_p(model, images)
    assert expected.std(dim=0).max() > 1e-2  # different images, different scores: the test can fail
    with torch.inference_mode():
        assert torch.allclose(dense(model)(images), expected, atol=1e-5)


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_every_position_is_the_crop_network_on_that_window(build):
    """Pointwise convolutions: the window is a crop of the pixels, one stride of 32 px from the next."""
    model, images = build(pointwise=True), torch.randn(2, 3, 224 + 64, 224 + 96)
    with torch.inference_mode():
        positions = dense(model).positions(images)
    assert positions.shape == (2, CLASSES, 3, 4)
    for row in range(3):
        for column in range(4):
            crop = images[:, :, 32 * row : 32 * row + 224, 32 * column : 32 * column + 224]
            assert torch.allclose(positions[:, :, row, column], log_p(model, crop), atol=1e-5)


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_every_position_is_the_head_on_that_window_of_features(build):
    """Ordinary convolutions, whose borders a crop of the pixels would change."""
    model, images = build(), torch.randn(2, 3, 300, 260)
    network = dense(model)
    with torch.inference_mode():
        features, positions = model.features(images), network.positions(images)
        window = network.window
        assert positions.shape[-2:] == (features.shape[-2] - window + 1, features.shape[-1] - window + 1)
        for row in range(positions.shape[-2]):
            for column in range(positions.shape[-1]):
                part = features[..., row : row + window, column : column + window].flatten(1)
                expected = model.classifier(part).log_softmax(dim=1)
                assert torch.allclose(positions[..., row, column], expected, atol=1e-5)
        assert torch.allclose(network(images), positions.mean(dim=(2, 3)), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (128, 170), (32, 300), (128, 224)])
def test_below_the_receptive_field_the_last_pooling_is_padded_with_zeros(height, width):
    model, images = small_vgg(), torch.randn(1, 3, height, width)
    with torch.inference_mode():
        features = model.features(images)
        rows, columns = max(7, features.shape[2]), max(7, features.shape[3])
        padded = torch.zeros(1, 8, rows, columns)
        top, left = (rows - features.shape[2]) // 2, (columns - features.shape[3]) // 2
        padded[..., top : top + features.shape[2], left : left + features.shape[3]] = features
        expected = [
            model.classifier(padded[..., :7, c : c + 7].flatten(1)).log_softmax(1) for c in range(columns - 6)
        ]
        network = dense(model)
        assert torch.allclose(network.positions(images), torch.stack(expected, -1)[..., None, :], atol=1e-5)


def test_original_is_neither_modified_nor_shared():
    model = small_vgg(batch_norm=True).train()
    model.features[1].eval()
    before = copy.deepcopy(model.state_dict())
    network = dense(model)
    assert [m.training for m in network.features] == [m.training for m in model.features]
    assert network.training and network.head.training and network.head[2].training
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    network.eval()
    assert model.training and not model.features[1].training and model.features[0].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_dropout_is_inactive_in_evaluation_and_active_in_training():
    network, images = dense(small_vgg()), torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(network(images), network(images))
        network.train()
        assert not torch.equal(network(images), network(images))


def test_dense_twice_frozen_layers_dtype_and_new_heads():
    model = small_vgg()
    model.classifier[0].requires_grad_(False)
    model.classifier[6] = nn.Sequential(nn.Dropout(0.1), nn.Linear(10, 3, bias=False), nn.LogSoftmax(dim=1))
    network = dense(dense(model.double().eval()))
    assert not network.head[0].weight.requires_grad and network.head[3].weight.requires_grad
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    assert torch.allclose(network(images), log_p(model, images), atol=1e-12)


@pytest.mark.exhaustive
def test_vgg11_as_torchvision_builds_it():
    model = tv.vgg11(num_classes=10, init_weights=False).eval()
    images = torch.randn(1, 3, 224, 224)
    expected = log_p(model, images)
    network = dense(model)
    assert network.head[0].weight.shape == (4096, 512, 7, 7)
    with torch.inference_mode():
        assert torch.allclose(network(images), expected, atol=1e-5)


class OwnForward(tv.VGG):
    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def changed_vgg(**layers):
    model = small_vgg()
    for name, layer in layers.items():
        setattr(model, name, layer)
    return model


def on_meta(build):
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: on_meta(tv.resnet18), r"ResNet.*layer `avgpool` \(AdaptiveAvgPool2d\) pools all positions"),
        (lambda: on_meta(tv.vit_b_32), r"self_attention` \(MultiheadAttention\) mixes all positions"),
        (lambda: on_meta(tv.mobilenet_v2), r"layer `classifier\.1` \(Linear\) takes an input of fixed size"),
        (lambda: nn.Conv2d(3, 4, 1), r"Conv2d.*has its own `forward`"),
        (
            lambda: on_meta(lambda: OwnForward(nn.Conv2d(3, 512, 1), init_weights=False)),
            r"OwnForward.*`avgpool`",
        ),
        (lambda: changed_vgg(avgpool=nn.AdaptiveAvgPool2d(1)), r"`avgpool` \(AdaptiveAvgPool2d\) pools all"),
        (lambda: changed_vgg(avgpool=nn.Identity()), r"`avgpool` \(Identity\) does not give a square map"),
        (
            lambda: changed_vgg(classifier=nn.Linear(393, 3)),
            r"`classifier` \(Linear\) does not take maps of 7x7",
        ),
        (
            lambda: changed_vgg(classifier=nn.Sequential(nn.Linear(392, 3), nn.LayerNorm(3))),
            r"`classifier\.1` \(LayerNorm\) is neither",
        ),
        (lambda: changed_vgg(classifier=nn.Identity()), r"`classifier` \(Identity\) has no dense layer"),
    ],
)
def test_what_cannot_be_made_dense_is_named(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        dense(build())
    assert 'crops="five"' in str(caught.value)


def test_not_a_module():
    with pytest.raises(TypeError, match=r"`model` must be a torch\.nn\.Module, got function"):
        dense(lambda x: x)


def test_dense_saves_and_loads(tmp_path):
    network, images = dense(small_vgg()), torch.randn(1, 3, 240, 224)
    torch.save(network.state_dict(), tmp_path / "dense.pt")
    other = dense(small_vgg())
    other.load_state_dict(torch.load(tmp_path / "dense.pt", weights_only=True))
    assert isinstance(other, Dense)
    with torch.inference_mode():
        assert torch.equal(other(images), network(images))


# Several scales


def by_hand(networks, images, crops, crop, average):
    """Positions of every scale one by one, and their means."""
    sums, counts = [], []
    for side, network in networks.items():
        height, width = images.shape[-2:]
        factor = side / min(height, width)
        size = [max(1, int(n * factor + 0.5)) for n in (height, width)]
        seen = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        if crops == "dense":
            found = [network.positions(seen).flatten(2)]
        else:
            cut = {"five": FiveCrop, "center": CenterCrop}[crops](min(crop, *size))(seen)
            cut = cut if isinstance(cut, tuple) else (cut,)
            found = [network(part).log_softmax(1)[..., None] for part in cut]
        together = torch.cat(found, dim=2)
        sums.append(together.sum(2))
        counts.append(together.shape[2])
    if average == "crops":
        return sum(sums) / sum(counts)
    return sum(total / count for total, count in zip(sums, counts, strict=True)) / len(sums)


@pytest.mark.parametrize("average", ["crops", "scales"])
def test_one_network_at_several_scales(average):
    model = small_vgg()
    images = torch.rand(2, 3, 150, 190)
    network = MultiScale(model, (128, 256, 300), average=average).eval()
    every = dict.fromkeys((128, 256, 300), dense(model))
    expected = by_hand(every, images, "dense", 224, average)
    torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)


def test_averages_over_crops_weigh_the_larger_scale_more():
    model, images = small_vgg(), torch.rand(1, 3, 300, 300)
    crops = MultiScale(model, (224, 352)).eval()(images)
    scales = MultiScale(model, (224, 352), average="scales").eval()(images)
    assert (crops - scales).abs().max() > 1e-3  # 1 position at 224, 25 at 352


@pytest.mark.parametrize("crops", ["dense", "five", "center"])
def test_a_network_for_each_scale(crops):
    networks = {side: small_vgg() for side in (96, 240)}
    for side, network in networks.items():
        network.classifier[-1].bias.data[side % CLASSES] += 3  # so that they differ
    images = torch.rand(2, 3, 120, 100)
    applied = {side: dense(network) for side, network in networks.items()} if crops == "dense" else networks
    expected = by_hand(applied, images, crops, 90, "crops")
    found = PerScale(networks, crops=crops, crop=90).eval()(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_scales_save_and_load(tmp_path):
    images = torch.rand(1, 3, 64, 80)
    for first, second in (
        (MultiScale(small_vgg(), (64, 96)), MultiScale(small_vgg(), (64, 96))),
        (PerScale({64: small_vgg(), 96: small_vgg()}), PerScale({64: small_vgg(), 96: small_vgg()})),
    ):
        torch.save(first.state_dict(), tmp_path / "weights.pt")
        second.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
        torch.testing.assert_close(second.eval()(images), first.eval()(images), rtol=0, atol=0)
        assert "sides=(64, 96)" in repr(first)


EXPORTED = {
    "dense": lambda: dense(small_vgg()),
    "several scales": lambda: MultiScale(small_vgg(), (64, 96)),
    "a network each": lambda: PerScale({64: small_vgg(), 96: small_alexnet()}, crops="center", crop=64),
    "a network each, five crops": lambda: PerScale(
        {64: small_vgg(), 96: small_alexnet()}, crops="five", crop=64
    ),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_they_export(name):
    network, images = EXPORTED[name]().eval(), torch.rand(2, 3, 96, 128)
    exported = torch.export.export(network, (images,)).module()
    torch.testing.assert_close(exported(images), network(images), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of the exporter's own
@pytest.mark.parametrize(
    "name", ["dense", "several scales", *map(exhaustive, ("a network each", "a network each, five crops"))]
)
def test_they_run_in_onnxruntime(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    network, images = EXPORTED[name]().eval(), torch.rand(2, 3, 96, 128)
    path = tmp_path / "network.onnx"
    torch.onnx.export(network, (images,), str(path), dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), network(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MultiScale(tv.resnet18(num_classes=2)), ValueError, "avgpool"),
        (lambda: MultiScale("vgg16"), TypeError, "torch.nn.Module"),
        (lambda: MultiScale(small_vgg(), ()), ValueError, "sides"),
        (lambda: MultiScale(small_vgg(), (64, 64)), ValueError, "different sides"),
        (lambda: MultiScale(small_vgg(), (64.5,)), TypeError, "sides"),
        (lambda: MultiScale(small_vgg(), crops="six"), ValueError, "crops"),
        (lambda: MultiScale(small_vgg(), average="all"), ValueError, "average"),
        (lambda: PerScale({}), ValueError, "sides"),
    ],
)
def test_settings_that_cannot_be(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.slow
@pytest.mark.parametrize("side", [128, 256, 512])
def test_vgg16_at_full_size(side, capsys):
    """One dense forward of the paper's network with random weights: that it runs, in what time and memory."""
    resource = pytest.importorskip("resource", reason="there is none on this system")
    torch.manual_seed(0)
    network = dense(tv.vgg16(init_weights=False)).eval()
    images = torch.rand(1, 3, side, side * 4 // 3)
    started = time.perf_counter()
    with torch.inference_mode():
        found = network.positions(images)
    seconds = time.perf_counter() - started
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with capsys.disabled():
        print(f"\nVGG-16 at side {side}: {seconds:.1f} s, {kilobytes / 2**20:.1f} GiB in all, {found.shape}")
    rows, columns = max(1, side // 32 - 6), max(1, (side * 4 // 3) // 32 - 6)
    assert found.shape == (1, 1000, rows, columns)
    assert torch.isfinite(found).all()
