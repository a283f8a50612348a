"""AlbumentationsBlur in albumentations 2.0.8, and in AlbumentationsX in an environment of its own."""

import io
import json
import pickle
import sys

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import blurlib
from blurlib.blurs import Disk, PointSpread
from blurlib.functional import Constant
from blurlib.integrations import AlbumentationsBlur

A = pytest.importorskip("albumentations")
NEWER = hasattr(A.ImageOnlyTransform, "sample_parameters")  # AlbumentationsX
MIX = {"sharp": 0.2, blurlib.DiskBlur((1, 6)): 0.5, "L9@30": 0.3}


def photo(shape=(40, 48, 3), dtype=np.uint8):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return values if dtype == np.uint8 else (values / 255).astype(dtype)


def pipeline(mix=MIX, seed=0, **options):
    return A.Compose([AlbumentationsBlur(mix, **({"p": 1.0} | options))], seed=seed)


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4, 5, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_number_of_channels(channels, dtype):
    image = photo((40, 48) if channels is None else (40, 48, channels), dtype)
    result = pipeline("L9@30")(image=image)["image"]
    assert result.shape == image.shape and result.dtype == dtype
    # OpenCV correlates, so the kernel is turned.
    kernel = blurlib.notation.parse("L9@30").kernel().flip(0, 1).numpy()
    bands = image.reshape(40, 48, -1)
    expected = np.stack(
        [cv2.filter2D(bands[..., c].astype(np.float64), -1, kernel) for c in range(bands.shape[2])], axis=-1
    ).reshape(image.shape)
    assert np.abs(result - expected).max() <= (0.5 + 1e-3 if dtype == np.uint8 else 1e-6)


@pytest.mark.parametrize(
    "mix", ["D4", "0.5 sharp + 0.5 D4", Disk(4), blurlib.GaussianBlur((1, 3)), {"D2": 1.0}]
)
def test_takes_what_a_mix_takes(mix):
    assert pipeline(mix)(image=photo())["image"].shape == (40, 48, 3)


def test_draws_by_the_generator_of_the_pipeline():
    image = photo()
    first, second = pipeline(seed=3), pipeline(seed=3)
    results = [first(image=image)["image"] for _ in range(6)]
    assert len({each.tobytes() for each in results}) > 3
    for each in results:
        assert np.array_equal(second(image=image)["image"], each)
    assert not np.array_equal(pipeline(seed=4)(image=image)["image"], results[0])
    torch.manual_seed(9)
    np.random.seed(9)  # noqa: NPY002  the global generators do not matter
    assert np.array_equal(pipeline(seed=3)(image=image)["image"], results[0])


def test_other_targets_pass_and_a_batch_has_one_blur():
    image, mask = photo(), photo((40, 48)) // 128
    composed = A.Compose(
        [AlbumentationsBlur("D4", p=1.0), A.HorizontalFlip(p=0.0)],  # 2.0.8 warns where none takes boxes
        bbox_params=A.BboxParams("pascal_voc", label_fields=["labels"]),
        keypoint_params=A.KeypointParams("xy"),
    )
    result = composed(image=image, mask=mask, bboxes=[[2, 3, 20, 30]], labels=[1], keypoints=[(4, 5)])
    assert np.array_equal(result["mask"], mask)
    np.testing.assert_allclose(result["bboxes"], [[2, 3, 20, 30]], rtol=1e-6)  # they are scaled to and fro
    np.testing.assert_allclose(result["keypoints"], [(4, 5)], rtol=1e-6)
    assert np.array_equal(result["image"], blurlib.blur(image, blurlib.kernels.disk(4)))
    clips = pipeline(blurlib.DiskBlur((1, 6)))(images=np.stack([image] * 3))["images"]
    assert clips.shape == (3, 40, 48, 3)
    assert np.array_equal(clips[0], clips[1]) and np.array_equal(clips[0], clips[2])
    single = pipeline("D4")(images=image[None])["images"]
    assert np.array_equal(single[0], result["image"])
    volume = pipeline("D4")(volume=np.stack([image] * 2))["volume"]
    assert np.array_equal(volume[1], result["image"])


LENS = PointSpread(np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 8, name="lens")


@pytest.mark.parametrize(
    "mix",
    [
        "0.3 sharp + 0.7 shake",
        Disk(2.5, antialias=True),
        MIX,
        blurlib.CameraShakeBlur(),
        blurlib.MotionBlur(),
    ],
)
@pytest.mark.parametrize("border", ["zeros", Constant((1.0, 2.0, 3.0))])
def test_stored_pipeline_draws_the_same(mix, border):
    stored = A.to_dict(A.Compose([AlbumentationsBlur(mix, border=border, p=0.7), A.HorizontalFlip(p=0.5)]))
    restored = A.from_dict(json.loads(json.dumps(stored)))
    assert A.to_dict(restored) == json.loads(json.dumps(stored)) or A.to_dict(restored) == stored
    original = A.from_dict(stored)
    for each in (restored, original):
        each.set_random_seed(5)
    for _ in range(4):
        assert np.array_equal(restored(image=photo())["image"], original(image=photo())["image"])
    name = stored["transform"]["transforms"][0]["__class_fullname__"]
    assert name == "blurlib.integrations.AlbumentationsBlur"


