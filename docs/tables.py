"""Writes the result tables between the markers of README.md and the pages.

A page holds `<!-- NAME:begin -->` and `<!-- NAME:end -->`; between them goes
`experiments/results/NAME/table.md` or, of timings, `benchmarks/results/NAME.md`, which the script that reads
the records writes.
`python docs/tables.py --check` changes nothing and fails where a page is not up to date.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
MARKED = re.compile(r"(<!-- (?P<name>[\w-]+):begin -->\n)(?P<body>.*?)(<!-- (?P=name):end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The page with the newest table between each pair of markers, or nothing where there is none."""

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        for path in (
            ROOT / "experiments/results" / name / "table.md",
            ROOT / "benchmarks/results" / f"{name}.md",
        ):
            if path.exists():
                return f"{match[1]}\n{path.read_text(encoding='utf-8').strip()}\n\n{match[4]}"
        return match[1] + match[4]

    return MARKED.sub(table, text)


def main() -> int:
    """Fills every page, or with `--check` only names those that are not up to date."""
    check = "--check" in sys.argv[1:]
    stale = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        new = filled(text)
        if new != text:
            stale.append(page.relative_to(ROOT))
            if not check:
                page.write_text(new, encoding="utf-8")
    if stale:
        print("not up to date:" if check else "written:", *stale)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
