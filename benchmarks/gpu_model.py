"""The kernels for CUDA without a GPU: what the compiler makes of them, and a model of their time.

    python benchmarks/gpu_model.py     compiles all for sm_90, half a minute; writes results/gpu_model.json

Times are modelled, not measured. The machine code says how many instructions and loads the inner loops take
for a tap and a pixel; a kernel takes the longest of issuing them, of its loads from L1, and of its traffic to
memory, at the rates of an H100 SXM, as if nothing waited. A launch is a flat 5 us. What an image's other ways
cost, whose programs return at once, is left out, and so are waves of programs that do not fill the GPU.
"""

from __future__ import annotations

import collections
import dataclasses
import inspect
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import blurlib
import timing

# H100 SXM: processors, lanes of instructions and of loads a cycle in each, cycles and bytes a second.
PROCESSORS, LANES, LOADS, CLOCK, MEMORY = 132, 128, 32, 1.755e9, 3.35e12
# Products a cycle of float16 on tensor cores of a processor: by older instructions 0.62 of Hopper's.
PRODUCTS = 0.62 * 2048
REGISTERS, WARPS, BLOCKS = 65536, 64, 32
LAUNCH = 5e-6
# The batch of the figures: images of bytes.
BATCH, ROWS, COLUMNS = 256 * 3, 384, 512
# Instructions a pixel outside of the inner loops, by eye in flat: sums out of 16 bits, division, store.
BETWEEN = 14
GOALS = {"disk 8": 0.5, "15 x 15, dense": 1.5}  # milliseconds

_TYPES = {
    torch.uint8: "u8",
    torch.int32: "i32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
}


@dataclasses.dataclass(frozen=True)
class Version:
    """One compilation of a kernel: by the types of its arguments and by its constants.

    Attributes:
        name: the kernel's, with the type of its images.
        kernel: the function's name.
        module: where it is.
        signature: parameter and type.
        constants: parameter and value.
        warps: of 32 threads, that share a tile.
    """

    name: str
    kernel: str
    module: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, int], ...]
    warps: int

    def compiled(self, capability: int) -> Any:
        """Machine code and intermediate code, for a GPU that need not be there."""
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        function = getattr(_module(self.module), self.kernel)
        aligned = {
            (number,): [["tt.divisibility", 16]]
            for number, (name, kind) in enumerate(self.signature)
            if kind.startswith("*") and name not in ("source", "result")
        }
        source = ASTSource(function, dict(self.signature), constexprs=dict(self.constants), attrs=aligned)
        return triton.compile(
            source,
            target=GPUTarget("cuda", capability, 32),
            options={"num_warps": self.warps, "num_stages": 1},
        )

    @property
    def pixels(self) -> int:
        """Those that one thread sums."""
        size = dict(self.constants)
        tile = size.get("WORDS", 0) * 4 or size["ROWS"] * size["BLOCK"] * (4 if self._has_words else 1)
        return tile // (32 * self.warps)

    @property
    def _has_words(self) -> bool:
        return dict(self.constants).get("IS_BYTES", False) and self.kernel != "lines"


def _module(name: str) -> Any:
    from blurlib._engine import triton_flat, triton_kernels, triton_plan

    return {"triton_flat": triton_flat, "triton_kernels": triton_kernels, "triton_plan": triton_plan}[name]


def versions() -> list[Version]:
    """All that blur() can ask for: what it would launch for every type, layout and kind of kernel."""
    from blurlib._engine import triton_backend

    found: dict[Version, None] = {}

    def record(module: str, kernel: str, current: torch.dtype) -> Any:
        function = getattr(_module(module), kernel)

        def launch(*args: Any, **kwargs: Any) -> None:
            warps, _ = kwargs.pop("num_warps"), kwargs.pop("num_stages", None)
            bound = inspect.signature(function.fn).bind(*args, **kwargs).arguments
            kinds = function.fn.__annotations__
            constants = {name: value for name, value in bound.items() if "constexpr" in str(kinds.get(name))}
            signature = {}
            for name, value in bound.items():
                if isinstance(value, torch.Tensor):
                    signature[name] = f"*{_TYPES[value.dtype]}"
                else:
                    signature[name] = (
                        "constexpr"
                        if name in constants
                        else str(kinds.get(name, "")).replace("int", "i") or "i32"
                    )
            name = f"{kernel} {_TYPES[current]}"
            if kernel == "plan":
                name = kernel
            elif kernel == "flat":
                name = f"flat {constants['WORDS']}"
            found[
                Version(name, kernel, module, tuple(signature.items()), tuple(constants.items()), warps)
            ] = None

        return mock.MagicMock(__getitem__=lambda *_: launch)

    for dtype in (torch.uint8, torch.float16, torch.bfloat16, torch.float32):
        with (
            mock.patch.multiple(
                _module("triton_plan"),
                **{name: record("triton_plan", name, dtype) for name in ("plan", "copy_with_border")},
            ),
            mock.patch.object(_module("triton_flat"), "flat", record("triton_flat", "flat", dtype)),
            mock.patch.multiple(
                _module("triton_kernels"),
                **{
                    name: record("triton_kernels", name, dtype)
                    for name in ("general", "dense", "columns", "lines")
                },
            ),
        ):
            for layout in (torch.contiguous_format, torch.channels_last):
                for side, width in (((1, 5), 8), ((5, 5), 512)):
                    image = torch.empty((2, 3, 9, width), dtype=dtype).contiguous(memory_format=layout)
                    triton_backend.blur_triton(image, torch.empty(side), "reflect")
                    triton_backend.blur_triton(image, torch.empty((2, *side)), "reflect")
    return list(found)


