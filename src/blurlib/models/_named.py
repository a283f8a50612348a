"""Networks by the names that a command line can write: torchvision, timm, files of weights, own functions."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit

import torch
from torch import nn
from torchvision import models

from .._common.archives import file_sha256, load_tensors
from .._common.progress import is_live
from .._common.rng import check_seed
from ._weights import SUFFIXES, load_weights
from ._zoomout import ZoomOut

_VOC_CLASSES = 21


def named_network(
    name: str, *, arch: str | None, classes: int | None, seed: int, notify: Callable[[str], None]
) -> nn.Module:
    """The network that the command line's MODEL, --arch and --classes describe.

    `name` is of a torchvision network, "timm:NAME", "zoomout:NAME" (a zoom-out network over that VGG),
    "module:function", or a file of the weights of `arch`. `classes` is the number of outputs; None takes
    those of the weights. `seed` is of the layers that start anew, about which `notify` is given a line.
    """
    path = Path(name)
    if path.suffix in SUFFIXES:
        if arch is None:
            raise ValueError(
                f"`--arch` must name the network whose weights {name} holds, for example --arch resnet18"
            )
        network = _built(arch, classes, pretrained=False, notify=notify)
        return load_weights(network, path, arch=arch, nearest=partial(_nearest, arch), notify=notify)
    if arch is not None:
        raise ValueError(
            f"`--arch` must come with a file of weights ({', '.join(SUFFIXES)}), got MODEL {name!r}; leave "
            "it out"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_seed(seed))
        return _built(name, classes, pretrained=True, notify=notify)


def _built(name: str, classes: int | None, *, pretrained: bool, notify: Callable[[str], None]) -> nn.Module:
    kind, _, rest = name.partition(":")
    if kind == "timm" and rest:
        try:
            timm = importlib.import_module("timm")
        except ModuleNotFoundError:
            raise ImportError(f"`MODEL` {name} needs the package timm; pip install timm") from None
        return _timm(timm, rest, classes, pretrained=pretrained)
    if kind == "zoomout" and rest:
        trunk = _torchvision(rest, None, pretrained=pretrained, notify=notify)
        if pretrained:
            notify(f"note: the layers after the features of {rest} are new, not trained yet")
        return ZoomOut(trunk, classes or _VOC_CLASSES)
    if rest:
        if classes is not None:
            raise ValueError(f"`--classes` must be left out with your own function, got MODEL {name!r}")
        return _called(kind, rest)
    return _torchvision(name, classes, pretrained=pretrained, notify=notify)


def _timm(timm: Any, name: str, classes: int | None, *, pretrained: bool) -> nn.Module:
    outputs = {} if classes is None else {"num_classes": classes}
    tagged = timm.list_pretrained() if "." in name else timm.list_models()
    if not re.search("[:/]", name) and not (name in tagged or ("." not in name and timm.is_model(name))):
        # Names with : or / are of Hugging Face's hub.
        close = difflib.get_close_matches(name.lower(), tagged, n=3, cutoff=0.5)
        raise ValueError(
            f"`MODEL` must be a network of timm, got {'timm:' + name!r}; "
            + (f"did you mean {' or '.join(repr('timm:' + each) for each in close)}? " if close else "")
            + f"timm.list_{'pretrained' if '.' in name else 'models'}() has all"
        )
    try:
        timm.models.set_pretrained_check_hash(True)  # timm itself loads with weights_only=True
        return cast("nn.Module", timm.create_model(name, pretrained=pretrained, **outputs))
    except Exception as error:  # of timm, of its hub, of the connection
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"`MODEL` must be a network that timm can make, got {'timm:' + name!r} with the error "
            f"{lines[0][:200]!r}; look at its name and the connection, or give a file of weights and "
            f"--arch timm:{name}"
        ) from error


def _nearest(arch: str, count: int) -> Iterator[tuple[str, nn.Module]]:
    """Networks that weights of so many numbers may be of, without storage: those of timm by their names."""
    if arch.startswith("timm:"):
        timm = importlib.import_module("timm")
        name, known = arch[5:].partition(".")[0], timm.list_models()
        family = [each for each in known if re.sub(r"\d+", "", each) == re.sub(r"\d+", "", name)]
        close = [*family[:8], *difflib.get_close_matches(name, known, n=4, cutoff=0.5)]
        build, named = (
            partial(timm.create_model, pretrained=False),
            [(f"timm:{name}", name) for name in close],
        )
    else:
        sizes = {
            name: models.get_model_weights(name).DEFAULT.meta["num_params"]
            for name in models.list_models(module=models)
        }
        close = sorted(sizes, key=lambda name: abs(sizes[name] - count))[:8]
        build, named = partial(models.get_model, weights=None), [(name, name) for name in close]
    for shown, name in named:
        try:
            with warnings.catch_warnings(), torch.device("meta"):
                warnings.simplefilter("ignore")
                network = build(name)
        except NotImplementedError:  # RegNet draws its weights by what has storage
            continue
        yield shown, network


def _called(module: str, function: str) -> nn.Module:
    """What a function of the user's returns; modules of the working folder are found, as with `python -m`."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(
            f"`MODEL` names the module {module!r}, which is not here; look at its spelling"
        ) from None
    if not hasattr(loaded, function):
        raise ValueError(f"`MODEL` names {function!r}, which is not in the module {module!r}")
    build = getattr(loaded, function)
    network = build() if callable(build) and not isinstance(build, nn.Module) else build
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"`MODEL` must be a function that returns a torch.nn.Module, got {type(network).__name__} from "
            f"{module}:{function}"
        )
    return network


