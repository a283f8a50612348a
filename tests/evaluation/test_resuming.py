"""An evaluation that was stopped goes on, and its report is to the bit that of one that never was."""

import json
import multiprocessing
import os
import random
import signal
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.vgg import VGG, make_layers

from blurlib._common.files import arrays_sha256, read_npz
from blurlib.data import open_images
from blurlib.deblurring import DeblurThenClassify
from blurlib.evaluation import _kept, _loop, evaluate
from blurlib.reporting import Report
from damage import changed

SHOWN = {
    "canonical_side": 48,
    "scales": (32, (24, 32)),
    "crop": 28,
    "blurs": "sharp, D4, H4",
    "batch_size": 7,
    "device": "cpu",
    "workers": 0,
    "progress": False,
}
KINDS = ["center", "dense", "quantised", "deblurring", "segmentation"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """13 photographs of several shapes, one of them alone of its shape."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(13):
        place = folder / "val" / f"class{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        size = (90, 50) if number == 3 else (50, 70) if number % 4 else (60, 60)
        photo(number, size).save(place / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def never():
    yield
    Acts.after(10**9, None)


def photo(seed, size):
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


class Acts(nn.Module):
    """Does something in the n-th forward pass of the process, of which the first are of the probe."""

    left, act = 10**9, None

    @classmethod
    def after(cls, calls, act):
        cls.left, cls.act = calls, staticmethod(act)

    def forward(self, images):
        Acts.left -= 1
        if Acts.left < 0:
            Acts.act()
        return images


def fails():
    raise RuntimeError("the network's own")


def network(kind):
    torch.manual_seed(1)
    if kind == "segmentation":
        return nn.Sequential(Acts(), nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    if kind == "dense":
        layers = make_layers([4, "M", 6, "M", 8, "M", 8, "M", 8, "M"])
        with torch.device("meta"):
            net = VGG(layers, init_weights=False)
        net.features = nn.Sequential(Acts(), *layers)
        net.classifier = nn.Sequential(nn.Linear(392, 3))
        return net
    last = nn.Sequential(nn.Linear(54, 3))
    if kind == "quantised":  # takes the range of its input from the whole batch
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            last = torch.ao.quantization.quantize_dynamic(last, {nn.Linear})
    net = nn.Sequential(Acts(), nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), last)
    return DeblurThenClassify(net, "wiener", "D4") if kind == "deblurring" else net


def measured(kind, root, output, **changes):
    if kind == "segmentation":
        masks = [Image.fromarray(np.full((40, 30 + n), n % 3, np.uint8)) for n in range(5)]
        root = [(photo(n, mask.size), mask) for n, mask in enumerate(masks)]
        shown = {"task": "segmentation", "scales": (24, 32), "crop": None, "batch_size": 2}
    else:
        shown = {"crops": "dense", "scales": (32, 48)} if kind == "dense" else {}
    return evaluate(network(kind), root, output=output, **SHOWN | shown | changes)


def stored(folder):
    """Bytes of every array, and all else but times."""
    with np.load(folder / "report.npz") as arrays:
        values = {name: (arrays[name].dtype.str, arrays[name].tobytes()) for name in arrays.files}
    plain = json.loads((folder / "report.json").read_text())
    plain["settings"].pop("date")
    plain["settings"].get("deblurring", {}).pop("seconds", None)
    plain.pop("sha256", None)
    names = sorted(path.name for path in folder.iterdir())
    return names, values, plain, (folder / "report.csv").read_text()


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_stops_at_any_batch_change_nothing(root, tmp_path, kind, times):
    """Batches are as they would have been: results depend on their sizes in the last bits."""
    measured(kind, root, tmp_path / "whole")
    for seed in range(times):
        draw, out, stops = random.Random(seed), tmp_path / f"out{seed}", 0
        while not (out / "report.json").exists():
            Acts.after(draw.randrange(3, 9 + 2 * stops), fails)
            try:
                measured(kind, root, out)
            except RuntimeError:
                stops += 1
        assert stops > 1
        assert stored(out) == stored(tmp_path / "whole")


def killed(root, output, calls, in_save):
    """A process that kills itself: in the n-th pass of the network, or in the middle of keeping a piece."""
    torch.set_num_threads(1)
    _loop._SAVE_EVERY = -1.0
    kill = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731  a stand-in
    if in_save:
        save = np.savez_compressed

        def half(path, **arrays):
            save(path, **arrays)
            os.truncate(path, path.stat().st_size // 2)
            Acts.left -= 1
            if Acts.left < 0:
                kill()
            save(path, **arrays)

        np.savez_compressed = half
    Acts.after(calls, kill)
    measured("center", root, output)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_change_nothing(root, tmp_path, kills):
    measured("center", root, tmp_path / "whole")
    draw, codes = random.Random(kills), []
    context = multiprocessing.get_context("fork")  # without gradients, and so without a GPU's thread
    while len(codes) < kills or codes[-1] != 0:
        calls = draw.randrange(2, 6) if len(codes) < kills else 10**9
        child = context.Process(target=killed, args=(root, tmp_path / "out", calls, len(codes) % 2))
        child.start()
        child.join()
        codes.append(child.exitcode)
        if codes[-1] == 0 and len(codes) <= kills:  # it had ended before: once more from the start
            assert stored(tmp_path / "out") == stored(tmp_path / "whole")
    assert codes.count(-signal.SIGKILL) >= kills // 2
    assert stored(tmp_path / "out") == stored(tmp_path / "whole")


@pytest.mark.parametrize(
    ("signum", "error", "name"),
    [(signal.SIGTERM, SystemExit, "SIGTERM"), (signal.SIGINT, KeyboardInterrupt, "Ctrl-C")],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_says_what_is_kept(root, tmp_path, capfd, usual_handlers, signum, error, name, workers):
    whole = measured("center", root, None)
    Acts.after(7, lambda: os.kill(os.getpid(), signum))
    with pytest.raises(error) as caught:
        measured("center", root, tmp_path, workers=workers)
    assert getattr(caught.value, "code", 143) == 143
    partial = Report.load(tmp_path / "partial.json")
    count = partial.records[0].count
    assert 0 < count < 13 and partial.settings["complete"] is False
    told = f"stopped by {name} with {count} of 13 images measured and kept in {tmp_path}"
    assert capfd.readouterr() == ("", f"\n{told}; run the same again to go on\n")
    Acts.after(10**9, None)
    report = measured("center", root, tmp_path)
    assert report.records == whole.records
    told = f"evaluate: goes on, with {count} of 13 images measured before\n"
    assert capfd.readouterr() == ("", told)


def test_a_signal_without_output_and_before_the_first_image(root, tmp_path, capfd, usual_handlers):
    for output, told in (
        (None, "; nothing is kept without `output`"),
        (tmp_path, f"before the first image; nothing to keep in {tmp_path}"),
    ):
        Acts.after(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit, match="143"):
            measured("center", root, output)
        assert capfd.readouterr().err.split("SIGTERM ")[-1] in (f"{told}\n", f"\nstopped by SIGTERM{told}\n")
        assert not list(tmp_path.iterdir())


def stopped(root, output, calls=7, **changes):
    Acts.after(calls, fails)
    with pytest.raises(RuntimeError, match="the network's own"):
        measured("center", root, output, **changes)
    Acts.after(10**9, None)


def test_changed_photographs_are_measured_again_and_copies_are_not(tmp_path, monkeypatch):
    """By size and time; where only times differ, by contents."""
    for number in range(12):
        (tmp_path / "photos" / "val" / f"class{number % 3}").mkdir(parents=True, exist_ok=True)
        photo(number, (60, 50)).save(tmp_path / "photos" / "val" / f"class{number % 3}" / f"{number}.bmp")
    root = tmp_path / "photos"
    stopped(root, tmp_path / "out")
    listed = sorted((root / "val").rglob("*.bmp"))
    for path in listed:  # as a job copies its data anew
        os.utime(path, (1, 1))
    photo(99, (60, 50)).save(listed[0])
    opened = []
    items = _loop._Tally.items
    monkeypatch.setattr(
        _loop._Tally, "items", lambda self, *rest: opened.extend(self.images) or items(self, *rest)
    )
    report = measured("center", root, tmp_path / "out")
    assert report.records == measured("center", root, None).records
    assert 0 not in opened and len(opened) >= 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"blurs": "sharp, D4"}, r"partial/settings.json of another blurs \(was"),
        ({"seed": 1}, r"seed \(was 0, now 1\)"),
        ({"limit": 6}, "limit"),
    ],
)
def test_another_evaluation_does_not_go_on(root, tmp_path, changes, told):
    stopped(root, tmp_path)
    (tmp_path / "partial.json").unlink()
    before = sorted((tmp_path / "partial").iterdir())
    with pytest.raises(ValueError, match=f"{told}.*; name another `output`, or pass overwrite=True"):
        measured("center", root, tmp_path, **changes)
    assert sorted((tmp_path / "partial").iterdir()) == before
    report = measured("center", root, tmp_path, overwrite=True, **changes)
    assert report.records == measured("center", root, None, **changes).records
    assert not (tmp_path / "partial").exists()


def test_another_structure_with_the_same_weights_does_not_go_on(root, tmp_path):
    stopped(root, tmp_path)
    (tmp_path / "partial.json").unlink()
    other = network("center")
    other[1].stride = (2, 2)
    with pytest.raises(ValueError, match=r"partial/settings.json of another structure_sha256 \(was"):
        evaluate(other, root, output=tmp_path, **SHOWN)


def test_overwrite_goes_on_with_the_same(root, tmp_path, capfd):
    """A job that is started again may say it each time."""
    stopped(root, tmp_path)
    measured("center", root, tmp_path, overwrite=True)
    assert "evaluate: goes on" in capfd.readouterr().err


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_piece_is_measured_again(root, tmp_path, damage):
    whole = measured("center", root, None)
    stopped(root, tmp_path)
    piece = next((tmp_path / "partial").glob("*.npz"))
    if damage == "other":
        arrays = read_npz(piece) | {"evaluation": np.array("0")}
        arrays["sha256"] = np.array(arrays_sha256({k: v for k, v in arrays.items() if k != "sha256"}))
        np.savez(piece, **arrays)
    else:
        data = piece.read_bytes()
        piece.write_bytes(data[: len(data) // 2 if damage == "cut" else 0])
    with pytest.warns(UserWarning, match=r"partial.*npz' is damaged \(.*\); its images are measured again"):
        report = measured("center", root, tmp_path)
    assert report.records == whole.records
    assert not (tmp_path / "partial").exists()


@pytest.mark.parametrize("times", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_no_change_of_a_piece_changes_a_number(root, tmp_path, times):
    listing = open_images(root, split="val")
    kept = _kept.Kept(tmp_path, {"a": 1}, listing)
    draws = np.random.default_rng(0)
    images = {n: {"entropy": draws.random(3), "correct": draws.random(3) < 0.5} for n in range(5)}
    kept.save(images)
    piece = next((tmp_path / "partial").glob("*.npz"))
    whole, lost = piece.read_bytes(), 0
    for seed in range(times):
        piece.write_bytes(changed(whole, random.Random(seed), most=2))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = kept.load(range(5), show=True)
        assert len(warned) == (not found)
        lost += not found
        for position, arrays in found.items():
            for name, array in arrays.items():
                np.testing.assert_array_equal(array, images[position][name], strict=True)
    assert times / 2 < lost < times


def test_a_folder_that_is_called_partial_stays(root, tmp_path):
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"`output` must hold no files of others, got .* with partial"):
        measured("center", root, tmp_path)
    measured("center", root, tmp_path, overwrite=True)
    assert (tmp_path / "partial" / "notes.txt").read_text() == "mine"


def test_a_full_disk_loses_nothing(root, tmp_path, monkeypatch):
    whole = measured("center", root, None)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(_kept, "replacing", full)
        patched.setattr(_loop, "_SAVE_EVERY", -1.0)
        patched.setattr(Report, "to_csv", full)
        patched.setattr(_loop.tempfile, "mkdtemp", lambda **_: str(tmp_path / "elsewhere"))
        with pytest.warns(UserWarning, match="could not be") as warned:
            report = measured("center", root, tmp_path / "out")
    texts = [str(each.message) for each in warned]
    assert any(text.startswith("what was measured could not be kept in ") for text in texts)
    assert texts[-1] == (
        f"the report could not be written to {str(tmp_path / 'out')!r} ([Errno 28] No space left on device); "
        f"it is kept in {tmp_path / 'elsewhere'}"
    )
    assert report.records == whole.records == Report.load(tmp_path / "elsewhere").records


class Dies(torch.utils.data.Dataset):
    """Its seventh item ends the worker, as a kill for memory does; the others take their time."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        return photo(index, (60, 50)), index % 3


def test_a_worker_that_dies_does_not_disturb_the_keeping(tmp_path):
    """torch raises in the main process, wherever that is, each time that a worker ends."""
    with pytest.raises(ChildProcessError, match=r"a loader's process .* SIGKILL"):
        measured("center", Dies(), tmp_path, workers=2, batch_size=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["partial", "partial.json", "partial.npz"]
    # Item 7 is asked for when 3 has come; what the worker had made before may end with it.
    assert Report.load(tmp_path / "partial.json").records[0].count >= 4
