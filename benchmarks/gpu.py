"""blurlib and others on a GPU: the CUDA tests, differences from the CPU, times of batches.

    python benchmarks/gpu.py     five minutes; writes results/gpu.json and results/gpu.md

It needs blurlib with its development packages, and takes kornia, CV-CUDA (cvcuda-cu12 or -cu13) and DALI
(nvidia-dali-cuda120 or -cuda130) where they are installed. What fails is recorded with its cause, and what is
out of time is left out; neither stops the rest. Not yet run on a GPU.
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import blurlib
import timing

SECONDS = 300  # for everything
TESTS_SECONDS = 120
ROUNDS, WARM = 20, 3
SIZE = (3, 384, 512)
BATCHES = (32, 256)
DTYPES = (torch.uint8, torch.float16)
BLURS = ("D2", "D8", "D16", "L12@30", "shakes", "G2", "G4")
SLOW = 50e-3  # seconds of a call, beyond which it is timed three times only

Run = Callable[[], Any]
Makers = dict[str, Callable[[Tensor, Tensor, str], Run]]


def kernels(blur: str, count: int, device: str) -> Tensor:
    """One kernel an image: shakes differ, others are the same."""
    if blur == "shakes":
        return torch.stack([blurlib.kernels.bank_kernel(i) for i in range(count)]).to(device)
    kernel = blurlib.notation.parse(blur).kernel()
    assert kernel is not None
    return kernel.expand(count, *kernel.shape).contiguous().to(device)


def pictures(count: int, dtype: torch.dtype, device: str) -> Tensor:
    levels = torch.randint(
        0, 256, (count, *SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    return (levels if dtype == torch.uint8 else levels.to(dtype) / 255).to(device)


# --- The ways to blur, each from its library's own layout and type ---


def _padded(image: Tensor, each: Tensor) -> Tensor:
    top, left = each.shape[-2] // 2, each.shape[-1] // 2
    return F.pad(image.float(), (left, left, top, top), mode="reflect")


def _to(image: Tensor, found: Tensor) -> Tensor:
    return (
        found.round().clamp(0, 255).to(torch.uint8) if image.dtype == torch.uint8 else found.to(image.dtype)
    )


def torch_convolution(image: Tensor, each: Tensor, blur: str) -> Run:
    weights = each.float().flip(-2, -1)[:, None].repeat_interleave(image.shape[1], 0)

    def run() -> Tensor:
        found = F.conv2d(_padded(image, each).flatten(0, 1)[None], weights, groups=len(weights))
        return _to(image, found.reshape(image.shape))

    return run


def torch_fft(image: Tensor, each: Tensor, blur: str) -> Run:
    size = [n + k - 1 for n, k in zip(image.shape[-2:], each.shape[-2:], strict=True)]
    spectrum = torch.fft.rfft2(each.float(), s=size)[:, None]

    def run() -> Tensor:
        product = torch.fft.rfft2(_padded(image, each), s=size) * spectrum
        found = torch.fft.irfft2(product, s=size)[..., each.shape[-2] - 1 :, each.shape[-1] - 1 :]
        return _to(image, found)

    return run


def kornia_filter(image: Tensor, each: Tensor, blur: str) -> Run:
    from kornia.filters import filter2d

    flipped = each.flip(-2, -1).float()
    return lambda: _to(image, filter2d(image.float(), flipped, border_type="reflect"))


def torchvision_gaussian(image: Tensor, each: Tensor, blur: str) -> Run:
    import torchvision.transforms.v2.functional as tvf

    if not blur.startswith("G"):
        raise ValueError("torchvision blurs by Gaussians only")
    size, sigma = each.shape[-1], float(blur[1:])
    return lambda: tvf.gaussian_blur(image, [size, size], [sigma, sigma])


def cvcuda_convolution(image: Tensor, each: Tensor, blur: str) -> Run:
    import cvcuda

    if image.dtype != torch.uint8:
        raise ValueError("this way through CV-CUDA is for uint8 only")
    last = image.permute(0, 2, 3, 1).contiguous()
    images, filters = cvcuda.ImageBatchVarShape(len(last)), cvcuda.ImageBatchVarShape(len(last))
    images.pushback([cvcuda.as_image(one, cvcuda.Format.RGB8) for one in last])
    weights = each.flip(-2, -1).float().contiguous()
    filters.pushback([cvcuda.as_image(one, cvcuda.Format.F32) for one in weights])
    anchors = torch.full((len(last), 2), -1, dtype=torch.int32, device=image.device)
    anchor = cvcuda.as_tensor(anchors, "NC")
    return lambda: cvcuda.conv2d(images, filters, anchor, cvcuda.Border.REFLECT101)


def dali_filter(image: Tensor, each: Tensor, blur: str) -> Run:
    from nvidia.dali import fn, pipeline_def

    last = image.permute(0, 2, 3, 1).contiguous()
    weights = each.flip(-2, -1).float().contiguous()
    source = {"device": "gpu", "no_copy": True}

    @pipeline_def(batch_size=len(last), num_threads=2, device_id=0, prefetch_queue_depth=1)
    def pipeline() -> Any:
        pictures_ = fn.external_source(source=lambda: last, layout="HWC", **source)
        filters = fn.external_source(source=lambda: weights, **source)
        return fn.experimental.filter(pictures_, filters, border="reflect_101")

    built = pipeline()
    built.build()
    return built.run


WAYS: Makers = {
    "blurlib": lambda image, each, _: functools.partial(blurlib.blur, image, each),
    "blurlib, torch": lambda image, each, _: functools.partial(blurlib.blur, image, each, backend="torch"),
    "torch, grouped convolution": torch_convolution,
    "torch, FFT": torch_fft,
    "kornia filter2d": kornia_filter,
    "torchvision gaussian_blur": torchvision_gaussian,
    "CV-CUDA conv2d": cvcuda_convolution,
    "DALI filter": dali_filter,
}


# --- What is measured ---


def tested() -> dict[str, str]:
    """The CUDA tests, which here fail instead of being skipped."""
    environment = os.environ | {"BLURLIB_REQUIRE_CUDA": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests"]
    folder = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TESTS_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"tests": f"not done after {TESTS_SECONDS} s"}
    lines = done.stdout.strip().splitlines()
    return {
        "tests": lines[-1] if lines else done.stderr[-300:],
        "failed": " ".join(x for x in lines if "FAILED" in x),
    }


def differences() -> Iterator[dict[str, Any]]:
    """The largest difference between a GPU and the CPU, for what is timed."""
    for dtype in (*DTYPES, torch.float32, torch.bfloat16):
        image = pictures(4, dtype, "cpu")
        for blur in BLURS:
            each = kernels(blur, 4, "cpu")
            found = blurlib.blur(image.cuda(), each.cuda()).cpu().double()
            expected = blurlib.blur(image, each).double()
            different = (found != expected).double().mean()
            yield {
                "blur": blur,
                "dtype": str(dtype),
                "largest": float((found - expected).abs().max()),
                "share": float(different),
            }


def milliseconds(run: Run) -> float:
    """The median of a call, on the device's clock."""
    times: list[float] = []
    for turn in range(WARM + ROUNDS):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        stop.record()
        torch.cuda.synchronize()
        if turn >= WARM:
            times.append(start.elapsed_time(stop))
        if turn > WARM + 2 and times[-1] > 1e3 * SLOW:
            break
    return round(statistics.median(times), 4)


