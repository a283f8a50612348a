"""How a user's code is typed, read by mypy and pyright in tests/test_typing.py; it is never run."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from typing_extensions import assert_type

import blurlib
from blurlib.blurs import Blur, Disk, PointSpread
from blurlib.functional import Constant, apply
from blurlib.notation import parse, parse_list, parse_mix
from blurlib.reporting import Change, Comparison, ComparisonRow, Record
from blurlib.training import FinetuneResult

photo = torch.zeros(3, 384, 512, dtype=torch.uint8)
array = np.zeros((384, 512, 3), dtype=np.uint8)
kernel = blurlib.kernels.disk(4)

# Blurs: what goes in comes out.
assert_type(kernel, Tensor)
assert_type(blurlib.blur(photo, kernel, border="symmetric"), Tensor)
assert_type(blurlib.blur(array, kernel, border=Constant(0)).dtype, np.dtype[Any])
assert_type(apply(PIL.Image.new("RGB", (64, 48)), "D4"), PIL.Image.Image)
assert_type(apply(photo, Disk(4), scale=0.5), Tensor)
assert_type(parse("D4"), Blur)
assert_type(parse_list("sharp, D4"), tuple[Blur, ...])
assert_type(parse_mix("sharp + D4"), dict[Any, float])
assert_type(Disk(4).radius, float)
assert_type(PointSpread(np.ones((3, 3)), name="lens").kernel(), Tensor)

# Transforms and mixes.
assert_type(blurlib.DiskBlur(radius=(1, 8)).draw(), Blur)
mix = blurlib.BlurMixSampler({"sharp": 0.5, blurlib.CameraShakeBlur(): 0.5}, seed=1)
assert_type(mix.draw(7, epoch=1), Blur)
assert_type(mix.kernels([0, 1], epoch=1), Tensor)


def measured(model: nn.Module, folder: Path) -> Comparison:
    """The three calls of the README."""
    before = blurlib.evaluate(model, folder, blurs=["sharp", Disk(4)], scales=[256, (256, 512)], limit=100)
    result = blurlib.finetune(
        model, str(folder), blur="sharp + D4", epochs=(2, 1), lr=(1e-3, 1e-4), amp="bf16"
    )
    after = blurlib.evaluate(result.model, folder, blurs="sharp, D4", crops="five")
    assert_type(before, blurlib.Report)
    assert_type(result, FinetuneResult)
    assert_type(result.weights, Path | None)
    assert_type(after["D4", 256], Record)
    assert_type(after.blurs, tuple[str, ...])
    assert_type(after.to_dict(), dict[str, Any])
    assert_type(blurlib.Report.load(folder), blurlib.Report)
    comparison = blurlib.compare([after], before, control=None)
    assert_type(comparison["D4"], ComparisonRow)
    assert_type(comparison["D4"].changes["top1"], Change)
    assert_type(comparison["D4"].recovered, float | None)
    return comparison


# Mistakes are seen before anything runs: without the comment each line is an error.
blurlib.blur(photo, kernel, border="mirror")  # type: ignore[call-overload]
blurlib.blur([[0.0]], kernel)  # type: ignore[call-overload]
blurlib.evaluate(nn.Identity(), "imagenet", crops="six")  # type: ignore[arg-type]
blurlib.finetune(nn.Identity(), "imagenet", schedule="linear")  # type: ignore[arg-type]
blurlib.DiskBlur(radius="4")  # type: ignore[arg-type]
