"""What a run's folder keeps: damaged, another run's, on a full disk; what of a resumed run may differ."""

import errno
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from blurlib._common.folders import locked
from blurlib.data import open_masks
from blurlib.training import _run_folder, finetune

SMALL = {
    "canonical_side": 24,
    "network_side": 16,
    "crop": 12,
    "batch_size": 3,
    "epochs": 2,
    "lr": 0.05,
    "blur": "sharp + D2",
    "device": "cpu",
    "workers": 0,
    "progress": False,
}


@pytest.fixture
def root(tmp_path):
    draws = np.random.default_rng(0)
    for label in ("a", "b"):
        folder = tmp_path / "photos" / "train" / label
        folder.mkdir(parents=True)
        for number in range(3):
            noise = draws.integers(0, 256, (26, 34, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{number}.png")
    return tmp_path / "photos"


def network(*, seed=1, dropout=0.5):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 2, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2, 2),
    )


@pytest.fixture
def run(root, tmp_path):
    """Of one epoch, and then the second."""
    finetune(network(), root, output=tmp_path / "run", **SMALL)
    return tmp_path / "run"


def resumed(root, run, model=None, **options):
    return finetune(model or network(), root, output=run, resume=True, **SMALL | options)


def weights(source):
    state = source if isinstance(source, dict) else source.state_dict()
    return {name: tensor.tolist() for name, tensor in state.items()}


# --- another run's -----------------------------------------------------------------------------------------


def test_other_initial_weights_and_another_architecture_are_named(root, run):
    """Both went on in silence."""
    told = (
        r"as it began, got another weights \(was SHA-256 \w{12}\.\.\., now \w{12}\.\.\.\); pass the same, or"
    )
    with pytest.raises(ValueError, match=rf"`resume`.*{told} name another.*by changes=\['weights'\]"):
        resumed(root, run, network(seed=2))
    told = (
        r"architecture \(was 4: Dropout\(p=0.5, inplace=False\), now Dropout\(p=0.2, inplace=False\)\); pass"
    )
    with pytest.raises(ValueError, match=rf"`resume`.*{told}"):
        resumed(root, run, network(dropout=0.2))
    with pytest.raises(ValueError, match=r"weights .*; architecture .*changes=\['weights', 'architecture'\]"):
        resumed(root, run, network(seed=2, dropout=0.2))
    changes = ["architecture", "weights"]
    again = resumed(root, run, network(seed=2, dropout=0.2), changes=changes)
    assert weights(again.model) == weights(torch.load(run / "model.pt", weights_only=True))
    noted = json.loads((run / "settings.json").read_text())["changes"]
    assert [(each["what"], each["epochs"], each["steps"]) for each in noted] == [
        ("weights", 2, 0),
        ("architecture", 2, 0),
    ]


def test_an_architecture_of_other_weights_cannot_be_allowed(root, run):
    model = network()
    model[0] = nn.Conv2d(3, 2, 5)
    with pytest.raises(ValueError, match="`model` must take the weights of the checkpoint"):
        resumed(root, run, model, changes=["weights", "architecture"])


def test_the_checkpoint_knows_its_settings_without_the_file(root, run):
    (run / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"seed \(was 0, now 1\); pass the same, or name another `output`$"):
        resumed(root, run, seed=1)
    other = run.with_name("other")
    finetune(network(), root, output=other, **SMALL | {"hflip": 0.5})
    shutil.copy(other / "checkpoint.pt", run)
    with pytest.raises(ValueError, match=r"hflip \(was 0\.5, now 0\.0\)"):
        resumed(root, run)


def test_replaced_and_copied_files_are_told(root, run):
    image = root / "train" / "b" / "1.png"
    os.utime(image, ns=(0, 10**18))
    with pytest.warns(UserWarning, match=r"1 of the images' files have another time of change .*same size"):
        resumed(root, run)
    before = image.stat().st_size
    Image.new("RGB", (30, 30)).save(image)
    told = rf"files \(was train/b/1\.png of {before} bytes, now {image.stat().st_size} bytes\)"
    with pytest.raises(ValueError, match=rf"{told}.*by changes=\['files'\]"):
        resumed(root, run)
    with pytest.warns(UserWarning, match="another time of change"):
        resumed(root, run, changes=["files"])


