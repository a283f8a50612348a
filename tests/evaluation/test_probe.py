"""Networks as people have them, in evaluate() and finetune(): one probe before the work."""

import collections
import copy
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import VisionTransformer

from blurlib.evaluation import evaluate
from blurlib.training import finetune

random = np.random.default_rng(0)
PICTURES = [Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)) for _ in range(4)]
PHOTOS = [(picture, number % 2) for number, picture in enumerate(PICTURES)]
SCENES = [(picture, Image.fromarray(random.integers(0, 2, (60, 80), dtype=np.uint8))) for picture in PICTURES]
USUAL = {"canonical_side": 48, "device": "cpu", "workers": 0, "progress": False}
TRAINED = {"epochs": 1, "lr": 0.01, "batch_size": 2, "blur": "sharp + D2"}


def classified(model, data=PHOTOS, **options):
    return evaluate(model, data, blurs="sharp, D2", **USUAL | {"scales": (40,), "crop": 32} | options)


def trained(model, data=PHOTOS, **options):
    return finetune(model, data, **USUAL | TRAINED | {"network_side": 40, "crop": 32} | options)


def labelled(model, data=SCENES, **options):
    return evaluate(model, data, task="segmentation", blurs="sharp, D2", **USUAL | options)


def trained_on_masks(model, data=SCENES, **options):
    return finetune(model, data, task="segmentation", **USUAL | TRAINED | {"crop": 32} | options)


RUNS = [classified, trained, labelled, trained_on_masks]
each_run = pytest.mark.parametrize("run", RUNS)
each_classifier_run = pytest.mark.parametrize("run", [classified, trained])


def network(run, channels=3):
    """A classifier or a labeller of pixels, as the run wants it, with batch norm."""
    torch.manual_seed(1)
    first = [nn.Conv2d(channels, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU()]
    if run in (classified, trained):
        return nn.Sequential(*first, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 2))
    return nn.Sequential(*first, nn.Conv2d(5, 2, 1))


def found(run, model, **options):
    """What a run measured, or the weights that it trained, as arrays."""
    result = run(model, **options)
    if run in (trained, trained_on_masks):
        return [value.double().numpy() for value in result.model.state_dict().values()]
    return [value for record in result.records for value in record.images.columns().T]


def alike(one, other, **tolerance):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, **tolerance)


class Applied(nn.Module):
    """A network, and what is made of its output."""

    def __init__(self, inside, change):
        super().__init__()
        self.inside, self.change = inside, change

    def forward(self, images):
        return self.change(self.inside(images), self.training)


# --- Sizes


def transformer(side=32):
    torch.manual_seed(2)
    return VisionTransformer(side, 8, 1, 2, 16, 16, num_classes=2)


@each_classifier_run
@pytest.mark.parametrize("crop", [31, 32, 33])
def test_crops_that_a_transformer_cannot_take(run, crop):
    if crop == 32:
        assert run(transformer(), crop=crop)
        return
    sides = "`scales`" if run is classified else "`network_side`"
    with pytest.raises(
        ValueError,
        match=rf"`model` must take images of \(2, 3, {crop}, {crop}\), float32 on cpu, got the error "
        rf"'Wrong image height! Expected 32 but got {crop}!'; it takes 32 x 32: choose {sides} and `crop`",
    ):
        run(transformer(), crop=crop)


@each_classifier_run
def test_the_size_in_the_configuration_of_timm_is_told(run):
    timm = pytest.importorskip("timm")
    model = timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=12, img_size=96, num_classes=2)
    with pytest.raises(ValueError, match=r"doesn't match model \(96\).*it takes 96 x 96: choose"):
        run(model)


class Counting(torch.utils.data.Dataset):
    """Photographs that count how often they are read."""

    def __init__(self, items):
        self.items, self.reads, self.targets = items, 0, [0, 1, 0, 1]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        self.reads += 1
        return self.items[number]


@each_classifier_run
def test_nothing_is_read_before_the_probe(run):
    photos = Counting(PHOTOS)
    run(network(run), photos)
    usual = photos.reads
    photos.reads = 0
    with pytest.raises(ValueError, match="it takes 32 x 32"):
        run(transformer(), photos, crop=24)
    assert photos.reads <= usual - len(PHOTOS)


