"""The page of the speed results, its plots, and README's short table, from the newest records.

`python benchmarks/engine.py --page` calls it. It needs matplotlib and the records, none of the rivals.
"""

from __future__ import annotations

import json
from pathlib import Path

import goals
import speed_plots
import speed_tables as tables
from blurlib.tables import markdown_table
from cells import BLURS, words
from goals import FLOOR, SIZE, Record

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "results" / "speed.md"
SHORT = "speed.md"  # README's table, in the folder of the records, where docs/tables.py looks for it


def newest(kind: str, folder: Path = RESULTS) -> tuple[Record, str] | None:
    """The newest record of a kind and its file's name, or None."""
    found = [(json.loads(path.read_text("utf-8")), path.name) for path in folder.glob(f"{kind}_*.json")]
    return max(found, key=lambda entry: entry[0]["date"], default=None)


def write(results: Path = RESULTS, page: Path = PAGE) -> list[str]:
    """Write page, plots and short table, and return their paths."""
    speed, pipeline = newest("speed", results), newest("pipeline", results)
    if speed is None:
        raise SystemExit(f"there is no speed_*.json in {results}; run `make bench` first")
    texts = {page: text(results), results / SHORT: short(speed[0])}
    for name, svg in speed_plots.drawings(speed[0], pipeline and pipeline[0]).items():
        texts[page.parent / name] = svg
    for path, content in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return [str(path) for path in texts]


def short(record: Record) -> str:
    """README's table, and where it comes from."""
    return f"""{tables.short_table(record)}

A picture of 3 x 384 x 512 bytes in torch's layout, border `reflect`, one thread: our time, and how many times
as long others take for the same result, with the change of layout or type that they need.
{record["processor"]}, {record["date"][:10]}.
"""