# --- Machine code ---


def _tool(name: str, *options: str, cubin: bytes) -> str:
    import triton

    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run(
            [folder / name, *options, file.name], check=True, capture_output=True, text=True
        ).stdout


def resources(cubin: bytes) -> dict[str, int]:
    """Registers of a thread, bytes that did not fit them, bytes of shared memory."""
    text = _tool("cuobjdump", "-res-usage", cubin=cubin)
    found = dict(re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", text))
    return {
        "registers": int(found["REG"]),
        "spilled": int(found["STACK"]) + int(found["LOCAL"]),
        "shared": int(found["SHARED"]),
    }


@dataclasses.dataclass
class Loop:
    """One turn of an innermost loop, in one thread.

    Attributes:
        instructions: their number.
        loads: in lanes of four bytes: one of 16 bytes counts four times.
        sums: of those instructions that add up pixels.
    """

    instructions: int
    loads: float
    sums: int


def loops(cubin: bytes) -> Iterator[Loop]:
    """The innermost loops that load."""
    code: list[str] = []
    labels: dict[str, int] = {}
    for line in _tool("nvdisasm", "-c", cubin=cubin).splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            code.append(re.sub(r"^@!?U?P\w+\s+", "", instruction[1].strip()))
    ranges = []
    for end, text in enumerate(code):
        jump = re.search(r"BRA.*`\((\.L_x_\d+)\)", text)
        if jump and labels[jump[1]] <= end:
            ranges.append((labels[jump[1]], end + 1))
    for start, stop in ranges:
        if any((a, b) != (start, stop) and start <= a and b <= stop for a, b in ranges):
            continue
        names = [text.split()[0] for text in _usual(code, labels, start, stop)]
        wide = {"64": 2, "128": 4}
        loads = sum(wide.get(name.rsplit(".", 1)[-1], 1) for name in names if name.startswith("LDG"))
        if loads:
            counts = collections.Counter(name.split(".")[0] for name in names)
            yield Loop(len(names), loads, counts["FFMA"] or counts["SHF"])


def _usual(code: list[str], labels: Mapping[str, int], start: int, stop: int) -> Iterator[str]:
    """A loop without what it jumps over and which neither loads nor stores: the border's rows."""
    at = start
    while at < stop:
        yield code[at]
        jump = re.search(r"BRA.*`\((\.L_x_\d+)\)", code[at])
        target = labels[jump[1]] if jump else 0
        if at < target < stop and not any(re.match("LDG|STG", text) for text in code[at:target]):
            at = target
        else:
            at += 1


def per_tap(version: Version, cubin: bytes) -> dict[str, float]:
    """Instructions and loads for one tap and one pixel, of the loop that takes most taps at a time.

    Flat kernels take two rows at a time from the row above; a strip's `first` row is counted by itself.
    """
    taps = 4 if version.kernel in ("flat", "general", "lines") else 1
    *_, first, loop = (None, *sorted(loops(cubin), key=lambda loop: (loop.loads, loop.instructions)))
    work = taps * version.pixels * (2 if version.kernel == "flat" else 1)
    found = {"instructions": round(loop.instructions / work, 3), "loads": round(loop.loads / work, 3)}
    if version.kernel == "flat":
        found["strip"] = dict(version.constants)["ROWS"]
        found["first_instructions"] = round(2 * first.instructions / work, 3)
        found["first_loads"] = round(2 * first.loads / work, 3)
    return found


def occupancy(version: Version, used: Mapping[str, int]) -> float:
    """The share of a processor's warps that find room, by registers and blocks."""
    blocks = min(
        BLOCKS, WARPS // version.warps, REGISTERS // (32 * version.warps * (-(-used["registers"] // 8) * 8))
    )
    return blocks * version.warps / WARPS


# --- Time ---


def seconds(
    taps: float,
    costs: Mapping[str, float],
    elements: float,
    traffic: float,
    products: float = 0,
    between: float = BETWEEN,
) -> float:
    """Of one launch: issue, loads, tensor cores or memory, whichever takes longest."""
    issue = elements * (taps * costs["instructions"] + between) / (PROCESSORS * LANES * CLOCK)
    loads = elements * taps * costs["loads"] / (PROCESSORS * LOADS * CLOCK)
    tensor = elements * products / (PROCESSORS * PRODUCTS * CLOCK)
    return max(issue, loads, tensor, traffic / MEMORY) + LAUNCH


def modelled(costs: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Milliseconds for 256 images of 3 x 384 x 512 bytes. Modelled, not measured."""
    elements = BATCH * ROWS * COLUMNS

    def copy(side: int) -> float:
        bordered = BATCH * (ROWS + side - 1) * (COLUMNS + side - 1)
        return seconds(1, costs["copy_with_border u8"], bordered, elements + bordered, between=0)

    def flat(radius: int) -> float:
        taps = int((blurlib.kernels.disk(radius) > 0).sum())
        changes = 2 * (2 * radius + 1)
        used = costs["flat 128"]
        strips = -(-ROWS // int(used["strip"]))  # each begins anew
        row = {
            kind: (strips * taps * used[f"first_{kind}"] + (ROWS - strips) * changes * used[kind]) / ROWS
            for kind in ("instructions", "loads")
        }
        return copy(2 * radius + 1) + seconds(1, row, elements, 2 * elements)

    def general(taps: int, side: int) -> float:
        return copy(side) + seconds(taps, costs["general u8"], elements, 2 * elements)

    def dense(side: int) -> float:
        steps = side * -(-(side + 31) // 32)  # a kernel's row in blocks of 32 columns
        return copy(side) + seconds(steps, costs["dense u8"], elements, 2 * elements, 64 * steps)

    def rank_one(side: int) -> float:
        down = seconds(side, costs["columns u8"], elements, 5 * elements)
        return copy(side) + down + seconds(side, costs["lines u8"], elements, 5 * elements)

    shake = blurlib.kernels.bank_kernel(3)
    found = {
        "disk 2": flat(2),
        "disk 8": flat(8),
        "disk 16": flat(16),
        f"camera shake, {int((shake > 0).sum())} taps": general(int((shake > 0).sum()), 17),
        "15 x 15, dense": dense(15),
        "33 x 33, dense": dense(33),
        "Gaussian, sigma 2": rank_one(17),
        "Gaussian, sigma 4": rank_one(33),
        "copy with border, side 17": copy(17),
    }
    return {
        name: {"modelled_ms": round(1e3 * value, 3), "moving_ms": round(2e3 * elements / MEMORY, 3)}
        | ({"goal_ms": GOALS[name]} if name in GOALS else {})
        for name, value in found.items()
    }


def main() -> None:
    timing.parser(__doc__).parse_args()
    import triton

    table, costs = {}, {}
    for version in versions():
        cubin = version.compiled(90).asm["cubin"]
        used = resources(cubin)
        row: dict[str, Any] = {**used, "occupancy": occupancy(version, used), "warps": version.warps}
        if version.kernel == "copy_with_border":
            loop = list(loops(cubin))[-1]
            each = dict(version.constants)["BLOCK"] // (32 * version.warps)
            row |= {"instructions": round(loop.instructions / each, 3), "loads": round(loop.loads / each, 3)}
        elif version.kernel != "plan":
            row |= per_tap(version, cubin)
        table[version.name] = costs[version.name] = row
        print(version.name, row)
    times = modelled(costs)
    for name, row in times.items():
        print(f"{name}: {row['modelled_ms']} ms, modelled, not measured; goal {row.get('goal_ms', 'none')}")
    record = timing.environment()
    record["versions"]["triton"] = triton.__version__
    note = "modelled, not measured: 256 x 3 x 384 x 512 bytes on an H100 SXM"
    print("written:", timing.write("gpu_model", record | {"note": note, "kernels": table, "times": times}))


if __name__ == "__main__":
    main()