@pytest.mark.parametrize("crop", [24, 25])
def test_the_probe_is_in_the_mode_of_the_run(crop):
    """As Inception, whose auxiliary outputs want larger images than the rest does."""

    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside, self.large = network(trained), nn.Conv2d(3, 1, 25)

        def forward(self, images):
            return (self.inside(images), self.large(images)) if self.training else self.inside(images)

    classified(Auxiliary(), crop=crop)
    if crop == 25:
        trained(Auxiliary(), crop=crop)
        return
    photos = Counting(PHOTOS)
    with pytest.raises(ValueError, match=r"Kernel size.*it takes 32 x 32: choose `network_side`"):
        trained(Auxiliary(), photos, crop=crop)
    assert photos.reads == 0


def odd_sizes_fail():
    """A U-net of two levels, without padding: its sides must be even."""
    torch.manual_seed(3)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 2, 2, 2)
            self.side = nn.Conv2d(3, 2, 1)

        def forward(self, images):
            return self.up(self.down(images)) + self.side(images)

    return UNet()


@pytest.mark.parametrize(("run", "name"), [(labelled, "`scales`"), (trained_on_masks, "`network_side`")])
@pytest.mark.parametrize(("height", "fits"), [(30, True), (31, False), (33, False), (64, True)])
def test_sizes_of_segmentation(run, name, height, fits):
    if fits:
        assert run(odd_sizes_fail(), network_size=(height, 40))
        return
    side = 32 if height == 31 else 64
    with pytest.raises(
        ValueError, match=rf"\(2, 3, {height}, 40\).*takes {side} x 64: choose {name}.*`network_size`"
    ):
        run(odd_sizes_fail(), network_size=(height, 40))


def test_whole_images_of_a_size_that_no_probe_knew():
    """60 x 80 at a geometric mean of 48 px is 42 x 55; the square probe of 48 px passes."""
    with pytest.raises(
        ValueError, match=r"\(\d, 3, 42, 55\).*it takes 64 x 64: choose `scales` or `network_size`"
    ):
        labelled(odd_sizes_fail())


@each_classifier_run
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda *_: {}["absent"], "\"KeyError: 'absent'\""),
        (lambda *_: (_ for _ in ()).throw(RuntimeError), "'RuntimeError'"),
        (lambda *_: (_ for _ in ()).throw(OSError(5, "first\nsecond")), r"'OSError: \[Errno 5\] first'"),
        (lambda: None, "takes 0 positional arguments but 2 were given"),
    ],
    ids=["key", "empty", "lines", "arguments"],
)
def test_any_exception_of_the_network_is_one_line(run, change, said):
    with pytest.raises(
        ValueError, match=rf"`model` must take images of .* got the error .*{said}.*; choose"
    ) as error:
        run(Applied(network(run), change))
    assert "\n" not in str(error.value)


def test_what_stops_a_run_stays_itself():
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classified(Applied(network(classified), stop))

    def memory(*_):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        trained(Applied(network(trained), memory))


@each_run
def test_an_error_that_does_not_come_again_stays_itself(run):
    calls = []

    def once(scores, _):
        calls.append(1)
        if len(calls) == 2 + (run in (trained, trained_on_masks)):  # after the probe
            raise RuntimeError("of the device")
        return scores

    with pytest.raises(RuntimeError, match=r"^of the device$"):
        run(Applied(network(run), once))