def text(results: Path = RESULTS) -> str:
    """The whole page."""
    found = {kind: newest(kind, results) for kind in ("speed", "memory", "pipeline")}
    if found["speed"] is None:
        raise SystemExit(f"there is no speed_*.json in {results}; run `make bench` first")
    files = ", ".join(f"`benchmarks/results/{entry[1]}`" for entry in found.values() if entry)
    speed = found["speed"][0]
    memory, pipeline = (found[kind] and found[kind][0] for kind in ("memory", "pipeline"))
    parts = (
        _head(speed, files),
        _asked(speed, memory, pipeline),
        _one_size(speed),
        _all_sizes(speed),
        _batches(speed),
        _growth(speed),
        _memory(memory) if memory else "",
        _pipeline(pipeline) if pipeline else "",
        _compiled(speed),
        _rules(speed),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(record: Record, files: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    first, last = record["load"][0], record["load"][-1]
    remark = f"\n- {record['note']}" if record.get("note") else ""  # of a record that was not made in one go
    return f"""# Speed

How long `blurlib.blur` takes, and how long others take for the same picture. `make bench` measures it, and
`python benchmarks/engine.py --page` writes this page from {files}; do not edit it.

Each rival is called as its users call it, in its natural memory layout and type: a user of CHW tensors pays
for OpenCV's HWC there and back, a user of HWC arrays for torch's CHW, a user of bytes for a floating rival's
conversion and rounding. Before anything is timed, each picture is compared with a float64 reference. Then all
variants of one image size run once a round, in an order drawn anew for each round. Times are medians of
thread CPU time, or of the wall clock with two threads; what counts are ratios within one run. A rival's
ratio is its median divided by ours: above 1 it is slower.

- {record["processor"]}, {record["cores"]} cores; {record["system"]}
- {versions}
- commit {record["commit"]}, {record["date"]}; load average {first} before, {last} after{remark}"""


def _asked(speed: Record, memory: Record | None, pipeline: Record | None) -> str:
    figures = goals.asked(speed, memory, pipeline)
    ratios = [figure for figure in figures if figure.what == "ratio"]
    others = [figure for figure in figures if figure.what != "ratio"]
    missed = sum(not figure.met for figure in figures)
    return f"""## Asked and measured

{len(figures)} figures, {missed} of them missed (✗). The ratios are those of the best rival, for one image of
3 x 384 x 512 and one thread; our own formulations of the same idea in plain torch count among the rivals.

{tables.ratios_table(ratios)}

![The best rival's ratio for every blur and layout](speed-ratios.svg)

{tables.figures_table(others)}"""


def _one_size(record: Record) -> str:
    return f"""## One image of 384 x 512

First ours: milliseconds; picoseconds for each element of the image and each tap, a pixel of the kernel that
is not zero; and the time divided by that of copying the image. Then the ratios of all rivals, the best one's
in bold; in parentheses those that never count as the best, for the reason given at the end of this page.

{tables.one_size(record)}"""


def _all_sizes(record: Record) -> str:
    return f"""## Every size

Ours, and the best rival's ratio.

{tables.all_sizes(record)}"""


def _batches(record: Record) -> str:
    parts = []
    if table := tables.batches(record):
        parts += [f"`disks`: {words('disks')}; `shakes`: {words('shakes')}.", table]
    if table := tables.two_threads(record):
        parts += ["How many times as fast blurlib is on two threads as on one, by the wall clock:", table]
    return "\n\n".join(["## Batches and two threads", *parts]) if parts else ""


def _growth(record: Record) -> str:
    by_area, by_size = goals.area_exponents(record), goals.size_exponents(record)
    parts = []
    if by_area:
        parts += [
            "Of our time against the image's area, over its sizes:",
            tables.exponents(by_area),
            "![Time against the area of the image, ours and others'](speed-area.svg)",
        ]
    if by_size:
        parts += [
            f"Of our time against the kernel's radius, length or sigma, at {SIZE}:",
            tables.exponents(by_size),
            "![Time against the radius of a disk, ours and others'](speed-radius.svg)",
        ]
    first = "Exponents, fitted to logarithms by least squares: 1 is in proportion, 0 is no dependence."
    return "\n\n".join(["## Growth", first, *parts]) if parts else ""


def _memory(record: Record) -> str:
    return f"""## Memory

What one call adds to its process at the peak, on an image of 3 x {record["size"]}: in sizes of the output,
which is included. Empty: not possible, or slower than {record["longest"]:g} s.

{tables.memory(record)}"""


def _pipeline(record: Record) -> str:
    plain = record["rows"][0]["stages"]
    without = ", ".join(f"{stage} {tables.ms(time)}" for stage, time in plain.items() if stage != "blur")
    return f"""## A whole pipeline

JPEG files of about 500 x 375 pixels, decoded by Pillow, resized to a shorter side of 384, blurred, resized to
256, cropped to 224 and normalised, in a DataLoader. Each blur takes and gives PIL images. CPU milliseconds an
image; without blur: {without}.

{tables.pipeline(record)}

![CPU milliseconds an image, by stage of the pipeline](speed-pipeline.svg)"""


def _compiled(record: Record) -> str:
    lines = [
        [f"{row['rival']}, {row['blur']}, {row['layout']}", f"{row['seconds']:.1f}"]
        for row in record["compiled"]
    ]
    if not lines:
        return ""
    return f"""## torch.compile

Seconds of the first call, which compiles; the times above are of later ones.

{markdown_table(["", "seconds"], lines)}"""


def _rules(record: Record) -> str:
    short = [
        f"- {row['size']}, {row['blur']}, {row['layout']}: {value:.2f}, {rival}"
        for row, rival, value, _ in goals.shortfalls(record)
    ]
    left: dict[str, list[float]] = {}
    for entry in record["left_out"]:
        left.setdefault(entry["size"], []).append(entry["predicted"])
    out = [
        f"- {size}: {len(seconds)} variants of {min(seconds):.1f} to {max(seconds):.0f} s a call"
        for size, seconds in left.items()
    ]
    limits = " or ".join(f"{limit:g} times on {size}" for size, limit in record["limits"].items())
    reason = (
        f"Predicted, from a small image, to take longer than 20 s a call or than the best rival: {limits}."
    )
    asides = [f"- {name}: {why}" for name, why in record["asides"].items() if name != FLOOR]
    parts = {
        "Where a rival is quicker than it may be": short or ["Nowhere."],
        "Never counted as the best rival": asides,
        "Left out": [reason, "", *out] if out else [],
        "The blurs": [f"- `{blur}`: {words(blur)}" for blur in BLURS],
    }
    return "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in parts.items() if lines)