def test_masks_are_files_too(tmp_path):
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (folder / name).mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("x\ny\n")
    (folder / "JPEGImages" / "x.jpg").write_bytes(b"12")
    (folder / "JPEGImages" / "y.png").write_bytes(b"123")
    (folder / "SegmentationClass" / "y.png").write_bytes(b"1")
    assert open_masks(str(tmp_path), split="train").file_facts()[:, ::2].tolist() == [[2, -1], [3, 1]]


def test_a_smaller_rate_after_a_loss_that_is_not_finite(root, tmp_path):
    """What the message and the documentation advise was refused."""
    output, options = tmp_path / "run", {"epochs": (1, 2), "lr": (0.05, 1e30), "batch_size": 1}
    with pytest.raises(
        ValueError, match=r"epoch 2 of 3.*resume=True with changes=\['lr'\] and a smaller `lr`"
    ):
        finetune(network(), root, output=output, **SMALL | options)
    with pytest.raises(ValueError, match=r"epochs that are finished \(was at lr 0\.05, now at lr 0\.01\)"):
        resumed(root, output, changes=["lr"], **options | {"lr": (0.01, 0.01)})
    result = resumed(root, output, changes=["lr"], **options | {"lr": (0.05, 0.01)})
    whole = finetune(network(), root, **SMALL | options | {"lr": (0.05, 0.01)})
    assert weights(result.model) == weights(whole.model)
    change = json.loads((output / "settings.json").read_text())["changes"]
    assert change == [{"epochs": 1, "steps": 0, "what": "lr", "was": "[0.05, 1e+30]", "now": "[0.05, 0.01]"}]
    more = resumed(root, output, changes=["epochs"], **options | {"epochs": (1, 3), "lr": (0.05, 0.01)})
    assert len(more.history) == 4
    state = torch.load(output / "checkpoint.pt", weights_only=True)
    assert [each["what"] for each in state["changes"]] == ["lr", "epochs"]
    with pytest.raises(ValueError, match="epochs that are finished"):
        resumed(root, output, changes=["epochs", "lr"], epochs=1)


def test_a_later_format_is_refused(root, run):
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    with _run_folder._saved(state | {"format": 3, "library": "9.0"}, run / "checkpoint.pt"):
        pass
    with pytest.raises(ValueError, match=r"that this version knows, got .* one of blurlib 9\.0; go on with"):
        resumed(root, run)


def test_the_log_is_written_anew_from_the_checkpoint(root, run):
    before = (run / "log.csv").read_text()
    (run / "log.csv").write_text(before.splitlines()[0], encoding="utf-8")
    resumed(root, run)
    assert (run / "log.csv").read_text() == before


def test_a_second_run_in_the_folder_is_refused(root, run):
    with (
        locked(run),
        pytest.raises(ValueError, match="`output` must be a folder that no other run is writing"),
    ):
        resumed(root, run)


