"""What was asked for, as data, and what a record says about it. Plain records in, plain rows out.

A ratio is the best rival's median divided by ours: 3 means three times as fast. Rivals that blur by another
kernel, and those that nobody calls that way, never count as the best.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Record = Mapping[str, Any]
Row = Mapping[str, Any]

OURS = "blurlib"
FLOOR = "copy"
SIZE = "384x512"  # where the ratios are asked for
LAYOUTS = ("CHW uint8", "HWC uint8", "CHW float32")

# blurs, then the ratio asked for in each layout of `LAYOUTS`
_RATIOS: tuple[tuple[tuple[str, ...], tuple[float, float, float]], ...] = (
    (("D2",), (5, 2.4, 1.5)),
    (("D4",), (8, 6, 2)),
    (("D8",), (10, 12, 3)),
    (("D16",), (8, 9.5, 2.7)),
    (("D32",), (5, 6, 1.6)),
    (("D4a",), (3, 2.5, 1.6)),
    (("D8a",), (4, 5, 2.2)),
    (("H5", "H8", "H17", "H33", "V5", "V8", "V17", "V33"), (3, 1, 1.6)),
    (("L8@30",), (2.8, 1.3, 1.6)),
    (("L16@30",), (3.5, 4.7, 2.5)),
    (("L32@30",), (3.5, 4, 2.8)),
    (("S17",), (4.5, 5, 3.5)),
    (("shake41",), (1.7, 2.1, 1.8)),
    (("G1",), (3, 1, 1.8)),
    (("G4",), (3, 2, 2)),
    (("G8",), (3.5, 3, 2.3)),
)
RATIOS = {
    (blur, layout): float(asked)
    for blurs, ratios in _RATIOS
    for blur in blurs
    for layout, asked in zip(LAYOUTS, ratios, strict=True)
}
# Where OpenCV's own routine is at its best, this much of its speed is enough.
ALLOWED = {
    **{(blur, "HWC uint8", "cv2.blur"): 0.8 for blur in ("H5", "H8", "H17", "H33", "V5", "V8", "V17", "V33")},
    ("G1", "HWC uint8", "cv2.GaussianBlur"): 0.8,
}
NEVER_SLOWER = 0.9
BATCH_RATIOS = {"disks": 12.0, "shakes": 4.0}  # uint8, one thread
TWO_THREADS = 1.65
AREA_EXPONENT = 1.05
RADIUS_EXPONENT = 1.1
OUTPUTS = 1.05  # memory of one call on the largest image: the output and a few rows a thread
SHARES = {"blurlib D8": 0.12, "blurlib shake": 0.25}  # of the pipeline's CPU time

# Kernels that differ in size, and that size in pixels; two shakes are two traces, of which size tells little.
FAMILIES: dict[str, dict[str, float]] = {
    "disk": {"D2": 2, "D4": 4, "D8": 8, "D16": 16, "D32": 32},
    "antialiased disk": {"D4a": 4, "D8a": 8},
    "horizontal box": {"H5": 5, "H8": 8, "H17": 17, "H33": 33},
    "vertical box": {"V5": 5, "V8": 8, "V17": 17, "V33": 33},
    "line at 30°": {"L8@30": 8, "L16@30": 16, "L32@30": 32},
    "shake": {"S17": 17, "shake41": 41},
    "Gaussian": {"G1": 1, "G4": 4, "G8": 8},
}


class Asked(NamedTuple):
    """One figure that was asked for.

    Attributes:
        what: in words.
        where: cell or layout.
        asked: the figure.
        measured: what the record says.
        met: whether that is enough.
        detail: such as the rival's name.
    """

    what: str
    where: str
    asked: str
    measured: str
    met: bool
    detail: str = ""


def area(size: str) -> int:
    height, width = size.split("x")
    return int(height) * int(width)


def milliseconds(row: Row, rival: str) -> float | None:
    """A rival's time in a row, or None where it did not run."""
    found = row["rivals"].get(rival)
    return None if found is None else float(found["ms"])


