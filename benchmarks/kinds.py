"""What each kind of plan costs for one kernel: the measurements that the planner's constants are fitted to.

    python benchmarks/kinds.py            picoseconds for an element, every kind that can apply the kernel

Minimum of thread CPU times over many runs of one loop on 3 x 384 x 512, into memory that is there.
"""

from __future__ import annotations

import time
from unittest import mock

import torch

from blurlib import _processor, _taps, plans
from blurlib.blurs import parse_list

BLURS = "D2, D4, D8, D16, D2a, D4a, D8a, D16a, H5, H9, H33, V5, V17, L8@30, L16@30, L32@30, S17, G1, G4, G8"
CHEAP = {
    "integers": ("_BYTE", "_FIXED", "_GROUP"),
    "weighted": ("_PAIR",),
    "separable": ("_DOWN", "_ALONG"),
    "box": ("_BOX",),
    "fft": ("_FFT",),
}
RUNS = 40


def forced(kernel: torch.Tensor, arithmetic: str, favourite: str) -> plans.Plan:
    """The plan that the planner makes when one kind costs next to nothing."""
    prices = {name: 1e9 for names in CHEAP.values() for name in names} | dict.fromkeys(CHEAP[favourite], 1e-3)
    prices["_BOX"] = (prices["_BOX"],) * 2  # for bytes and floats
    with mock.patch.multiple(plans, **prices):
        return plans._plan_of(kernel.numpy().tobytes(), *kernel.shape, arithmetic)  # noqa: SLF001  not a kept one


def picoseconds(chosen: plans.Plan, image: torch.Tensor) -> float:
    layout = _processor._layout(image.shape, image.stride())  # noqa: SLF001  one loop of a blur is measured
    assert layout is not None
    result = torch.empty_like(image)
    job = _processor._job(chosen, image, result, layout, range(3), "reflect")  # noqa: SLF001  likewise
    units = 3 if chosen.kind == "fft" else 3 * -(-image.shape[1] // _processor.STRIP)
    times = []
    for _ in range(RUNS + 1):
        start = time.thread_time()
        job(0, units)
        times.append(time.thread_time() - start)
    return min(times[1:]) * 1e12 / image.numel()


def main() -> None:
    torch.set_num_threads(1)
    photograph = torch.randint(0, 256, (3, 384, 512), dtype=torch.uint8)
    for blur in parse_list(BLURS):
        kernel = blur.kernel()
        found = _taps.survey(kernel.numpy())
        line = f"{blur!s:8}taps {found.taps:5} pairs {found.pairs:5} groups {found.groups:4} "
        line += f"core {found.core_taps:5} changes {found.core_changes:3} "
        for image, arithmetic in ((photograph, "bytes"), (photograph / 255, "single")):
            line += f"| {arithmetic} "
            kinds = {plan.kind: plan for plan in (forced(kernel, arithmetic, name) for name in CHEAP)}
            line += ", ".join(f"{kind} {picoseconds(plan, image):.0f}" for kind, plan in kinds.items())
        print(line, flush=True)


if __name__ == "__main__":
    main()
