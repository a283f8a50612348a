"""The tables of the speed page: plain records in, Markdown out. All times are milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

import goals
from blurlib.tables import markdown_table
from cells import BLURS, BOXES, DISKS, GAUSSIANS, LINES, SHAKES, SIZES, SOFT_DISKS, taps, words
from goals import FLOOR, LAYOUTS, OURS, SIZE, Asked, Record, Row

Found = dict[tuple[str, str], float]  # by blur and layout

PARTS = {
    "Disks": (*DISKS, *SOFT_DISKS),
    "Boxes": BOXES,
    "Lines, shakes, Gaussians": (*LINES, *SHAKES, *GAUSSIANS),
}
SHORT_BLURS = ("D8", "D8a", "S17", "L16@30", "H17", "G4")
SHORT_RIVALS = {
    "OpenCV": ("cv2.filter2D", "cv2.blur", "cv2.GaussianBlur"),
    "torch FFT": ("torch rfft2",),
    "torch conv2d": ("torch conv2d",),
    "kornia": ("kornia filter2d", "kornia box_blur, gaussian_blur2d"),
    "torchvision": ("torchvision gaussian_blur",),
    "SciPy": ("scipy.ndimage gaussian, uniform", "scipy.ndimage convolve", "scipy.signal fftconvolve"),
}


def ms(time: float) -> str:
    """Milliseconds with three digits."""
    return f"{time:.0f}" if time >= 99.5 else f"{time:.3g}"


def times(value: float) -> str:
    """A ratio with as many digits as mean something."""
    return f"{value:.0f}" if value >= 19.5 else f"{value:.1f}" if value >= 1.95 else f"{value:.2f}"


def mark(figure: Asked) -> str:
    return figure.measured if figure.met else f"**{figure.measured}** ✗"


def floor_of(row: Row, record: Record) -> float | None:
    """The time of copying such an image, or such a batch."""
    alike = ("size", "layout", "batch", "threads")
    for other in record["rows"]:
        if FLOOR in other["rivals"] and all(other[key] == row[key] for key in alike):
            return float(other["rivals"][FLOOR]["ms"])
    return None


def short_table(record: Record) -> str:
    """README's: our time, and how many times as long others take."""
    lines = []
    for blur in SHORT_BLURS:
        row = goals.find(record, size=SIZE, blur=blur, layout=LAYOUTS[0])
        ours = row and goals.milliseconds(row, OURS)
        if not row or not ours:
            continue
        cells = []
        for names in SHORT_RIVALS.values():
            found = [time for name in names if (time := goals.milliseconds(row, name)) is not None]
            cells.append(f"{times(min(found) / ours)} x" if found else "")
        lines.append([words(blur), f"{ms(ours)} ms", *cells])
    return markdown_table(["blur", "blurlib", *SHORT_RIVALS], lines)


def ratios_table(figures: Sequence[Asked]) -> str:
    """Asked and measured ratios, a line a blur."""
    found = {figure.where: figure for figure in figures}
    lines = []
    for blur in BLURS:
        cells = []
        for layout in LAYOUTS:
            figure = found.get(f"{blur}, {layout}")
            cells += [figure.asked, mark(figure), figure.detail] if figure else ["", "", ""]
        if any(cells):
            lines.append([blur, *cells])
    columns = ("{}: asked", "measured", "against")
    return markdown_table(["blur", *(part.format(at) for at in LAYOUTS for part in columns)], lines)


def figures_table(figures: Sequence[Asked]) -> str:
    """The other figures, asked and measured."""
    lines = [[f.what, f.where, f.asked, mark(f), f.detail] for f in figures]
    return markdown_table(["figure", "where", "asked", "measured", "detail"], lines)


def one_size(record: Record) -> str:
    """Every rival at one size: a table a layout and part of the blurs."""
    sections = []
    for layout in LAYOUTS:
        rows = {
            row["blur"]: row
            for row in goals.singles(record)
            if (row["size"], row["layout"]) == (SIZE, layout)
        }
        for title, members in PARTS.items():
            chosen = [rows[blur] for blur in members if blur in rows]
            if chosen:
                sections.append(f"### {title}, {layout}\n\n{_rivals(chosen, record)}")
    return "\n\n".join(sections)


def _rivals(rows: Sequence[Row], record: Record) -> str:
    """A column a blur, a line a rival."""
    names: list[str] = []  # in the order of the first row that has them
    for row in rows:
        names += [name for name in row["rivals"] if name not in (OURS, FLOOR, *names)]
    ours, work, copies = (
        ["blurlib, ms"],
        ["ps an element and tap"],
        ["times as long as copying"],
    )
    for row in rows:
        time, floor = row["rivals"][OURS]["ms"], floor_of(row, record)
        ours.append(ms(time))
        work.append(f"{1e9 * time / (3 * goals.area(row['size']) * taps(row['blur'])):.1f}")
        copies.append(times(time / floor) if floor else "")
    lines = [[name, *(_against(row, name, record) for row in rows)] for name in names]
    return markdown_table(["", *(row["blur"] for row in rows)], [ours, work, copies, *lines])


