"""Files of weights as people keep them, by the names that a command line can write."""

import argparse
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from blurlib.models import named_network

ARCH, CLASSES = "shufflenet_v2_x0_5", 5


def built(arch=ARCH, classes=CLASSES):
    torch.manual_seed(5)
    return models.get_model(arch, num_classes=classes)


@pytest.fixture(scope="module")
def weights():
    return built().state_dict()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def loaded(name, arch=ARCH, classes=CLASSES, notes=None):
    return named_network(
        name, arch=arch, classes=classes, seed=0, notify=(notes if notes is not None else []).append
    )


def refusal(name, **options):
    with pytest.raises((ValueError, FileNotFoundError, ImportError)) as error:
        loaded(name, **options)
    text = str(error.value)
    assert "\n" not in text and len(text) < 480
    return text


def prefixed(state, *prefixes):
    return {"".join(prefixes) + name: value for name, value in state.items()}


def same(network, state):
    mine = network.state_dict()
    return mine.keys() == state.keys() and all(torch.equal(mine[name], state[name]) for name in state)


# What a file holds, of a state dict.
KEPT = {
    "plain": lambda state: state,
    "module": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "compiled module": lambda state: prefixed(state, "module.", "_orig_mod."),
    "module compiled": lambda state: prefixed(state, "_orig_mod.", "module."),
    "compiled part": lambda state: {
        name.replace("stage2.", "stage2._orig_mod."): value for name, value in state.items()
    },
    "model": lambda state: prefixed(state, "model."),
    "model module": lambda state: prefixed(state, "module.", "model."),
    "lightning": lambda state: {"epoch": 3, "state_dict": prefixed(state, "model."), "lr_schedulers": []},
    "lightning compiled": lambda state: {"state_dict": prefixed(state, "model.", "_orig_mod.")},
    "finetune": lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 1},
    "tutorial": lambda state: {"model_state_dict": state, "loss": 0.5},
    "twice": lambda state: {"model": {"state_dict": prefixed(state, "module.")}},
}


@pytest.mark.parametrize(
    ("kept", "suffix"),
    [*((kept, ".pt") for kept in KEPT), *(("lightning", each) for each in (".pth", ".bin", ".ckpt", ".tar"))],
)
def test_files_as_people_keep_them(weights, kept, suffix):
    torch.save(KEPT[kept](weights), f"weights{suffix}")
    notes = []
    assert same(loaded(f"weights{suffix}", notes=notes), weights) and not notes


@pytest.mark.parametrize("kept", ["plain", "module", "model"])
def test_safetensors(weights, kept, monkeypatch):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(KEPT[kept](weights), "weights.safetensors")
    assert same(loaded("weights.safetensors"), weights)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)  # as where it is not installed
    assert "pip install safetensors" in refusal("weights.safetensors")