def rivals_of(row: Row, record: Record) -> dict[str, float]:
    """The times of all rivals that count."""
    return {
        name: times["ms"]
        for name, times in row["rivals"].items()
        if name not in (OURS, FLOOR) and name not in record["asides"]
    }


def best(row: Row, record: Record) -> tuple[str, float] | None:
    """The quickest rival that counts, and its milliseconds."""
    times = rivals_of(row, record)
    if not times:
        return None
    name = min(times, key=times.__getitem__)
    return name, times[name]


def ratio(row: Row, record: Record) -> float | None:
    """The best rival's time divided by ours."""
    found, ours = best(row, record), milliseconds(row, OURS)
    return None if found is None or not ours else found[1] / ours


def find(
    record: Record, *, size: str, blur: str, layout: str, batch: int = 0, threads: int = 1
) -> Row | None:
    wanted = {"size": size, "blur": blur, "layout": layout, "batch": batch, "threads": threads}
    return next(
        (row for row in record["rows"] if all(row[key] == value for key, value in wanted.items())), None
    )


def singles(record: Record) -> list[Row]:
    """The rows of single images on one thread."""
    return [
        row for row in record["rows"] if not row["batch"] and row["threads"] == 1 and OURS in row["rivals"]
    ]


def exponent(points: Mapping[float, float] | Sequence[tuple[float, float]]) -> float:
    """The slope of log(time) over log(size) by least squares: 1 is proportional, 0 does not depend.

    Example:
        >>> round(exponent({1: 5.0, 2: 10.0, 4: 20.0}), 3)
        1.0
    """
    pairs = list(points.items()) if isinstance(points, Mapping) else list(points)
    if len({x for x, _ in pairs}) < 2:
        raise ValueError(f"`points` must hold at least two sizes, got {pairs}")
    fit = statistics.linear_regression([math.log(x) for x, _ in pairs], [math.log(y) for _, y in pairs])
    return fit.slope


def area_exponents(record: Record, rival: str = OURS) -> dict[tuple[str, str], float]:
    """By blur and layout: how time grows with the image's area; blurs timed at three sizes or more."""
    points: dict[tuple[str, str], dict[float, float]] = {}
    for row in singles(record):
        time = milliseconds(row, rival)
        if time is not None:
            points.setdefault((row["blur"], row["layout"]), {})[area(row["size"])] = time
    return {key: exponent(found) for key, found in points.items() if len(found) >= 3}


def size_exponents(record: Record, size: str = SIZE, rival: str = OURS) -> dict[tuple[str, str], float]:
    """By family and layout: how time grows with the kernel's radius, length or sigma."""
    found = {}
    for family, members in FAMILIES.items():
        for layout in LAYOUTS:
            points = {}
            for row in singles(record):
                time = milliseconds(row, rival)
                if (
                    (row["size"], row["layout"]) == (size, layout)
                    and row["blur"] in members
                    and time is not None
                ):
                    points[members[row["blur"]]] = time
            if len(points) >= 2:
                found[family, layout] = exponent(points)
    return found


