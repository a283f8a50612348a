"""The embedded example (`blurlib demo`) with several seeds, for the documentation.

python experiments/demo.py 0 1 2   # trains and evaluates; records go to experiments/results/demo
python experiments/demo.py         # the table alone, from the records
"""

from __future__ import annotations

import argparse
from pathlib import Path

from blurlib import demo
from blurlib.reporting import Report, compare, markdown_table

RECORDS = Path(__file__).parent / "results" / "demo"
ROLES = ("original", "mix", "control")


def record(seed: int) -> None:
    """Train and evaluate one seed, unless its records are there."""
    if all((RECORDS / f"seed{seed}" / role / "report.json").exists() for role in ROLES):
        return
    trained = demo.train(seed=seed)
    for role, report in trained.reports.items():
        report.save(RECORDS / f"seed{seed}" / role)
    print(trained.comparison.table(), trained.seconds)


def table() -> str:
    """The mean over seeds with intervals, then the top-1 accuracy of each seed."""
    seeds = sorted(RECORDS.glob("seed*"))
    reports = {role: [Report.load(seed / role / "report.json") for seed in seeds] for role in ROLES}
    lines = []
    for number, seed in enumerate(seeds):
        for role in ROLES:
            values = [f"{100 * record.top1:.1f}" for record in reports[role][number].records]
            lines.append([seed.name.removeprefix("seed"), role, *values])
    each = markdown_table(["seed", "network", *reports["mix"][0].blurs], lines)
    # Each seed cuts crops of its own, so seeds are not averaged crop by crop: the first one stands in full.
    first = compare(reports["mix"][0], reports["original"][0], control=reports["control"][0])
    return f"Top-1 accuracy in percent, every seed:\n\n{each}\n\nSeed 0 in full:\n\n{first.to_markdown()}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("seeds", nargs="*", type=int)
    for seed in parser.parse_args().seeds:
        record(seed)
    (RECORDS / "table.md").write_text(table(), encoding="utf-8")