@each_run
def test_the_probe_leaves_no_trace(run):
    """In the network that is given, in the statistics of the trained one, in random numbers."""
    model = network(run).append(nn.Dropout(0.5)).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    result = run(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    if run in (trained, trained_on_masks):
        assert result.model[1].num_batches_tracked == 2


# --- Channels and types


@each_run
def test_a_network_of_one_channel_is_shown_grey(run):
    """As one of three channels whose weights are those of luminance."""
    colours = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    grey, colour = network(run, 1), network(run, 3)
    luminance = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    colour.load_state_dict({**grey.state_dict(), "0.weight": grey[0].weight.detach() * luminance})
    options = colours | ({"trainable": ["1.*", "[35].*"]} if run in (trained, trained_on_masks) else {})
    mine, theirs = found(run, grey, **options), found(run, colour, **options)
    if options.keys() & {"trainable"}:
        mine, theirs = mine[1:], theirs[1:]
    alike(mine, theirs, rtol=2e-4, atol=1e-5)


def test_one_value_of_mean_and_deviation_counts_for_all_colours():
    one = classified(network(classified, 1), mean=(0.5,), std=[0.2])
    assert one.settings["mean"] == [0.5] * 3 and one.settings["std"] == [0.2] * 3
    three = classified(network(classified, 1), mean=(0.5,) * 3, std=(0.2,) * 3)
    assert one.records == three.records


@each_run
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_networks_of_other_channels_are_refused(run, channels):
    with pytest.raises(
        ValueError, match=rf"takes images of {channels} channels, .*Conv2d\(3, {channels}, 1\), model\)"
    ) as error:
        run(network(run, channels))
    assert len(str(error.value)) < 480


def test_a_grey_network_is_told_its_own_size():
    model = transformer()
    model.conv_proj = nn.Conv2d(1, 16, 8, 8)
    assert classified(model, crop=32)
    with pytest.raises(ValueError, match=r"\(2, 1, 24, 24\).*Expected 32 but got 24.*it takes 32 x 32"):
        classified(model, crop=24)


@each_run
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_precision(run, dtype):
    options = {"batch_norm": "eval"} if run in (trained, trained_on_masks) else {}
    model = network(run).to(dtype)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        mine = found(run, model, **options)
    told = [str(each.message) for each in seen if "small steps of training are lost" in str(each.message)]
    assert len(told) == (bool(options) and dtype != torch.float64)
    theirs = found(run, network(run), **options)
    if run in (classified, labelled):  # some scores are so alike that rounding decides
        mine, theirs = ([array.mean() for array in arrays] for arrays in (mine, theirs))
    alike(mine, theirs, atol=1e-5 if dtype == torch.float64 else 0.3, rtol=0.3)


def test_weights_of_several_types_are_named():
    model = network(classified).half()
    model[5].float()
    with pytest.raises(ValueError, match=r"several types, float16 and float32: pass model\.float"):
        classified(model)


# --- Networks without weights, programs


@each_run
def test_networks_without_weights(run):
    with torch.device("meta"):
        model = network(run)
    with pytest.raises(ValueError, match=r"`model` must have weights, got '0.weight' on the device \"meta\""):
        run(model)
    with pytest.raises(ValueError, match=r"`model` must have run once, got '0.weight' without a shape"):
        run(nn.Sequential(nn.LazyConv2d(2, 1), nn.LazyBatchNorm2d()))
    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module, got str"):
        run("resnet18")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@each_run
@pytest.mark.parametrize("kind", ["script", "trace", "freeze"])
def test_programs_of_torchscript(run, kind):
    model = network(run)
    model = model.train() if kind == "script" else model.eval()
    program = (
        torch.jit.trace(model, torch.zeros(2, 3, 32, 32)) if kind == "trace" else torch.jit.script(model)
    )
    program = torch.jit.freeze(program) if kind == "freeze" else program
    if kind == "freeze" and run in (trained, trained_on_masks):
        with pytest.raises(
            ValueError, match=r"`model` must have parameters to train, .* before it was frozen"
        ):
            run(program)
        return
    # What was traced in evaluation mode stays there.
    options = {"batch_norm": "eval"} if kind == "trace" and run in (trained, trained_on_masks) else {}
    before = copy.deepcopy(program.state_dict())
    alike(found(run, program, **options), found(run, model, **options), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in program.state_dict().items())


@pytest.fixture(scope="module")
def exported():
    """A classifier as exported for any batch, and for batches of one and four images."""
    model = network(classified).eval()

    def program(count, batch):
        shapes = ({0: batch},) if batch else None
        return torch.export.export(model, (torch.zeros(count, 3, 32, 32),), dynamic_shapes=shapes).module()

    return {"any": program(2, torch.export.Dim.AUTO), "1": program(1, None), "4": program(4, None)}


def test_exported_programs(exported):
    alike(found(classified, exported["any"]), found(classified, network(classified)), rtol=1e-5, atol=1e-6)
    alike(found(classified, exported["1"], batch_size=1), found(classified, network(classified)), atol=1e-5)
    with pytest.raises(ValueError, match="it takes one image at a time: pass batch_size=1"):
        classified(exported["1"])
    with pytest.raises(ValueError, match="it takes only batches of 4 images: export it"):
        classified(exported["4"])
    with pytest.raises(
        ValueError, match=r"`model` must have a training mode, got a program of torch\.export"
    ):
        trained(exported["any"])


def test_what_cannot_be_copied_is_refused():
    model = network(trained)
    model.seen = model(torch.zeros(2, 3, 32, 32))
    with pytest.raises(ValueError, match=r"copies, for a copy is trained, got the error 'Only Tensors"):
        trained(model)


# --- Outputs

Outputs = collections.namedtuple("Outputs", ["logits", "aux_logits"])


@each_run
@pytest.mark.parametrize(
    "change",
    [
        lambda scores, _: (scores, scores * 2),
        lambda scores, _: [scores],
        lambda scores, _: {"logits": scores},
        lambda scores, _: {"features": None, "out": scores},
        lambda scores, training: Outputs(scores, scores + 1) if training else scores,
        lambda scores, _: types.SimpleNamespace(logits=scores, loss=None),
    ],
    ids=["tuple", "list", "logits", "out", "named", "attribute"],
)
def test_scores_are_found_in_what_networks_return(run, change):
    model = Applied(network(run), change)
    alike(found(run, model), found(run, network(run)), rtol=1e-6)


@each_run
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda scores, _: {"scores": scores}, "got dict with 'scores'"),
        (lambda *_: [], "got list"),
        (lambda *_: None, "got NoneType"),
        (lambda scores, _: scores[..., None], r"got (shape )?\(2, 2, .*1\)"),
        (lambda scores, _: scores[:1], r"got (shape )?\(1, 2"),
        (lambda scores, _: scores[0], r"got (shape )?\(2,"),
    ],
    ids=["names", "empty", "nothing", "rank", "batch", "image"],
)
def test_other_outputs_are_refused(run, change, told):
    with pytest.raises((TypeError, ValueError), match=rf"`model` must return .*{told}") as error:
        run(Applied(network(run), change))
    assert "\n" not in str(error.value)


