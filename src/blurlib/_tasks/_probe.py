"""One forward pass before the work: how a network takes images, and what to change where it does not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._common.model_config import config_values
from ..protocol import normalised

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's convert("L")
_USUAL_SIDES = (224, 256, 299, 384, 448, 512, 128, 96, 64, 32, 28)
_HALF = (torch.float16, torch.bfloat16)


class Feed(NamedTuple):
    """How a network takes images: of which type, in colour or grey."""

    dtype: torch.dtype
    channels: int = 3

    def images(self, views: Tensor, mean: Iterable[float], std: Iterable[float]) -> Tensor:
        """Its input: uint8 views (B, 3, h, w), normalised; of one channel, the luminance of these."""
        batch = normalised(views, tuple(mean), tuple(std))
        if self.channels == 1:
            batch = (batch * batch.new_tensor(_LUMINANCE).view(3, 1, 1)).sum(dim=-3, keepdim=True)
        return batch.to(self.dtype)

    def empty(self, count: int, size: Sequence[int], device: torch.device) -> Tensor:
        return torch.zeros(count, self.channels, *size, dtype=self.dtype, device=device)


class Probe(NamedTuple):
    """A pass at one size: what the network was given, and what it returned."""

    images: Tensor
    result: object


def check_network(model: object) -> None:
    """Refuse what is no network, and a network without weights."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module, got {type(model).__name__}")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise ValueError(  # noqa: TRY004  a network like others, but not yet
                f"`model` must have run once, got {name!r} without a shape (a lazy layer); call "
                "model(torch.zeros(1, 3, 224, 224)) first"
            )
        if tensor.is_meta:
            raise ValueError(
                f'`model` must have weights, got {name!r} on the device "meta", where tensors have none; '
                "build it on the CPU, or load its weights by model.load_state_dict(..., assign=True)"
            )


def parameter_dtype(model: nn.Module) -> torch.dtype:
    """The type in which a network computes."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def probe(
    network: nn.Module,
    sizes: Iterable[Sequence[int]],
    device: torch.device,
    *,
    count: int,
    settings: str,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> tuple[Feed, list[Probe]]:
    """Run a network on empty images of each size, as the run will: how it is fed, and what it gives.

    `settings` names the arguments that decide the sizes; `context` is what the run's passes are in.
    """
    colour = Feed(parameter_dtype(network))
    feeds = [colour, colour._replace(channels=1)]
    found: list[Probe] = []
    # Uncompiled: what is compiled for two empty images is of no use to the run.
    with torch.compiler.set_stance("force_eager"):
        for size in sizes:
            failures: list[tuple[Tensor, Exception]] = []
            for feed in feeds:
                images = feed.empty(count, size, device)
                result = _passed(network, images, context)
                if not isinstance(result, Exception):
                    found.append(Probe(images, result))
                    feeds = [feed]
                    break
                failures.append((images, result))
            else:
                images, failure = failures[-1 if _stem_channels(network) == 1 else 0]
                remedy = _remedy(network, images, settings, context)
                otherwise = f"choose {settings} to fit it, or wrap it in a module that takes such images"
                raise _refusal(images, failure, remedy or otherwise) from failure
    return feeds[0], found


def compiler_failed(error: BaseException) -> bool:
    """Whether it is torch.compile that failed."""
    dynamo = sys.modules.get("torch._dynamo.exc")  # else nothing was compiled
    return dynamo is not None and isinstance(error, dynamo.TorchDynamoException)


def applied(
    network: nn.Module,
    images: Tensor,
    *,
    settings: str,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    call: Callable[[Tensor], Any] | None = None,
) -> Any:
    """What a network (or `call`, a method of it) returns in the run.

    Images have sizes there that no probe knows. An error of theirs becomes a ValueError; others stay.
    """
    try:
        with context():
            return (call or network)(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # Processes that wait for each other in a layer are not to try anything out alone.
        together = dist.is_available() and dist.is_initialized()
        if compiler_failed(error) or together or not isinstance(_passed(network, images, context), Exception):
            raise
        remedy = _remedy(network, images, settings, context)
        if remedy is None:
            raise
        raise _refusal(images, error, remedy) from error


def _refusal(images: Tensor, error: Exception, remedy: str) -> ValueError:
    kind = str(images.dtype).removeprefix("torch.")
    return ValueError(
        f"`model` must take images of {tuple(images.shape)}, {kind} on {images.device}, got the error "
        f"{said(error)!r}; {remedy}"
    )


def said(error: Exception) -> str:
    """The line of an error that tells most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[-1] if "TorchScript interpreter" in lines[0] else lines[0]
    if not isinstance(error, (AssertionError, RuntimeError, TypeError, ValueError)):
        line = f"{type(error).__name__}: {line}"  # a KeyError says the key alone
    return line if len(line) <= 200 else f"{line[:197]}..."