def _torchvision(
    name: str, classes: int | None, *, pretrained: bool, notify: Callable[[str], None]
) -> nn.Module:
    known = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        raise ValueError(
            "`MODEL` must be a network of torchvision, timm:NAME, zoomout:NAME, a file of weights "
            f"(such as .pt) or module:function, got {name!r}"
            + (f"; did you mean {close[0]!r}?" if close else "")
        )
    outputs: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if not pretrained:
        if name in models.list_models(module=models.segmentation):
            outputs["weights_backbone"] = None  # else they are downloaded
        network: nn.Module = models.get_model(name, weights=None, **outputs)
        return network
    weights = models.get_model_weights(name).DEFAULT
    state = _downloaded(weights, name)
    if classes is None or classes == len(weights.meta["categories"]):
        return cast("nn.Module", models.get_model(name, weights=weights))  # of the file that was checked
    network = models.get_model(name, weights=None, **outputs)
    own = network.state_dict()
    fits = {key: state[key] for key in own if key in state and state[key].shape == own[key].shape}
    network.load_state_dict({**own, **fits})
    notify(
        f"note: {name} gets {classes} outputs; new, not trained yet: {', '.join(sorted(own.keys() - fits))}"
    )
    return network


def _downloaded(weights: models.WeightsEnum, name: str) -> dict[str, Any]:
    """What the file of torchvision's weights holds: its name tells its hash, which is compared each time."""
    file = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlsplit(weights.url).path).name)
    stated = re.search(r"-([0-9a-f]{8,})\.", file.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not file.exists():
            torch.hub.download_url_to_file(weights.url, str(file), stated and stated[1], progress=is_live())
    except (OSError, RuntimeError) as error:  # the connection's; of bytes with another hash
        raise OSError(
            f"cannot download the weights of {name} ({error}); look at the connection, or give a file "
            f"of weights (.pt) and --arch {name}"
        ) from error
    again = "delete it, and it is downloaded again"
    if stated and not file_sha256(file).startswith(stated[1]):
        raise ValueError(
            f"`MODEL` {name} must have its weights as they were published, got {str(file)!r} with another "
            f"hash than its name tells; {again}"
        )
    return cast("dict[str, Any]", load_tensors(file, map_location="cpu", name="MODEL", remedy=again))
