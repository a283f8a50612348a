"""The page of the speed results and README's table, from the records in results/.

python benchmarks/speed_page.py
"""

from __future__ import annotations

import statistics
from pathlib import Path

import timing
from blurlib.reporting import markdown_table
from cells import BATCH, BLURS, LAYOUTS, SIZES, TINY, words
from timing import MODES, RESULTS, Record

OURS = "blurlib"
PAGE = Path(__file__).parents[1] / "docs" / "results" / "speed.md"
SHORT = "speed.md"  # README's table, beside the records, where docs/tables.py looks for it
SHORT_BLURS = ("D8", "D8a", "S17", "L16@30", "H17", "G4")
SHORT_LIBRARIES = ("OpenCV", "albumentations", "kornia", "torchvision")  # what users come from
MEMORY = {"CHW uint8": "torch, uint8", "HWC uint8": "NumPy, uint8", "CHW float32": "torch, float32"}

Times = dict[str, float]  # by mode: milliseconds, or ratios


def write(results: Path = RESULTS, page: Path = PAGE) -> None:
    """Write the page and README's table."""
    engine = timing.read("engine", results)
    if engine is None:
        raise SystemExit(f"there is no engine.json in {results}; run `make bench` first")
    others = (timing.read(kind, results) for kind in ("startup", "pipeline", "loading"))
    page.write_text(text(engine, *others), encoding="utf-8")
    (results / SHORT).write_text(short(engine), encoding="utf-8")


# --- The arithmetic ---


def singles(record: Record, size: str, layout: str) -> list[Record]:
    """The rows of single images of a size and layout, in the order of the blurs."""
    rows = {r["blur"]: r for r in record["rows"] if (r["size"], r["layout"], r["batch"]) == (size, layout, 0)}
    return [rows[blur] for blur in BLURS if blur in rows]


def ratios(row: Record) -> dict[str, Times]:
    """How many times as long as ours each library's quickest function takes."""
    ours, found = row["times"][OURS], {}
    for entry in row["times"].values():
        if entry["library"] != OURS:
            times = found.setdefault(entry["library"], {})
            for mode in (mode for mode in MODES if mode in entry):
                times[mode] = min(entry[mode] / ours[mode], times.get(mode, float("inf")))
    return found


# --- Figures in words ---


def ms(time: float) -> str:
    """Milliseconds with two or three digits."""
    return f"{time:.0f}" if time >= 99.5 else f"{time:.2f}" if time >= 0.0995 else f"{time:.3f}"


def times(value: float) -> str:
    """A ratio with as many digits as mean something."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 1.95 else f"{value:.2f}"


def both(values: Times, form: object = times) -> str:
    """Hot / cold."""
    return " / ".join(form(values[mode]) for mode in MODES if mode in values)


def table(columns: list[str], lines: list[list[str]]) -> str:
    """A table of Markdown, without its empty columns."""
    filled = [at for at in range(len(columns)) if any(line[at] for line in lines)]
    return markdown_table([columns[at] for at in filled], [[line[at] for at in filled] for line in lines])


# --- The parts ---


def short(record: Record) -> str:
    """README's table: one layout, cold."""
    rows = [row for row in singles(record, SIZES[0], LAYOUTS[0]) if row["blur"] in SHORT_BLURS]
    rows.sort(key=lambda row: SHORT_BLURS.index(row["blur"]))
    lines = []
    for row in rows:
        slower = {
            name: min((r["cold"] for at, r in ratios(row).items() if at.split(",")[0] == name), default=None)
            for name in dict.fromkeys(at.split(",")[0] for at in ratios(row))
        }
        quickest = min(slower, key=slower.__getitem__)
        others = [f"{times(slower[name])} x" if name in slower else "" for name in SHORT_LIBRARIES]
        own = f"{ms(row['times'][OURS]['cold'])} ms"
        lines.append([words(row["blur"]), own, *others, f"{times(slower[quickest])} x ({quickest})"])
    size = SIZES[0].replace("x", " x ")
    return f"""{table(["blur", OURS, *SHORT_LIBRARIES, "fastest other"], lines)}

uint8 tensor of 3 x {size}, one thread, cold caches: time of a call, and how many times as long other
libraries take for the same output, layout and type conversions included.
{record["processor"]}, {record["date"][:10]}.
"""


