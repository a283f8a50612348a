"""blurlib's engine and other libraries: one blur, hot and cold, all variants in turns.

    python benchmarks/engine.py                   the whole grid; writes results/engine.json
    python benchmarks/engine.py --quick           a first look; nothing is written
    python benchmarks/engine.py --blurs D8,G4     single images of some blurs; nothing is written
    python benchmarks/engine.py --against PATH    this engine and another commit's, no other library

PATH is a checkout whose `src` needs no building, or the Python of an environment with the other blurlib.
`--out` writes a record where none is written by itself.
"""

from __future__ import annotations

import functools
import gc
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

import blurlib
import timing
from against import Engine
from cells import TINY, Cell, difference, grid, kernel_of, picture
from timing import CORE, Record

OURS = "blurlib"
WIDEST = CORE.instructions() if CORE else ""
NARROWER = "v3" if WIDEST == "v4" else ""  # timed too
ROUNDS, QUICK_ROUNDS, LEAST = 15, 5, 3
SPENT = 0.6  # seconds for one variant in one mode, beyond which it joins fewer rounds
ALLOWED = {"uint8": 0.502, "float32": 1e-6}  # how far ours may be from the exact picture
AGREES = {"uint8": 2.5, "float32": 1e-5}  # beyond, a library's picture is another one


@dataclass
class Variant:
    """One way to answer a cell.

    Attributes:
        name: the function's.
        library: whose it is.
        error: the largest difference from the exact picture.
        seconds: of one call in a mode; what comes before the call is not timed.
        times: what was measured, by mode.
    """

    name: str
    library: str
    error: float
    seconds: Callable[[str], float]
    times: dict[str, list[float]] = field(default_factory=dict)


# --- The variants of a cell ---


def variants(cell: Cell) -> tuple[list[Variant], list[Record]]:
    """What is timed, ours first; and what is not, since it gives another picture."""
    import rivals  # which a comparison of two commits needs not

    kind = cell.layout.split()[1]
    found = [ours(cell, OURS)]
    if cell.batch:
        found.append(ours(cell, f"{OURS}, 2 threads", threads=2))
    elif cell.size != TINY and NARROWER:
        found.append(ours(cell, f"{OURS} {NARROWER}", instructions=NARROWER))
    settle()
    left_out = []
    for library, name, run in rivals.functions(cell):
        error = difference(cell, run(), inside=library in rivals.OTHER_BORDER)
        if error > AGREES[kind]:
            entry = {"library": library, "function": name, "error": short(error)}
            left_out.append({**asdict(cell), **entry})
        else:
            timed = functools.partial(timing.seconds, run, clock=cell.clock, calls=cell.calls)
            found.append(Variant(f"{library} {name}", library, error, timed))
    return found, left_out


def ours(cell: Cell, name: str, threads: int = 1, instructions: str = WIDEST) -> Variant:
    """The public function, on the image's memory as it is."""
    image, kernel = picture(cell.size, cell.layout, cell.batch), kernel_of(cell.blur)

    def timed(mode: str) -> float:
        settle(threads, instructions)
        try:
            return timing.seconds(lambda: blurlib.blur(image, kernel), mode, cell.clock, cell.calls)
        finally:
            settle()

    settle(threads, instructions)
    error, allowed = difference(cell, blurlib.blur(image, kernel)), ALLOWED[cell.layout.split()[1]]
    if not error <= allowed:
        raise AssertionError(f"{name} on {cell}: {error:.3g} from the exact picture, {allowed:g} allowed")
    return Variant(name, OURS, error, timed)


def settle(threads: int = 1, instructions: str = WIDEST) -> None:
    """How the next call is done."""
    torch.set_num_threads(threads)
    if CORE is not None:
        CORE.use(instructions)


# --- The rounds ---


def measure(cell: Cell, chosen: Sequence[Variant], rounds: int, order: random.Random) -> Record:
    """All variants in all modes, in an order drawn anew for each round; a row of medians in milliseconds."""
    quota = {v.name: max(LEAST, min(rounds, int(SPENT / v.seconds("cold")))) for v in chosen}
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            todo = [(v, mode) for v in chosen for mode in cell.modes if turn < quota[v.name]]
            order.shuffle(todo)
            for variant, mode in todo:
                variant.times.setdefault(mode, []).append(variant.seconds(mode))
    finally:
        gc.enable()
    times = {}
    for v in chosen:
        medians = {mode: short(1e3 * statistics.median(v.times[mode])) for mode in cell.modes}
        times[v.name] = {"library": v.library, **medians, "error": short(v.error), "rounds": quota[v.name]}
    row = {**asdict(cell), "times": times}
    print(line(row), flush=True)
    return row