def test_a_network_with_a_part_called_model_keeps_its_names(monkeypatch):
    """`model.` is a prefix only where the network's own names have it not."""
    Path("inside.py").write_text(
        "from torch import nn\n\n"
        "def network():\n    return nn.ModuleDict({'model': nn.Linear(2, 2), 'head': nn.Linear(2, 2)})\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(".")
    network = nn.ModuleDict({"model": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    torch.save(network.state_dict(), "inside.pt")
    assert same(loaded("inside.pt", arch="inside:network", classes=None), network.state_dict())
    text = refusal("weights.pt", arch="inside:network", classes=None)
    assert "`MODEL` must be a file of tensors, got 'weights.pt', which is not there" in text


def test_what_a_training_module_has_besides_is_left_out_and_told(weights):
    torch.save({"state_dict": prefixed(weights, "model.") | {"criterion.weight": torch.ones(3)}}, "a.ckpt")
    notes = []
    assert same(loaded("a.ckpt", notes=notes), weights)
    assert notes == [f"note: not of {ARCH} and left out: criterion.weight"]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_files_of_old_torch_count_no_batches(weights, prefix):
    old = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    torch.save(prefixed(old, prefix), "a.pt")
    assert same(loaded("a.pt"), weights)


@pytest.mark.parametrize(("stored", "asked"), [(True, False), (False, True)])
def test_auxiliary_outputs_may_be_there_or_not(stored, asked, monkeypatch):
    """torchvision's networks have them, or not, by how they are made."""

    class Net(nn.Module):
        def __init__(self, aux):
            super().__init__()
            self.fc = nn.Linear(2, 2)
            if aux:
                self.aux_classifier = nn.Linear(2, 2)

    monkeypatch.setattr("blurlib.models._named._built", lambda *_, **__: Net(asked))
    saved = Net(stored).state_dict()
    torch.save(saved, "a.pt")
    notes = []
    network = loaded("a.pt", notes=notes)
    assert torch.equal(network.fc.weight, saved["fc.weight"])
    told = "not of shufflenet_v2_x0_5 and left out" if stored else "not in a.pt, and new"
    assert notes == [f"note: {told}: aux_classifier.weight, aux_classifier.bias"]


def test_a_segmentation_network_for_a_file_downloads_nothing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("downloads")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    network = models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )
    torch.save(network.state_dict(), "a.pt")
    assert same(loaded("a.pt", arch="lraspp_mobilenet_v3_large", classes=3), network.state_dict())


# --- What does not fit


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_the_number_of_outputs_is_told(weights, prefix):
    torch.save(prefixed(weights, prefix), "a.pt")
    text = refusal("a.pt", classes=None)
    assert text == (
        "`--arch` shufflenet_v2_x0_5 must fit the weights in 'a.pt', got other shapes, fc.weight of "
        "(5, 1024) instead of (1000, 1024), fc.bias of (5,) instead of (1000,); the weights are of a "
        "network with 5 outputs: --classes 5"
    )


@pytest.mark.parametrize(
    ("saved", "arch", "told"),
    [
        ("squeezenet1_1", ARCH, "they fit --arch squeezenet1_1 --classes 5"),
        ("shufflenet_v2_x1_0", ARCH, "they fit --arch shufflenet_v2_x1_0 --classes 5"),
        (ARCH, "mobilenet_v3_small", "they fit --arch shufflenet_v2_x0_5 --classes 5"),
    ],
)
def test_the_network_that_fits_is_told(saved, arch, told):
    torch.save({"state_dict": prefixed(built(saved).state_dict(), "module.")}, "a.pt")
    assert refusal("a.pt", arch=arch).endswith(f"; {told}")


def test_the_nearest_network_and_the_first_names_are_told(weights):
    other = {name: value for name, value in weights.items() if not name.startswith("conv5.")}
    torch.save(other | {"head.weight": torch.ones(1), "head.bias": torch.ones(1)}, "a.pt")
    text = refusal("a.pt", arch="squeezenet1_1")
    assert "got missing features.0.weight, features.0.bias and 50 more; unexpected conv1.0.weight, " in text
    share = re.search(r"shufflenet_v2_x0_5 comes nearest, with (\d+)% of names and shapes$", text)
    assert share and 90 < int(share[1]) < 100
    text = refusal("a.pt")
    assert (
        "got missing conv5.0.weight, conv5.1.weight and 3 more; unexpected head.weight, head.bias; name"
        in text
    )


def test_timm_suggests_of_its_own():
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("resnet14t", num_classes=5).state_dict(), "a.pt")
    assert refusal("a.pt", arch="timm:resnet26t").endswith("; they fit --arch timm:resnet14t --classes 5")
    assert refusal("a.pt", arch="timm:resnet14t", classes=None).endswith("5 outputs: --classes 5")


class Settings:
    """A class that no file of weights should need."""


# What is refused: the reason, and how to take the weights out.
REFUSED = {
    "lightning": (
        lambda state: {"state_dict": state, "hparams": Settings()},
        "Settings",
        "checkpoint['state_dict']",
    ),
    "arguments": (
        lambda state: {"model": state, "args": argparse.Namespace(a=1)},
        "argparse.Namespace",
        "checkpoint['model']",
    ),
    "network": (lambda _: nn.Linear(2, 2), "torch.nn.modules.linear.Linear", "model.state_dict()"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("zipped", [True, False])
def test_files_with_objects_are_refused_with_the_remedy(weights, kind, zipped):
    make, held, taken = REFUSED[kind]
    torch.save(make(weights), "a.ckpt", _use_new_zipfile_serialization=zipped)
    text = refusal("a.ckpt")
    remedy = f"save the weights alone where it was made: torch.save({taken}, 'weights.pt')"
    assert text.startswith(
        "`MODEL` must be a whole file of tensors and plain values, got 'a.ckpt' (it holds a "
    )
    assert text.endswith(f"{held}); {remedy}")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_other_files_are_refused():
    for content, told in (
        ({"epoch": 3}, "got a dict with epoch in 'a.pt'"),
        ([torch.ones(1)], "got a list in 'a.pt'"),
        ({}, "got a dict with nothing in 'a.pt'"),
    ):
        torch.save(content, "a.pt")
        assert told in refusal("a.pt")
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), "a.pt")
    assert "torch.save(torch.jit.load('a.pt').state_dict(), 'weights.pt')" in refusal("a.pt")
    if importlib.util.find_spec("safetensors"):
        Path("b.safetensors").write_bytes(b"no weights at all")
        assert "must be a whole file of safetensors, got 'b.safetensors'" in refusal("b.safetensors")
    assert "`--arch` must name the network whose weights a.ckpt holds" in refusal("a.ckpt", arch=None)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet-50", "did you mean 'timm:resnet50' or "),
        ("ResNet50", "did you mean 'timm:resnet50' or "),
        ("resnet50.a1_in1", "did you mean 'timm:resnet50.a1_in1k' or "),
        ("qqqq", "got 'timm:qqqq'; timm.list_models() has all"),
    ],
)
def test_unknown_networks_of_timm(name, told):
    pytest.importorskip("timm")
    assert told in refusal(f"timm:{name}", arch=None, classes=None)


def test_networks_of_timm_whose_weights_do_not_come(monkeypatch):
    timm = pytest.importorskip("timm")

    def refuse(*_, **__):
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(timm, "create_model", refuse)
    for name in ("resnet18", "resnet18.a1_in1k", "hf_hub:people/network"):
        text = refusal(f"timm:{name}", arch=None, classes=None)
        assert "with the error 'no network'" in text and f"--arch timm:{name}" in text
