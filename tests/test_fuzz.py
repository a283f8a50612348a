"""What strangers may hand in: for ten minutes a door in `make test-all`, for a moment in `make test`.

A door gives a right answer, or an error that the documentation names. A round's seed is in the message of
what fails; `seed=` of :func:`rounds` repeats it. How many rounds there were is printed.
"""

import contextlib
import gc
import io
import itertools
import json
import os
import string
import time
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import blurlib
from blurlib import kernels, notation
from blurlib.data import open_images
from blurlib.models import named_network
from blurlib.paper import ReproducedTable
from blurlib.protocol import Protocol, evaluation_views
from images import LAYOUTS, check, in_layout, normalised, pixels
from oracles import BORDERS

doors = pytest.mark.parametrize(
    "seconds", [pytest.param(0.25, id="moment"), pytest.param(600, marks=pytest.mark.slow, id="ten minutes")]
)
DTYPES = (torch.uint8, torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
DOCUMENTED = (FileNotFoundError, TypeError, ValueError)


_seed = [0]


@pytest.fixture(autouse=True)
def last_seed():
    """Shown beside what fails."""
    yield
    print(f"last round: seed={_seed[0]}")


def rounds(seconds, seed=None):
    """Random generators until the time is over; the same first ones in each quick run."""
    first = int.from_bytes(os.urandom(4), "little") if seconds > 60 else 0
    end = time.monotonic() + seconds
    for number in itertools.count(first) if seed is None else [seed]:
        if time.monotonic() > end:
            print(f"{number - first} rounds in {seconds} s")
            return
        _seed[0] = number
        yield np.random.default_rng(number)


def check_message(error, *names):
    """It names what it is about, and gives no bad advice."""
    assert all(name in str(error) for name in names), error
    assert "allow_pickle" not in str(error), error
    assert "weights_only" not in str(error), error


def spoiled(content, rng):
    """Bytes with some flipped, cut out, doubled or put in."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(changed) + 1))
        length = int(rng.integers(1, 1 + min(64, max(1, len(changed) - at))))
        kind = rng.integers(5)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = rng.bytes(length)
        elif kind == 3:
            changed[at : at + length] = rng.bytes(length)
        else:
            del changed[at:]
    return bytes(changed)


# --- Blurs, against float64


def random_kernel(rng):
    height, width = rng.integers(0, 12, 2) * 2 + 1
    kind = rng.integers(7)
    if kind == 0:
        return kernels.disk(float(rng.uniform(0.5, 9)), antialias=bool(rng.integers(2)))
    if kind == 1:
        return kernels.line(float(rng.uniform(1, 20)), float(rng.uniform(0, 180)))
    if kind == 2:
        return kernels.gaussian(float(rng.uniform(0.3, 4)))
    if kind == 3:
        return kernels.bank_kernel(int(rng.integers(100)))
    if kind == 4:
        weights = (rng.random((height, width)) < rng.random()).astype(float)
    elif kind == 5:
        weights = rng.random((height, 1)) * rng.random((1, width))
    else:
        weights = rng.normal(size=(height, width)) / (height * width)
        weights[height // 2, width // 2] += 1.5
    weights[rng.integers(height), rng.integers(width)] += 1
    return normalised(weights)


@doors
def test_blurs(seconds):
    for rng in rounds(seconds):
        height, width = rng.choice([1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 65, 97], 2)
        shape = (*rng.integers(1, 4, rng.integers(0, 2)), rng.integers(1, 4), height, width)
        image = pixels(tuple(map(int, shape)), DTYPES[rng.integers(len(DTYPES))], int(rng.integers(2**31)))
        image = in_layout(image, LAYOUTS[rng.integers(len(LAYOUTS))])
        check(image, random_kernel(rng), BORDERS[rng.integers(len(BORDERS))])


# --- Texts


PIECES = [
    *("D", "H", "V", "L", "G", "S", "shake", "sharp", "D4", "L12@30", "S17", "@train", "@", "+", ",", " "),
    *("0.2", "1e9", "-1", ".", "1.2.3", "9" * 40, "0" * 300, "a", "nan", "inf", "e", "_", "1_0", "²", "٣"),
    *("\0", "\n", "\x1b[31m", "\ud800", "é", "{}", "%s", "x" * 3000),
]


@doors
def test_texts(seconds):
    for rng in rounds(seconds):
        text = "".join(
            PIECES[rng.integers(len(PIECES))] if rng.random() < 0.8 else rng.choice(list(string.printable))
            for _ in range(rng.integers(0, 9))
        )
        for read, write in (
            (notation.parse, str),
            (notation.parse_list, lambda blurs: ", ".join(map(str, blurs))),
            (notation.parse_mix, None),
        ):
            try:
                found = read(text)
            except ValueError:
                continue
            if write is not None:
                assert read(write(found)) == found


# --- Files that the library wrote


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))


def photographs():
    return [(PIL.Image.new("RGB", (20, 16), (40 * n, 90, 200 - 30 * n)), n % 3) for n in range(6)]


SMALL = {"canonical_side": 16, "crop": 12, "device": "cpu", "progress": False}


@doors
def test_reports(seconds, tmp_path):
    report = blurlib.evaluate(network(), photographs(), blurs="sharp, D2", scales=16, **SMALL)
    report.save(tmp_path / "whole")
    whole = {name: (tmp_path / "whole" / name).read_bytes() for name in ("report.json", "report.npz")}
    folder = tmp_path / "spoiled"
    folder.mkdir()
    for rng in rounds(seconds):
        victim = ("report.json", "report.npz")[rng.integers(2)]
        for name, content in whole.items():
            (folder / name).write_bytes(spoiled(content, rng) if name == victim else content)
        try:
            found = blurlib.Report.load(folder)
            found.to_markdown()
        except DOCUMENTED as error:
            check_message(error, str(folder))
            continue
        if victim == "report.npz":  # whoever reads it must find out
            for first, second in zip(report.records, found.records, strict=True):
                for name in ("correct", "entropy", "cross_entropy"):
                    np.testing.assert_array_equal(getattr(first.images, name), getattr(second.images, name))


@doors
def test_tables(seconds, tmp_path):
    source = Path(__file__).parents[1] / "experiments" / "results" / "paper" / "table4.json"
    if not source.exists():
        pytest.skip("an sdist has no records")
    path = tmp_path / "table4.json"
    ReproducedTable.load(source).to_json(path)
    whole = path.read_bytes()
    for rng in rounds(seconds):
        path.write_bytes(spoiled(whole, rng))
        try:
            ReproducedTable.load(path).to_markdown()
        except DOCUMENTED as error:
            check_message(error, str(path))


@doors
def test_checkpoints(seconds, tmp_path):
    options = dict(blur="sharp + D2", lr=0.1, batch_size=3, network_side=16, output=tmp_path, **SMALL)
    done = blurlib.finetune(network(), photographs(), epochs=1, **options)
    expected = {name: value.clone() for name, value in done.model.state_dict().items()}
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for rng in rounds(seconds):
        for name, content in whole.items():
            (tmp_path / name).write_bytes(spoiled(content, rng) if name == "checkpoint.pt" else content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = blurlib.finetune(network(), photographs(), epochs=1, resume=True, **options)
        except DOCUMENTED as error:
            check_message(error, "checkpoint.pt")
            continue
        for name, value in found.model.state_dict().items():
            assert torch.equal(value, expected[name])


def resnet_file(path):
    import torchvision

    torch.manual_seed(0)
    state = torchvision.models.squeezenet1_1(num_classes=2).state_dict()
    torch.save(state, path)
    return state


@doors
def test_weights(seconds, tmp_path):
    path = tmp_path / "weights.pt"
    expected = resnet_file(path)
    whole = path.read_bytes()
    for rng in rounds(seconds):
        path.write_bytes(spoiled(whole, rng))
        try:
            found = named_network(str(path), arch="squeezenet1_1", classes=2, seed=0, notify=print)
        except DOCUMENTED as error:
            check_message(error, str(path))
            continue
        for name, value in found.state_dict().items():
            assert torch.equal(value, expected[name]), name


# --- Images


MODES = (
    *("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "RGBa"),
    *("La", "I;16", "I;16L", "I;16B"),
)
FORMATS = ("png", "jpeg", "gif", "tiff", "bmp", "webp", "ppm")


def random_image(rng):
    size = tuple(map(int, rng.integers(1, 40, 2)))
    mode = MODES[rng.integers(len(MODES))]
    try:
        image = PIL.Image.frombytes("L", size, rng.bytes(size[0] * size[1]))
        image = image.convert("RGB").convert(mode) if rng.integers(2) else image.convert(mode)
    except ValueError:
        image = PIL.Image.new(mode, size)
    if rng.random() < 0.3 and mode in ("P", "L", "RGB"):
        image.info["transparency"] = (0, 0, 0) if mode == "RGB" else 0
    return image


@doors
def test_images_of_every_mode(seconds):
    transform = blurlib.DiskBlur((1.0, 3.0))
    for rng in rounds(seconds):
        image = random_image(rng)
        for use in (
            lambda image: evaluation_views(
                image, notation.parse_list("sharp, D2"), protocol=Protocol(canonical_side=24, network_side=16)
            ),
            lambda image: blurlib.functional.apply(image, "D2"),
            transform,
        ):
            before = image.tobytes()
            try:
                use(image)
            except (TypeError, ValueError) as error:
                check_message(error, "`")  # ours: the argument
            assert image.tobytes() == before


@doors
def test_files_of_images(seconds, tmp_path):
    place = tmp_path / "val" / "a"
    place.mkdir(parents=True)
    blurs = notation.parse_list("sharp, D2")
    for rng in rounds(seconds):
        kind = FORMATS[rng.integers(len(FORMATS))]
        stream = io.BytesIO()
        try:
            random_image(rng).save(stream, kind)
        except (OSError, ValueError, KeyError):  # a mode that the format has not
            continue
        content = spoiled(stream.getvalue(), rng) if rng.random() < 0.9 else rng.bytes(200)
        path = place / f"x.{kind}"
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, on what it found
            listing = open_images(tmp_path, split="val")
            try:
                listing.view(
                    0,
                    lambda image, _: evaluation_views(
                        image, blurs, protocol=Protocol(canonical_side=24, network_side=16)
                    ),
                )
            except (FileNotFoundError, ValueError) as error:
                check_message(error, str(path))
        path.unlink()


# --- Hours


class Blurred(Dataset):
    def __init__(self, count):
        self.count, self.mix = count, blurlib.BlurMixSampler("sharp + D4 + shake + G2 + L9@30")

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = torch.full((3, 96, 128), index % 256, dtype=torch.uint8)
        return blurlib.functional.apply(image, self.mix.draw(index))


def resources():
    """Memory in KiB and open files of this process and its children."""
    pids = [os.getpid(), *map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())]
    memory = files = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            memory += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            files += len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  names alone
    return memory, files


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize(
    "seconds", [pytest.param(0, id="moment"), pytest.param(3600, marks=pytest.mark.slow, id="an hour")]
)
def test_memory_and_handles_stay(seconds):
    loader = DataLoader(Blurred(256), batch_size=16, num_workers=2, persistent_workers=True)
    kernel, image = kernels.disk(4), pixels((3, 200, 300), torch.uint8)
    samples = []
    end = time.monotonic() + seconds
    while len(samples) < 3 or time.monotonic() < end:
        for batch in loader:
            assert batch.shape == (16, 3, 96, 128)
            blurlib.blur(image, kernel)
        gc.collect()
        samples.append((time.monotonic(), *resources()))
    times, memory, files = np.array(samples[len(samples) // 5 :], dtype=float).T  # without the start
    slope = float(np.polyfit(times - times[0], memory / 1024, 1)[0]) * 3600
    print(json.dumps({"epochs": len(samples), "MiB": memory[-1] / 1024, "MiB an hour": slope}))
    assert files.max() == files.min()
    if seconds:
        assert abs(slope) < 8