def _against(row: Row, name: str, record: Record) -> str:
    """How many times as long a rival takes; the best in bold, those that do not count in parentheses."""
    time, best = goals.milliseconds(row, name), goals.best(row, record)
    if time is None:
        return ""
    shown = times(time / row["rivals"][OURS]["ms"])
    if name in record["asides"]:
        return f"({shown})"
    return f"**{shown}**" if best and best[0] == name else shown


def all_sizes(record: Record) -> str:
    """Ours and the best rival at every size: a table a layout."""
    sections = []
    sizes = [size for size in SIZES if any(row["size"] == size for row in goals.singles(record))]
    for layout in LAYOUTS:
        lines = []
        ratios: dict[str, list[float]] = {size: [] for size in sizes}
        for blur in BLURS:
            cells = []
            for size in sizes:
                row = goals.find(record, size=size, blur=blur, layout=layout)
                best = row and goals.best(row, record)
                if not row or not best:
                    cells += ["", ""]
                    continue
                time = row["rivals"][OURS]["ms"]
                ratios[size].append(best[1] / time)
                cells += [ms(time), f"{times(best[1] / time)} {best[0]}"]
            if any(cells):
                lines.append([blur, *cells])
        means = [times(goals.geometric_mean(ratios[size])) if ratios[size] else "" for size in sizes]
        lines.append(["geometric mean", *(cell for mean in means for cell in ("", mean))])
        head = ["blur", *(part for size in sizes for part in (f"{size}, ms", "best rival"))]
        sections.append(f"### {layout}\n\n{markdown_table(head, lines)}")
    return "\n\n".join(sections)


def batches(record: Record) -> str:
    """Batches with a kernel an image, on one thread and on two."""
    lines = []
    for row in record["rows"]:
        if row["batch"] and OURS in row["rivals"]:
            ours, floor, best = row["rivals"][OURS]["ms"], floor_of(row, record), goals.best(row, record)
            rest = {
                n: time / ours for n, time in goals.rivals_of(row, record).items() if not best or n != best[0]
            }
            lines.append(
                [
                    f"{row['batch']} {row['blur']}, {row['size']}, {row['layout']}",
                    str(row["threads"]),
                    ms(ours),
                    times(ours / floor) if floor else "",
                    f"{times(best[1] / ours)} {best[0]}" if best else "",
                    ", ".join(f"{name} {times(rest[name])}" for name in sorted(rest, key=rest.__getitem__)),
                ]
            )
    head = ["batch", "threads", "blurlib, ms", "times as long as copying", "best rival", "others"]
    return markdown_table(head, lines) if lines else ""


def two_threads(record: Record) -> str:
    """How many times as fast two threads are as one."""
    lines = []
    for row, gain in goals.threads_gain(record):
        blur = f"{row['batch']} {row['blur']}" if row["batch"] else row["blur"]
        lines.append([f"{blur}, {row['size']}, {row['layout']}", f"{gain:.2f}"])
    return markdown_table(["", "times as fast"], lines) if lines else ""


def exponents(found: Found) -> str:
    names = dict.fromkeys(name for name, _ in found)
    lines = [
        [name, *(f"{found[name, at]:.2f}" if (name, at) in found else "" for at in LAYOUTS)] for name in names
    ]
    return markdown_table(["", *LAYOUTS], lines)


def memory(record: Record) -> str:
    """What a call adds, in sizes of its output."""
    places = list(dict.fromkeys((row["blur"], row["layout"]) for row in record["rows"]))
    found = {
        (row["rival"], row["blur"], row["layout"]): times(row["extra"] / row["output"])
        for row in record["rows"]
    }
    names = dict.fromkeys(row["rival"] for row in record["rows"])
    lines = [[name, *(found.get((name, blur, layout), "") for blur, layout in places)] for name in names]
    return markdown_table(["", *map(", ".join, places)], lines)


def pipeline(record: Record) -> str:
    """A line a blur: CPU time, the blur's share of it, images per second."""
    lines = []
    for row in record["rows"]:
        total, blur = sum(row["stages"].values()), row["stages"]["blur"]
        rates = [f"{value:.0f}" for value in row["rates"].values()]
        lines.append([row["blur"], ms(total), ms(blur), f"{blur / total:.0%}", *rates])
    workers = [f"images/s, {count} worker{'s' * (count != '1')}" for count in record["rows"][0]["rates"]]
    return markdown_table(["blur", "ms an image", "of them blur", "share", *workers], lines)