def text(engine: Record, startup: Record | None, pipeline: Record | None, loading: Record | None) -> str:
    """The whole page."""
    parts = [
        _head(engine),
        *(_size(engine, size) for size in SIZES),
        _faster(engine),
        _batches(engine),
        _instructions(engine),
        _first(engine, startup),
        _pipeline(pipeline) if pipeline else "",
        _loading(loading) if loading else "",
        _compared(engine),
        _repeat(engine),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(record: Record) -> str:
    return f"""# Speed

How long `blurlib.blur` takes, and how long other libraries take for the same picture, on one thread of
a machine with {record["processor"]}. `make bench` measures it and writes this page.

Where a cell has two numbers, the first is *hot* (the same call has just run), the second *cold* (64 MB were
read in between, as if the image came from elsewhere). A ratio is another library's time divided by ours:
above 1, blurlib is faster; the quickest other is in bold. A library that wants another memory layout, or
floats, pays for the conversion there and back; "OpenCV, by planes" avoids the change of layout by a loop over
the channels. An empty cell means that the library has no function for the blur, or computes
[another one](#what-is-compared)."""


def _size(record: Record, size: str) -> str:
    sections = []
    for layout in LAYOUTS:
        rows = singles(record, size, layout)
        names = list(dict.fromkeys(name for row in rows for name in ratios(row)))
        lines = []
        for row in rows:
            found = ratios(row)
            best = min(found, key=lambda name: found[name]["cold"], default="")
            shown = {name: f"**{both(r)}**" if name == best else both(r) for name, r in found.items()}
            ours = both(row["times"][OURS], ms)
            lines.append([words(row["blur"]), ours, *(shown.get(name, "") for name in names)])
        if lines:
            columns = ["blur", "blurlib, ms", *names]
            sections.append(f"### {MEMORY[layout]}\n\n{table(columns, lines)}")
    return "\n\n".join([f"## One image of 3 x {size.replace('x', ' x ')}", *sections]) if sections else ""


def _faster(record: Record) -> str:
    lines = []
    for row in record["rows"]:
        if not row["batch"] and row["size"] != TINY:
            slow = {name: found for name, found in ratios(row).items() if min(found.values()) < 1}
            shown = ", ".join(f"{name} {both(found)}" for name, found in slow.items())
            lines += [[words(row["blur"]), row["size"], MEMORY[row["layout"]], shown]] if slow else []
    columns = ["blur", "size", "image", "quicker than blurlib, hot or cold"]
    shown = table(columns, lines) if lines else "In none of these cells."
    return f"## Where another library is faster\n\n{shown}"


def _batches(record: Record) -> str:
    lines = []
    for row in (row for row in record["rows"] if row["batch"]):
        one, two = (row["times"][name]["cold"] for name in (OURS, f"{OURS}, 2 threads"))
        others = ", ".join(f"{name} {both(found)}" for name, found in ratios(row).items())
        named = [f"{row['size']}, {words(row['blur'])}", MEMORY[row["layout"]]]
        lines.append([*named, ms(one), ms(two), times(one / two), others])
    columns = ["batch", "image", "one thread, ms", "two threads, ms", "gain", "others' ratios, one thread"]
    title = f"## Batches of {BATCH} images, a kernel each\n\nCold. The others blur one image after the other."
    return f"{title}\n\n{table(columns, lines)}" if lines else ""


def _instructions(record: Record) -> str:
    found: dict[str, list[float]] = {}
    for row in (row for row in record["rows"] if not row["batch"]):
        for name, entry in row["times"].items():
            if entry["library"] == OURS and name != OURS:
                values = [entry[mode] / row["times"][OURS][mode] for mode in MODES]
                found.setdefault(name, []).extend(values)
    lines = [
        f"With {name.removeprefix(OURS).strip()} it takes {statistics.geometric_mean(values):.2f} times "
        f"as long as with {record['engine'].removeprefix('native ')} (geometric mean of the images above)."
        for name, values in found.items()
    ]
    first = "The core has code for several instruction sets, and takes the widest that the processor has."
    return "\n".join(["## Instruction sets", "", first, *lines]) if lines else ""


def _first(record: Record, startup: Record | None) -> str:
    lines = []
    for row in (row for row in record["rows"] if row["size"] == TINY):
        calls = both({mode: 1e3 * row["times"][OURS][mode] for mode in MODES}, "{:.0f}".format)
        lines.append([f"a call on 1 x 8 x 8, {MEMORY[row['layout']]}", f"{calls} µs"])
    if startup:
        lines += [
            ["first `DiskBlur` of a process, made and called", f"{startup['first_ms']:.1f} ms"],
            ["`import blurlib` after torch and torchvision", f"{startup['import_ms']:.0f} ms"],
            ["memory of the import", f"{startup['import_mb']:.0f} MB"],
            [f"the same with {startup['kernels']} kernels made and used", f"{startup['kernels_mb']:.0f} MB"],
        ]
    return f"## Small images and first calls\n\n{markdown_table(['', ''], lines)}" if lines else ""


def _pipeline(record: Record) -> str:
    lines = []
    for row in record["rows"]:
        blur, total = row["stages"]["blur"], sum(row["stages"].values())
        lines.append([row["blur"], row["by"], ms(blur), f"{blur / total:.0%}", f"{1e3 / total:.0f}"])
    columns = ["blur", "by", "blur, ms", "of the CPU time", "images/s and core"]
    return f"""## A whole pipeline

JPEG files of 500 x 375 pixels are decoded by Pillow, resized to a shorter side of 384, blurred, resized to
256, cropped to 224 and normalised. Each blur takes and gives PIL images; some others' kernels differ from
ours.

{table(columns, lines)}"""


def _loading(record: Record) -> str:
    lines = []
    for row in record["rows"]:
        rates = [f"{row['images'] / row[name]:.0f}" for name in ("epoch_s", "evaluate_s")]
        lines.append([row["source"], str(row["images"]), ms(1e3 * row["list_s"]), *rates])
    columns = ["read from", "images", "listed in, ms", "`finetune`, images/s", "`evaluate`, images/s"]
    return f"""## Whole runs

`finetune` with the mix {record["mix"]} and `evaluate` under {record["blurs"]} (every image under
each), with a network that costs nothing and {record["workers"]} loader processes; the photographs of the
pipeline above. An epoch and an evaluation have their start in them, so a run of few images is slower; beyond
that the rate does not depend on the number of images.

{table(columns, lines)}"""


def _compared(record: Record) -> str:
    agrees, worst = record["agrees"], {}
    for row in record["rows"]:
        kind = row["layout"].split()[1]
        for entry in row["times"].values():
            errors = worst.setdefault(entry["library"], {})
            errors[kind] = max(errors.get(kind, 0.0), entry["error"])
    lines = [[name, *(f"{e[kind]:.2g}" if kind in e else "" for kind in agrees)] for name, e in worst.items()]
    out: dict[str, dict[str, float]] = {}
    for entry in record["left_out"]:
        if entry["layout"] == LAYOUTS[0]:
            blurs = out.setdefault(f"{entry['library']} {entry['function']}", {})
            blurs[entry["blur"]] = max(entry["error"], blurs.get(entry["blur"], 0.0))
    left = [
        f"- {name}: {', '.join(f'{words(b)} ({e:.2g})' for b, e in found.items())}"
        for name, found in out.items()
    ]
    return f"""## What is compared

Before anything is timed, each result is compared with a float64 reference. Largest differences, in grey
levels for uint8, in parts of the range for float32:

{table(["", *agrees], lines)}

A function that is off by more than {agrees["uint8"]:g} grey levels, or {agrees["float32"]:g} of the range,
computes another blur and is left out. Pillow and kornia-rs have other borders, and are compared where no
border reaches. Left out, with the grey levels:

{chr(10).join(left) or "nothing."}"""


def _repeat(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"""## Repeat it

Leave the machine alone and run `make bench`, within 25 minutes; `python benchmarks/engine.py --quick`
is a first look. All variants of an image run in turns, in an order drawn anew for each of {record["rounds"]}
rounds (slow ones join fewer). Times are medians, of CPU time or, for batches and 1 x 8 x 8, of the wall
clock (hot, the mean of 100 calls of 1 x 8 x 8 in a row). The records are in `benchmarks/results`.

- {record["processor"]}, {record["cores"]} cores; {record["system"]}
- blurlib's engine: {record["engine"]}, compiled by {record["compiler"]}
- {versions}
- commit {record["commit"]}, {record["date"]}; load average {record["load"][0]} before, {record["load"][-1]}
  after"""


if __name__ == "__main__":
    timing.parser(__doc__).parse_args()
    write()