def test_the_number_of_outputs_is_known_before_an_image_is_read(tmp_path):
    for number in range(len(PHOTOS)):
        for split in ("train", "val"):
            folder = tmp_path / split / f"class{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match="got 2 scores for the 3 classes"):
        classified(network(classified), tmp_path)
    with pytest.raises(ValueError, match="got 2 outputs for 3 classes"):
        trained(network(trained), tmp_path)


# --- Other packages


@each_run
def test_networks_of_hugging_face(run):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if run in (classified, trained):
        settings = transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=32,
            patch_size=8, num_labels=2,
        )  # fmt: skip
        model = transformers.ViTForImageClassification(settings)
        with pytest.raises(ValueError, match=r"Input image size \(24\*24\).*it takes 32 x 32"):
            run(model, crop=24)
    else:
        settings = transformers.SegformerConfig(
            hidden_sizes=[4] * 4,
            depths=[1] * 4,
            num_attention_heads=[1] * 4,
            decoder_hidden_size=4,
            num_labels=2,
        )
        model = transformers.SegformerForSemanticSegmentation(settings)
    plain = Applied(model, lambda result, _: result.logits)
    alike(found(run, model), found(run, plain))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of one package about the other
def test_low_rank_adapters_are_trained_alone():
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    settings = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=32,
        patch_size=8, num_labels=2,
    )  # fmt: skip
    inside = transformers.ViTForImageClassification(settings)
    model = peft.get_peft_model(inside, peft.LoraConfig(r=1, target_modules=["q_proj", "v_proj"]))
    before = copy.deepcopy(model.state_dict())
    result = trained(model)
    assert type(result.model) is type(model)
    changed = {
        name for name, value in result.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed and all("lora" in name for name in changed)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
