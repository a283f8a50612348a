"""The command that looks whether blurlib works here."""

from __future__ import annotations

import json as plain_json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from ..reporting import plain_table
from .installation import advice, facts
from .options import Json, results
from .self_check import checks, times


@dataclass(frozen=True, kw_only=True)
class _Diagnosis:
    """What was found, as plain values; it prints as text."""

    found: Mapping[str, Any]

    def to_json(self) -> str:
        return plain_json.dumps(self.found, indent=1) + "\n"

    def __str__(self) -> str:
        known = self.found
        advice = [f"To look at: {each['found']}.\n  Remedy: {each['remedy']}." for each in known["advice"]]
        return "\n\n".join(
            [
                _packages_text(known),
                _devices_text(known),
                f"The engine against a sum in float64 ({known['seconds']:.1f} s):",
                _checks_text(known["checks"]),
                "A photograph of 384 x 512 px, RGB, 8 bits, fastest call:",
                _times_text(known["times"]),
                *advice,
                _verdict(known),
            ]
        ).replace(":\n\n", ":\n")


def doctor(json: Json = False) -> None:
    """Look whether blurlib works here: versions, devices, the engine against its definition, times.

    It blurs small images on each device and compares them with sums in float64, and times five blurs beside
    OpenCV's where that is installed. What is not right is told with its remedy. The exit code is 1 where the
    engine is wrong.

    For example:

        blurlib doctor
        blurlib doctor --json > doctor.json
    """
    with results(json) as show:
        found = facts()
        found["advice"] = [{"found": what, "remedy": remedy} for what, remedy in advice(found)]
        started = time.perf_counter()
        found["checks"] = list(checks())
        found["seconds"] = time.perf_counter() - started
        found["times"] = list(times())
        found["ok"] = all(each["ok"] for each in found["checks"])
        show(_Diagnosis(found=found))
    if not found["ok"]:
        raise typer.Exit(1)


def _packages_text(known: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in known["packages"].items())
    extras = known["extras"]
    there = ", ".join(name for name, missing in extras.items() if not missing)
    lines = [f"blurlib {known['blurlib']}, Python {known['python']}, {known['system']}", versions]
    lines += [f"Extras: {there}"] if there else []
    for name, missing in extras.items():
        if missing:
            lines.append(f'Extra {name}: without {", ".join(missing)} (pip install "blurlib[{name}]")')
    return "\n".join(lines)


def _devices_text(known: Mapping[str, Any]) -> str:
    cpu = f"{known['processor']}, {known['cores']} cores, {known['threads']} threads"
    gpus = ", ".join(known["gpus"]) or "none"
    gpus += f"; blurs by {known['backends']['cuda']}" if known["gpus"] else ""
    built = f"for CUDA {known['cuda']}" if known["cuda"] else "without CUDA"
    return f"CPU: {cpu}; blurs by {known['backends']['cpu']}\nGPU: {gpus}; torch is built {built}"


def _checks_text(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            f"{each['device']} {each['dtype']}",
            "right" if each["ok"] else "WRONG",
            "-" if each["difference"] is None else f"{each['difference']:.2g}",
            f"{each['allowed']:.2g}",
        ]
        for each in rows
    ]
    wrong = [f"{each['device']} {each['dtype']}, {each['worst']}" for each in rows if not each["ok"]]
    return "\n".join([plain_table(["", "", "difference", "allowed"], cells), *wrong])


def _times_text(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for each in rows:
        own, other = each["blurlib_ms"], each["opencv_ms"]
        line = [each["blur"], f"{own:.2f} ms"]
        cells.append(line if other is None else [*line, f"{other:.2f} ms", f"{other / own:.1f}"])
    compared = ["OpenCV", "times as long"] if len(cells[0]) > 2 else []
    return plain_table(["", "blurlib", *compared], cells) + (
        "" if compared else "\n(OpenCV is not installed)"
    )


def _verdict(known: Mapping[str, Any]) -> str:
    if known["ok"]:
        return "blurlib works here."
    wrong = ", ".join(f"{each['device']} {each['dtype']}" for each in known["checks"] if not each["ok"])
    return (
        f"The engine is WRONG: {wrong}. Install blurlib again; if it stays so, report it with the output of "
        '`blurlib doctor --json`. Until then blur(..., backend="torch") takes torch\'s operations.'
    )