def short(value: float) -> float:
    """Four digits."""
    return float(f"{value:.4g}")


def line(row: Record) -> str:
    """A row in short: our times, and the quickest other's ratio, in each mode."""
    own = row["times"][OURS]
    rest = {name: entry for name, entry in row["times"].items() if entry["library"] != OURS}
    parts = [f"{row['size']:8} {row['blur']:7} {row['layout']:12}"]
    for mode in (mode for mode in timing.MODES if mode in own):
        best = min(rest, key=lambda name: rest[name][mode])
        parts.append(f"{mode} {own[mode]:8.4g} ms {rest[best][mode] / own[mode]:6.2f} {best:30}")
    return "  ".join(parts).rstrip()


# --- Against another commit ---


def compare(place: Path, cells: Sequence[Cell], rounds: int, runs: int) -> Record:
    """Some runs of both engines; of each cell and mode, the median run's ratio."""
    engines = {OURS: Engine(Path(sys.executable)), "other": Engine(place)}
    own, other = engines.values()
    if own.file == other.file:
        raise SystemExit(f"{place} has the blurlib that is here: {own.file}")
    print(f"{own.commit}, {own.backend}, against {other.commit}, {other.backend}")
    found = [[versus(cell, engines, rounds, random.Random(seed)) for cell in cells] for seed in range(runs)]
    rows = []
    for cell, of_runs in zip(cells, zip(*found, strict=True), strict=True):
        ratios = {m: [r["times"]["other"][m] / r["times"][OURS][m] for r in of_runs] for m in cell.modes}
        rows.append(
            {**asdict(cell), **{m: round(statistics.median(found), 3) for m, found in ratios.items()}}
        )
    for mode in timing.MODES:
        values = [row[mode] for row in rows if mode in row and row["size"] != TINY]
        if values:
            mean = statistics.geometric_mean(values)
            print(f"{mode}: geometric mean {mean:.2f}, least {min(values):.2f} of {len(values)}")
    return {"other": other.commit, "other_engine": other.backend, "runs": runs, "rows": rows}


def versus(cell: Cell, engines: dict[str, Engine], rounds: int, order: random.Random) -> Record:
    """A row of both engines' times."""
    chosen = []
    for name, engine in engines.items():
        blurred = engine.load(picture(cell.size, cell.layout, cell.batch), kernel_of(cell.blur))
        timed = functools.partial(engine.seconds, clock=cell.clock, calls=cell.calls)
        chosen.append(Variant(name, name, difference(cell, blurred), timed))
    return measure(cell, chosen, rounds, order)


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="few blurs, one size, five rounds")
    parser.add_argument("--blurs", help="short names, comma-separated, of single images")
    parser.add_argument("--rounds", type=int, help=f"of each variant in each mode, at most ({ROUNDS})")
    parser.add_argument("--against", type=Path, metavar="PATH", help="another commit's checkout, or a Python")
    parser.add_argument("--runs", type=int, default=3, help="of `--against`; the median counts (3)")
    parser.add_argument("--out", type=Path, help="where the record goes")
    options = parser.parse_args()
    cells = grid(quick=options.quick)
    if options.blurs:
        cells = [cell for cell in cells if cell.blur in options.blurs.split(",") and cell.size != TINY]
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    record = timing.environment() | {"rounds": rounds, "threads": 1}
    settle()
    torch.set_grad_enabled(False)
    if options.against:
        record |= compare(options.against, cells, rounds, options.runs)
    else:
        import cv2

        cv2.setNumThreads(1)
        order = random.Random(0)
        rows, left_out = [], []
        for cell in cells:
            chosen, strangers = variants(cell)
            left_out += strangers
            rows.append(measure(cell, chosen, rounds, order))
        record |= {"agrees": AGREES, "rows": rows, "left_out": left_out}
    if options.out or not (options.quick or options.blurs or options.against):
        print("written:", timing.write("engine", record, options.out))


if __name__ == "__main__":
    main()