def geometric_mean(values: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def shortfalls(record: Record) -> list[tuple[Row, str, float, float]]:
    """(row, rival, ratio, allowed) of every single image on which some rival is quicker than it may be."""
    found = []
    for row in singles(record):
        ours = milliseconds(row, OURS)
        for rival, time in rivals_of(row, record).items():
            allowed = ALLOWED.get((row["blur"], row["layout"], rival), NEVER_SLOWER)
            if ours and time / ours < allowed:
                found.append((row, rival, time / ours, allowed))
    return sorted(found, key=lambda entry: entry[2])


def asked(record: Record, memory: Record | None = None, pipeline: Record | None = None) -> list[Asked]:
    """Every figure that was asked for and that the records can answer."""
    return [
        *_ratios(record),
        *_batches(record),
        *_threads(record),
        *_exponents(record),
        *_never_slower(record),
        *(_memory(memory) if memory else ()),
        *(_shares(pipeline) if pipeline else ()),
    ]


def _ratios(record: Record) -> Iterable[Asked]:
    for (blur, layout), goal in RATIOS.items():
        row = find(record, size=SIZE, blur=blur, layout=layout)
        ours = row and milliseconds(row, OURS)
        if not row or not ours:
            continue
        found = best(row, record)
        if found is None:
            continue
        # A routine that may be quicker than ours must not hide the next best.
        others = [
            (time / ours, name, ALLOWED.get((blur, layout, name), goal))
            for name, time in rivals_of(row, record).items()
        ]
        missed = [entry for entry in others if entry[0] < entry[2]]
        shown = min(missed or others)
        goal_text = f"{shown[2]:g}" if (blur, layout, shown[1]) in ALLOWED else f"{goal:g}"
        yield Asked("ratio", f"{blur}, {layout}", goal_text, f"{shown[0]:.2f}", not missed, shown[1])


def _batches(record: Record) -> Iterable[Asked]:
    for row in record["rows"]:
        if row["batch"] and row["threads"] == 1 and row["layout"] == "CHW uint8":
            goal, found = BATCH_RATIOS[row["blur"]], ratio(row, record)
            name = best(row, record)
            if found is not None and name is not None:
                where = f"{row['batch']} {row['blur']}, {row['size']}, {row['layout']}"
                yield Asked("batch ratio", where, f"{goal:g}", f"{found:.1f}", found >= goal, name[0])


def threads_gain(record: Record) -> list[tuple[Row, float]]:
    """(row on two threads, how many times as fast as on one) by the wall clock."""
    found = []
    for row in record["rows"]:
        if row["threads"] == 2 and OURS in row["rivals"]:
            one = find(record, **{key: row[key] for key in ("size", "blur", "layout", "batch")})
            if one is not None:
                found.append((row, one["rivals"][OURS]["wall"] / row["rivals"][OURS]["wall"]))
    return found


def _threads(record: Record) -> Iterable[Asked]:
    for row, gain in threads_gain(record):
        if row["batch"]:
            where = f"{row['batch']} {row['blur']}, {row['size']}, {row['layout']}"
            yield Asked("two threads", where, f"{TWO_THREADS:g}", f"{gain:.2f}", gain >= TWO_THREADS)


def _exponents(record: Record) -> Iterable[Asked]:
    kinds = (
        ("time against area", area_exponents(record), AREA_EXPONENT),
        ("time against size of kernel", size_exponents(record), RADIUS_EXPONENT),
    )
    for what, found, goal in kinds:
        for layout in LAYOUTS:
            values = {name: value for (name, of), value in found.items() if of == layout and name != "shake"}
            if values:
                name = max(values, key=values.__getitem__)
                highest = values[name]
                yield Asked(
                    f"{what}, highest exponent",
                    layout,
                    f"≤ {goal:g}",
                    f"{highest:.2f}",
                    highest <= goal,
                    name,
                )


def _never_slower(record: Record) -> Iterable[Asked]:
    rows, short = singles(record), shortfalls(record)
    if rows:
        what = f"cells where a rival is quicker than {NEVER_SLOWER:g} allows (0.8 where said)"
        worst = ""
        if short:
            row, rival, value, _ = short[0]
            worst = f"{row['blur']}, {row['layout']}, {row['size']}: {value:.2f} against {rival}"
        yield Asked(what, f"{len(rows)} cells", "0", str(len({_name(s[0]) for s in short})), not short, worst)


def _name(row: Row) -> tuple[str, str, str]:
    return row["size"], row["blur"], row["layout"]


def _memory(record: Record) -> Iterable[Asked]:
    for row in record["rows"]:
        if row["rival"] == OURS:
            found = row["extra"] / row["output"]
            where = f"{row['blur']}, {row['layout']}, {record['size']}"
            yield Asked("memory, in outputs", where, f"≤ {OUTPUTS:g}", f"{found:.2f}", found <= OUTPUTS)


def _shares(record: Record) -> Iterable[Asked]:
    for row in record["rows"]:
        goal = SHARES.get(row["blur"])
        if goal is not None:
            share = row["stages"]["blur"] / sum(row["stages"].values())
            yield Asked(
                "share of the pipeline's CPU time",
                row["blur"],
                f"≤ {goal:.0%}",
                f"{share:.0%}",
                share <= goal,
            )
