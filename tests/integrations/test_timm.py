"""insert_blur in timm's transforms: the place, with and without the prefetcher, and the values."""

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms import CenterCrop, Compose

import blurlib
from blurlib.integrations import insert_blur

timm = pytest.importorskip("timm")
data = pytest.importorskip("timm.data")


def photo(side=80):
    values = np.random.default_rng(0).integers(0, 256, (side, side + 16, 3), dtype=np.uint8)
    return PIL.Image.fromarray(values)


def names(transform):
    return [type(step).__name__ for step in transform.transforms]


AS_BYTES = ("MaybePILToTensor", "PILToTensor", "ToNumpy")
TRAINING = {"input_size": (3, 48, 48), "is_training": True, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}


@pytest.mark.parametrize(
    "options",
    [
        {"use_prefetcher": True},
        {"use_prefetcher": False},
        {"use_prefetcher": False, "re_prob": 1.0},
        {"normalize": False},
        {"auto_augment": "rand-m9-mstd0.5-inc1", "use_prefetcher": True},
        {"color_jitter": None, "hflip": 0.0, "gaussian_blur_prob": 0.5},
        {"no_aug": True},
        {"is_training": False},
        {"is_training": False, "use_prefetcher": True},
    ],
    ids=str,
)
def test_blur_is_the_last_step_before_the_tensor(options):
    plain = data.create_transform(**(TRAINING | options))
    blurred = insert_blur(plain, "D4")
    place = names(blurred).index("_MixBlur")
    assert [name for name in names(blurred) if name != "_MixBlur"] == names(plain)
    seen = Compose(blurred.transforms[:place])(photo())
    assert isinstance(seen, PIL.Image.Image) and seen.size == (48, 48)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  timm draws from it
    result = torch.as_tensor(blurred(photo()))  # with the prefetcher an array in 1.0.3
    assert tuple(result.shape) == (3, 48, 48)
    assert result.dtype == (torch.uint8 if names(plain)[-1] in AS_BYTES else torch.float32)


@pytest.mark.parametrize("prefetcher", [True, False])
def test_values_are_those_by_hand(prefetcher):
    options = TRAINING | {"is_training": False, "use_prefetcher": prefetcher}
    plain = data.create_transform(**options)
    steps = plain.transforms
    cropped = Compose(steps[:2])(photo())
    softened = blurlib.functional.apply(cropped, "D4")
    expected = Compose(steps[2:])(softened)
    assert np.array_equal(np.asarray(insert_blur(plain, "D4")(photo())), np.asarray(expected))
    assert len(plain.transforms) == len(steps)  # not changed


def test_three_parts():
    parts = data.create_transform(**TRAINING, separate=True)
    primary, secondary, final = insert_blur(parts, "D4")
    assert primary is parts[0] and final is parts[2]
    assert names(secondary) == [*names(parts[1]), "_MixBlur"]
    assert final(secondary(primary(photo()))).shape == (3, 48, 48)


def test_normalisation_is_that_of_the_model():
    model = timm.create_model("resnet10t", num_classes=3)
    config = data.resolve_model_data_config(model)
    transform = insert_blur(data.create_transform(**config), "D4")
    grey = PIL.Image.new("RGB", (200, 200), (120, 120, 120))
    expected = (torch.full((3,), 120 / 255) - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    result = transform(grey)
    assert result.shape == config["input_size"]
    torch.testing.assert_close(result, expected[:, None, None].expand_as(result))


class Photos(torch.utils.data.Dataset):
    """What timm's loader wants of a dataset: an attribute `transform`."""

    def __init__(self, transform=None):
        self.transform = transform

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.transform(photo()), index % 2


@pytest.mark.parametrize("prefetcher", [True, False])
def test_in_the_loader_of_timm(prefetcher):
    dataset = Photos()
    options = {"input_size": (3, 48, 48), "batch_size": 4, "is_training": False, "num_workers": 0}
    loader = data.create_loader(
        dataset, use_prefetcher=prefetcher, device=torch.device("cpu"), persistent_workers=False, **options
    )
    sharp = next(iter(loader))[0]
    dataset.transform = insert_blur(dataset.transform, "D4")
    soft = next(iter(loader))[0]
    assert soft.shape == sharp.shape == (4, 3, 48, 48) and soft.dtype == torch.float32
    assert soft.std() < 0.5 * sharp.std()


def test_draws_by_torchs_generator_one_blur_an_image():
    transform = insert_blur(data.create_transform((3, 32, 32)), {"sharp": 0.3, blurlib.DiskBlur((1, 6)): 0.7})
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append([transform(photo()) for _ in range(8)])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    assert len({each.numpy().tobytes() for each in results[0]}) > 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: insert_blur(lambda image: image, "D4"),
            "`transform` must be what timm.data.create_transform returns",
        ),
        (
            lambda: insert_blur(Compose([CenterCrop(8)]), "D4"),
            "`transform` must have a step that makes a tensor",
        ),
        (lambda: insert_blur((Compose([]), Compose([])), "D4"), "`transform` must be what timm.data"),
        (lambda: insert_blur(data.create_transform(32), "Q4"), "`blur` must be one of the forms"),
        (lambda: insert_blur(data.create_transform(32), "D4", border="mirror"), "`border` must be one of"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
