"""Published weights: downloaded, their hash compared each time, and read as plain values."""

import hashlib
import os
import shutil

import pytest
import torch
from torchvision import models

from blurlib.models import named_network

NAME = "squeezenet1_1"


class Runs:
    def __reduce__(self):
        return os.mkdir, ("made",)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(7)
    return models.squeezenet1_1().state_dict()


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def publish(tmp_path, monkeypatch):
    def published(content, digest=None):
        torch.save(content, "a.pth")
        digest = digest or hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()[:8]
        path = tmp_path / f"{NAME}-{digest}.pth"
        shutil.move("a.pth", path)
        weights = models.get_model_weights(NAME).DEFAULT
        monkeypatch.setattr(weights.value, "url", path.as_uri())
        return path

    return published


def loaded(classes):
    return named_network(NAME, arch=None, classes=classes, seed=0, notify=lambda _: None)


@pytest.mark.parametrize("classes", [None, 1000, 5])
def test_weights_are_downloaded_and_compared(classes, state, publish, hub):
    path = publish(state)
    network = loaded(classes).state_dict()
    assert all(torch.equal(network[name], state[name]) for name in state if not name.startswith("classifier"))
    path.unlink()
    loaded(classes)  # from the file that is there
    kept = hub / path.name
    kept.write_bytes(kept.read_bytes()[:-7] + b"changed")
    with pytest.raises(
        ValueError, match="another hash than its name tells; delete it, and it is downloaded again"
    ):
        loaded(classes)


@pytest.mark.parametrize("classes", [None, 5])
def test_other_bytes_than_the_published_are_refused(classes, state, publish, hub):
    path = publish(state, digest="0" * 8)
    with pytest.raises(OSError, match=f"cannot download the weights of {NAME} .*invalid hash value"):
        loaded(classes)
    assert not (hub / path.name).exists()


@pytest.mark.parametrize("classes", [None, 5])
def test_what_is_downloaded_is_not_run(classes, state, publish, tmp_path):
    publish(state | {"other": Runs()})
    with pytest.raises(ValueError, match=r"it holds an object of (posix|nt)\.mkdir"):
        loaded(classes)
    assert not (tmp_path / "made").exists()