def score_count(images: Tensor, scores: Tensor) -> int:
    """How many classes a network has, by its scores (B, classes, ...)."""
    if len(scores) != len(images):
        raise ValueError(
            f"`model` must return scores for each image, {len(images)} rows, got {tuple(scores.shape)}; keep "
            "the first axis for the images"
        )
    return scores.shape[1]


def tensors(result: object) -> Iterator[Tensor]:
    """Every floating tensor in what a network returns."""
    if isinstance(result, Tensor):
        yield from (result,) if result.is_floating_point() else ()
    elif isinstance(result, (Mapping, tuple, list)):
        for part in result.values() if isinstance(result, Mapping) else result:
            yield from tensors(part)


def _passed(network: nn.Module, images: Tensor, context: Callable[[], AbstractContextManager[Any]]) -> object:
    """What the network returns; its error where it fails."""
    try:
        with torch.no_grad(), context():
            return network(images)
    except torch.OutOfMemoryError:  # not the network's
        raise
    except Exception as error:
        return error


def _stem_channels(network: nn.Module) -> int | None:
    """Channels of the images that its first convolution takes."""
    return next((p.shape[1] for p in network.parameters() if p.ndim == 4), None)


def _remedy(
    network: nn.Module,
    images: Tensor,
    settings: str,
    context: Callable[[], AbstractContextManager[Any]],
) -> str | None:
    """What to change, found by trying it out."""

    def takes(count: int, channels: int, size: tuple[int, ...]) -> bool:
        result = _passed(network, images.new_zeros(count, channels, *size), context)
        return not isinstance(result, Exception)

    count, channels, size = len(images), images.shape[1], tuple(images.shape[2:])
    sides = _sides(network, size)
    if count > 1 and takes(1, channels, size):
        return "it takes one image at a time: pass batch_size=1, or export it for batches of any size"
    for other in (2, 4, 8, 16, 32, 64):
        if other != count and takes(other, channels, size):
            return f"it takes only batches of {other} images: export it for batches of any size"
    own = _stem_channels(network)
    if own not in (None, 1, 3) and any(takes(count, own, each) for each in (size, *sides)):
        return (
            f"it takes images of {own} channels, where photographs have 3 (grey 1): put a layer before it, "
            f"torch.nn.Sequential(torch.nn.Conv2d(3, {own}, 1), model)"
        )
    for each in sides:
        if each != size and takes(count, channels, each):
            return f"it takes {each[0]} x {each[1]}: choose {settings} to fit it"
    types = {p.dtype for p in network.parameters() if p.is_floating_point()}
    if len(types) > 1:
        names = " and ".join(sorted(str(each).removeprefix("torch.") for each in types))
        return f"its weights are of several types, {names}: pass model.float()"
    if images.dtype in _HALF:
        return "pass model.float(), if its layers cannot compute in half precision here"
    return None


def _sides(network: nn.Module, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Sizes to try: those that the network names, the next multiple of 32, and usual ones."""
    named: list[Any] = config_values(network, "input_size")  # timm's (3, h, w)
    for module in network.modules():
        named += [getattr(module, name, None) for name in ("image_size", "img_size")]
    named += [tuple(-(-side // 32) * 32 for side in size), *_USUAL_SIDES]
    sizes = [(each, each) if isinstance(each, int) else each for each in named]
    return list(
        dict.fromkeys(tuple(each[-2:]) for each in sizes if isinstance(each, (tuple, list)) and len(each) > 1)
    )