def test_save_load_and_pickle(tmp_path):
    composed = pipeline()
    file = io.StringIO()
    A.save(composed, file)
    file.seek(0)
    loaded = A.load(file)
    again = pickle.loads(pickle.dumps(composed))
    loaded.set_random_seed(2), again.set_random_seed(2), composed.set_random_seed(2)
    results = [each(image=photo())["image"] for each in (composed, loaded, again)]
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


@pytest.mark.parametrize("mix", [MIX, LENS, {"sharp": 0.5, LENS: 0.5}])
def test_replay(mix):
    image, other = photo(), photo()[::-1].copy()
    for seed in range(6):
        composed = A.ReplayCompose([AlbumentationsBlur(mix, p=0.7), A.HorizontalFlip(p=0.5)])
        composed.set_random_seed(seed)
        result = composed(image=image)
        replay = result["replay"]
        if mix is MIX:  # a measured kernel is no JSON
            replay = json.loads(json.dumps(replay))
        assert np.array_equal(A.ReplayCompose.replay(replay, image=image)["image"], result["image"])
        assert A.ReplayCompose.replay(replay, image=other)["image"].shape == other.shape


def test_containers_force_it():
    composed = A.Compose([A.OneOf([AlbumentationsBlur("D4", p=0.3), AlbumentationsBlur("D4", p=0.6)], p=1.0)])
    assert np.array_equal(composed(image=photo())["image"], blurlib.blur(photo(), blurlib.kernels.disk(4)))


class Items(Dataset):
    """One image again and again: what differs is what was drawn."""

    def __init__(self, seed, p):
        self.pipeline = pipeline(blurlib.DiskBlur((1, 8)), seed, p=p)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = np.zeros((17, 17, 1), np.float32)
        image[8, 8] = 1
        return float(self.pipeline(image=image)["image"][8, 8, 0])


def epochs(seed, torch_seed, persistent=False, p=1.0):
    torch.manual_seed(torch_seed)
    start = "fork" if sys.platform == "linux" else None
    loader = DataLoader(
        Items(seed, p),
        batch_size=2,
        num_workers=2,
        persistent_workers=persistent,
        multiprocessing_context=start,
    )
    return [torch.cat(list(loader)).tolist() for _ in range(2)]


@pytest.mark.parametrize("seed", [None, 42])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_and_epochs_draw_differently_and_again_the_same(seed, persistent):
    """albumentations #2473 and #2559, AlbumentationsX #266."""
    first, second = epochs(seed, 1, persistent)
    assert len(set(first + second)) == 16
    assert epochs(seed, 1, persistent) == [first, second]
    assert epochs(seed, 2, persistent)[0] != first


def test_workers_decide_differently_whether_to_blur():
    found = epochs(42, 1, p=0.5)
    assert (
        len({tuple(value == 1.0 for value in each) for each in (found[0][:2], found[0][2:4], found[1][:2])})
        > 1
    )


def test_range_of_floats_does_not_matter():
    """A blur is linear: 0..255 is as right as 0..1, and nothing is clamped."""
    image = photo(dtype=np.float32)
    one, other = pipeline("D4")(image=image)["image"], pipeline("D4")(image=255 * image)["image"]
    assert np.abs(255 * one - other).max() < 1e-3


@pytest.mark.skipif(not NEWER, reason="albumentations 2.0.8 takes no tensors")
def test_tensors_of_albumentationsx():
    image = torch.from_numpy(photo().transpose(2, 0, 1).copy())
    result = pipeline("D4")(image=image)["image"]
    assert torch.equal(torch.as_tensor(result), blurlib.blur(image, blurlib.kernels.disk(4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: pipeline()(image=photo().transpose(2, 0, 1)),
            r"got shape \(3, 40, 48\), which looks like \(C, H, W\)",
        ),
        (
            lambda: pipeline()(image=photo()[None]),
            r"got shape \(1, 40, 48, 3\); pass several images, .* as `images`",
        ),
        (
            lambda: pipeline()(image=photo().astype(np.int32)),
            "`image` must be uint8, float16, float32 or float64",
        ),
        (lambda: AlbumentationsBlur("Q4"), "`blur` must be one of the forms"),
        (lambda: AlbumentationsBlur("0.5 sharp + 0.4 D4"), "`mix` must have shares that sum to 1"),
        (lambda: AlbumentationsBlur(4), "`mix` must be a text"),
        (lambda: AlbumentationsBlur(["D2", "D4"]), "`mix` as a list must be one that `to_dict` has made"),
        (
            lambda: AlbumentationsBlur([{"share": 1.0, "transform": "Blur"}]),
            "`mix` must name a transform of blurlib",
        ),
        (lambda: AlbumentationsBlur("D4", border="mirror"), "`border` must be one of"),
        (lambda: AlbumentationsBlur("D4", p=2), "less than or equal to 1"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
