"""The blur engine against its rivals: every cell of the grid, all variants of a size in turns.

    python benchmarks/engine.py                         the whole grid; writes results/speed_<date>.json
    python benchmarks/engine.py --quick                 a first look, within three minutes
    python benchmarks/engine.py --sizes 384x512 --blurs D8,G4 --rounds 5
    python benchmarks/engine.py --sizes 4000x6000 --add results/speed_<date>.json
    python benchmarks/engine.py --page                  page, plots and README's table from the records

Only a whole run writes its record by itself; a part of it does with `--out`. Times are medians of thread CPU
time (`time.thread_time`; wall clock with two threads), so that a busy machine disturbs them little; what
counts are the ratios within one run. Memory and the pipeline are measured by memory.py and pipeline.py.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

ROUNDS = {"224x224": 21, "384x512": 15, "1080x1920": 5, "4000x6000": 3}
QUICK_ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few blurs, two sizes, five rounds")
    parser.add_argument("--sizes", help=f"height x width, comma-separated, of {', '.join(ROUNDS)}")
    parser.add_argument("--blurs", help="short names, comma-separated; single images only")
    parser.add_argument("--rounds", type=int, help=f"times each variant runs, at most (by size: {ROUNDS})")
    parser.add_argument("--seed", type=int, default=0, help="of the order (0)")
    parser.add_argument("--out", type=Path, help="where the record goes")
    parser.add_argument(
        "--add",
        type=Path,
        metavar="RECORD",
        help="a record of other sizes, which it is added to: same machine, same versions",
    )
    parser.add_argument("--page", action="store_true", help="write the page; nothing is measured")
    options = parser.parse_args()
    if options.page:
        import speed_page

        print("written:", *speed_page.write())
        return
    sizes = tuple(options.sizes.split(",")) if options.sizes else ()
    if not set(sizes) <= set(ROUNDS):
        parser.error(f"`--sizes` must be of {', '.join(ROUNDS)}, got {options.sizes}")
    blurs = tuple(options.blurs.split(",")) if options.blurs else None
    run(sizes, blurs, options)


def run(sizes: tuple[str, ...], blurs: tuple[str, ...] | None, options: argparse.Namespace) -> None:
    # Rivals take seconds to import, and `--page` needs none of them.
    import torch

    import goals
    import measure
    from cells import QUICK_SIZES, SIZES, Cell, grid
    from rivals import RIVALS

    torch.set_grad_enabled(False)
    # The same function is compiled for several kernels, each of them a recompilation to torch.
    torch._dynamo.config.recompile_limit = 64  # noqa: SLF001  it has no public name
    chosen = sizes or (QUICK_SIZES if options.quick else SIZES)
    record = measure.environment()
    missing = [rival.name for rival in RIVALS if not rival.installed]
    if missing:
        print(f"not installed, left out: {', '.join(missing)} (pip install 'blurlib[bench]')")
    rows, left_out, compiled = [], [], []
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in grid(chosen, blurs, quick=options.quick):
        groups.setdefault((cell.size, cell.batch), []).append(cell)
    whole = not (options.quick or sizes or blurs)
    unfinished = measure.RESULTS / "unfinished.json"
    # The largest images last: they take longest, and what was measured before is kept.
    for (size, batch), cells in sorted(
        groups.items(), key=lambda item: SIZES.index(item[0][0]) == len(SIZES) - 1
    ):
        start = time.perf_counter()
        variants, too_long = measure.prepare(cells, compiled=not options.quick)
        middle = time.perf_counter()
        rounds = QUICK_ROUNDS if options.quick else ROUNDS[size]
        measure.measure(variants, min(options.rounds or rounds, rounds), options.seed)
        print(
            f"{size}{f', batches of {batch}' if batch else ''}: {len(variants)} variants compared in "
            f"{middle - start:.0f} s, timed in {time.perf_counter() - middle:.0f} s",
            flush=True,
        )
        rows += measure.rows(variants)
        left_out += too_long
        compiled += measure.compile_seconds(variants)
        so_far = record | {
            "limits": measure.AGAINST_BEST,
            "asides": {rival.name: rival.aside for rival in RIVALS if rival.aside},
            "seed": options.seed,
            "rows": rows,
            "left_out": left_out,
            "compiled": compiled,
            "load": [*record["load"], measure.load()],
        }
        if whole:
            measure.write("speed", so_far, unfinished)
    record = measure.joined(options.add, so_far) if options.add else so_far
    for figure in goals.asked(record):
        print("  " if figure.met else "✗ ", ", ".join(map(str, figure[:4])), f"({figure.detail})")
    if whole or options.out or options.add:
        print("written:", measure.write("speed", record, options.out or options.add))
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