def timed(end: float) -> Iterator[dict[str, Any]]:
    for batch in BATCHES:
        for dtype in DTYPES:
            image = pictures(batch, dtype, "cuda")
            for blur in BLURS:
                each = kernels(blur, batch, "cuda")
                row: dict[str, Any] = {"blur": blur, "batch": batch, "dtype": str(dtype), "failed": {}}
                for name, make in WAYS.items():
                    if time.monotonic() > end:
                        row["failed"][name] = "out of time"
                        continue
                    try:
                        row[name] = milliseconds(make(image, each, blur))
                    except Exception as error:
                        row["failed"][name] = f"{type(error).__name__}: {error}"[:200]
                        torch.cuda.empty_cache()
                print(row, flush=True)
                yield row


def page(record: dict[str, Any]) -> str:
    """The times as a table in Markdown."""
    lines = [
        f"# Blurs on {record['device']}",
        "",
        f"Milliseconds, medians of {ROUNDS}, for batches of 3 x 384 x 512 with one kernel an image.",
        f"{record['date']}, commit {record['commit']}. CUDA tests: {record['tests']}.",
        "",
        "| blur | batch | dtype | " + " | ".join(WAYS) + " |",
        "|:--|--:|:--|" + "--:|" * len(WAYS),
    ]
    for row in record["times"]:
        cells = " | ".join(f"{row[name]:.3f}" if name in row else "" for name in WAYS)
        lines.append(f"| {row['blur']} | {row['batch']} | {row['dtype'].removeprefix('torch.')} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    timing.parser(__doc__).parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: benchmarks/gpu.py measures on one; gpu_model.py models without one")
    end = time.monotonic() + SECONDS
    record = timing.environment() | {
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "backend": blurlib.backends()["cuda"],
    }
    print(record["device"], record["backend"], flush=True)
    record |= tested()
    print(record["tests"], flush=True)
    record["differences"] = list(differences())
    record["times"] = list(timed(end))
    print("written:", timing.write("gpu", record))
    (timing.RESULTS / "gpu.md").write_text(page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