# --- damage ------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_told_and_the_one_before_used(root, run):
    whole = torch.load(run / "model.pt", weights_only=True)
    data = bytearray((run / "checkpoint.pt").read_bytes())
    before = (run / "checkpoint.previous.pt").read_bytes()
    data[len(data) // 2] ^= 1
    (run / "checkpoint.pt").write_bytes(data)
    with pytest.warns(UserWarning, match="are not those that were written") as caught:
        result = resumed(root, run)
    told = [str(each.message) for each in caught]
    assert len(told) == 1 and f"got '{run / 'checkpoint.pt'}'" in told[0]
    assert told[0].endswith("; the run goes on from the one before, checkpoint.previous.pt")
    assert weights(result.model) == weights(whole) and len(result.history) == 2
    # The damaged one was not kept in place of the good one.
    assert (run / "checkpoint.previous.pt").read_bytes() == before
    for name in ("checkpoint.pt", "checkpoint.previous.pt"):
        (run / name).write_bytes(data[:1000])
    with pytest.raises(
        ValueError, match=rf"`output` must be a whole .*{run}/checkpoint\.pt.*put a copy in its"
    ):
        resumed(root, run)


def test_what_is_no_checkpoint_is_told(root, run):
    shutil.copy(run / "model.pt", run / "checkpoint.pt")
    (run / "checkpoint.previous.pt").unlink()
    with pytest.raises(ValueError, match=r"checkpoints of a fine-tuning, got .*, which is another file"):
        resumed(root, run)
    (run / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"must hold a checkpoint to go on from, got .* none of these"):
        resumed(root, run)


def test_a_stop_between_the_two_renamings_loses_nothing(root, run):
    (run / "checkpoint.pt").replace(run / "checkpoint.previous.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(resumed(root, run).history) == 2


def fuzzed(folder, count, seed):
    """A checkpoint and the same with changed bytes."""
    path = folder / "whole.pt"
    noise = {"noise": {"cpu": torch.arange(50, dtype=torch.uint8)}}
    done = {"step": 2, "sums": {"loss": 0.5}, "broken": {}, "seconds": 0.1}
    momentum = {0: {"momentum_buffer": torch.randn(20, 3)}}
    with _run_folder._saved(
        {
            "format": 2,
            "model": {"weight": torch.randn(20, 3), "bias": torch.zeros(2)},
            "optimizer": {"state": momentum, "param_groups": [{"lr": 0.1}]},
            "history": [{"epoch": 1, "loss": 0.25}],
            "skipped": {},
            "settings": {"seed": 3, "lr": [0.1], "epochs": [1]},
            "done": {"epoch": done, "own": [noise]},
        },
        path,
    ):
        pass
    whole, draws = path.read_bytes(), random.Random(seed)
    for _ in range(count):
        data, kind = bytearray(whole), draws.choice(["flip", "flip", "byte", "cut", "grow", "lose"])
        place = draws.randrange(len(data))
        if kind == "flip":
            data[place] ^= 1 << draws.randrange(8)
        elif kind == "byte":
            data[place] = draws.randrange(256)
        elif kind == "cut":
            del data[place:]
        elif kind == "lose":
            del data[place : place + draws.randrange(1, 100)]
        else:
            data[place:place] = draws.randbytes(draws.randrange(1, 100))
        yield whole, bytes(data)


def _assert_damage_is_found(tmp_path, count, seed):
    """What is read is the checkpoint itself; else there is a ValueError, in one line with the path."""

    def plain(state):
        text = io.StringIO()
        torch.set_printoptions(profile="full")
        print(state, file=text)
        return text.getvalue()

    team = type("Team", (), {"rank": 0})
    folder = _run_folder.RunFolder(tmp_path, team, {}, facts={}, name_of=str)
    expected, refused = None, 0
    for whole, data in fuzzed(tmp_path, count, seed):
        if expected is None:
            expected = plain(torch.load(io.BytesIO(whole), weights_only=True))
        (tmp_path / "checkpoint.pt").write_bytes(data)
        try:
            assert plain(folder._read()) == expected
        except ValueError as error:
            refused += 1
            text = str(error)
            assert f"{str(tmp_path / 'checkpoint.pt')!r}" in text and "\n" not in text, text
            assert "weights_only" not in text and "pickle" not in text, text
    assert refused > count / 2


def test_damage_is_found_wherever_it_is(tmp_path):
    _assert_damage_is_found(tmp_path, 60, 0)


@pytest.mark.slow
def test_damage_is_found_in_all_of_a_file(tmp_path):
    _assert_damage_is_found(tmp_path, 4000, 1)


# --- what the folder does not take -------------------------------------------------------------------------


def full(monkeypatch, *, after=0, places=("run",)):
    """Writing a file of tensors to such a folder fails, from the so many-th on."""
    saved, count = _run_folder._saved, [0]

    def failing(state, path):
        count[0] += 1
        if count[0] > after and (path.parent.name in places or "*" in places):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return saved(state, path)

    monkeypatch.setattr(_run_folder, "_saved", failing)


def test_a_full_disk_does_not_lose_the_run(root, tmp_path, monkeypatch):
    whole = finetune(network(), root, **SMALL)
    full(monkeypatch, after=1)
    told = r"run' cannot be written to \(No space left on device\): the run is kept in '(.*)' instead; copy"
    with pytest.warns(UserWarning, match=told):
        result = finetune(network(), root, output=tmp_path / "run", **SMALL)
    assert weights(result.model) == weights(whole.model)
    assert result.weights.parent == result.checkpoint.parent != tmp_path / "run"
    assert weights(torch.load(result.weights, weights_only=True)) == weights(whole.model)
    assert len(torch.load(result.checkpoint, weights_only=True)["history"]) == 2
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    monkeypatch.undo()
    # Copied from there, it goes on.
    shutil.copytree(result.checkpoint.parent, tmp_path / "run", dirs_exist_ok=True)
    shutil.rmtree(result.checkpoint.parent)
    assert len(resumed(root, tmp_path / "run").history) == 2


def test_where_nothing_can_be_written_the_result_is_returned(root, tmp_path, monkeypatch):
    full(monkeypatch, places="*")
    with pytest.warns(UserWarning, match=r"nor can a temporary folder \(No space.*nothing new is kept"):
        result = finetune(network(), root, output=tmp_path / "run", **SMALL)
    assert len(result.history) == 2


def test_a_disk_that_has_room_again_is_used_again(root, tmp_path, monkeypatch):
    saved, count = _run_folder._saved, [0]

    def failing(state, path):
        count[0] += 1
        if count[0] == 1:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return saved(state, path)

    monkeypatch.setattr(_run_folder, "_saved", failing)
    with pytest.warns(UserWarning, match=r"\(Disk quota exceeded\): the run is kept in") as caught:
        result = finetune(network(), root, output=tmp_path / "run", **SMALL)
    spare = Path(str(caught[0].message).split("kept in '")[1].split("'")[0])
    assert result.checkpoint == tmp_path / "run" / "checkpoint.pt" and result.checkpoint.exists()
    assert result.weights.exists() and not spare.exists()


def test_a_file_that_must_not_grow_says_so_itself(tmp_path):
    """torch told of "unexpected pos 64 vs 0"."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with (
            pytest.raises(OSError, match="File too large"),
            _run_folder._saved({"weight": torch.zeros(10000)}, tmp_path / "checkpoint.pt"),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_known_before_the_first_epoch(root, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(ValueError, match=r"`output` must have room for 0 MB, got .* with 0 MB free"):
        finetune(network(), root, output=tmp_path / "run", **SMALL)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_vanished_folder_is_made_again(root, tmp_path):
    class Vanishing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, images):
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            return self.inner(images)

    result = finetune(Vanishing(), root, output=tmp_path / "run", **SMALL)
    assert result.weights.exists() and result.checkpoint.exists()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount")
@pytest.mark.slow
def test_a_disk_that_is_really_full(root, tmp_path):
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", tmp_path / "disk"]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed")
    try:
        with pytest.raises(ValueError, match="must have room for"):
            finetune(nn.Sequential(network(), nn.Linear(2, 20000), nn.Linear(20000, 2)), root,
                     output=tmp_path / "disk" / "run", **SMALL)  # fmt: skip

        class Filling(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = network()

            def forward(self, images):
                if (tmp_path / "disk" / "run" / "settings.json").exists():
                    with suppress(OSError), (tmp_path / "disk" / "others").open("ab", buffering=0) as file:
                        while True:
                            file.write(b"\0" * 4096)
                return self.inner(images)

        with pytest.warns(UserWarning, match="No space left on device.*is kept in"):
            result = finetune(Filling(), root, output=tmp_path / "disk" / "run", **SMALL)
        assert torch.load(result.weights, weights_only=True)
        shutil.rmtree(result.weights.parent)
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=False)
