"""Draws the wings of the package for the page on the architecture.

`python docs/wings.py` writes `docs/_static/wings.svg`; its rows are those of `tests/test_house.py`.
"""

from pathlib import Path

OUT = Path(__file__).parent / "_static" / "wings.svg"
ROWS = {
    "commands": ("_cli",),
    "studies, neighbours": ("_tolerance", "demo", "integrations", "paper"),
    "entry points": ("training", "evaluation"),
    "tasks": ("_tasks",),
    "batches": ("mixes", "deblurring"),
    "inputs": ("transforms", "models", "data", "_gauge"),
    "results": ("reporting",),
    "views": ("protocol",),
    "one blur": ("functional",),
    "names": ("notation",),
    "values": ("blurs",),
    "mathematics": ("kernels", "metrics"),
    "ground": ("_common", "_engine"),
}
LEFT, WIDTH, HEIGHT, GAP = 150, 570, 26, 6


def main() -> None:
    """A row of boxes for each height, in greys and a blue that are read on white and on black."""
    parts = []
    for number, (label, wings) in enumerate(ROWS.items()):
        top = number * (HEIGHT + GAP)
        parts.append(f'<text x="{LEFT - 12}" y="{top + 17}" text-anchor="end" fill="#808080">{label}</text>')
        width = (WIDTH - GAP * (len(wings) - 1)) / len(wings)
        for place, wing in enumerate(wings):
            left = LEFT + place * (width + GAP)
            stroke = 'stroke-dasharray="4 3"' if wing.startswith("_") else ""
            parts.append(
                f'<rect x="{left + 1:g}" y="{top + 1}" width="{width - 2:g}" height="{HEIGHT - 2}" rx="4" '
                f'fill="#4a90d9" fill-opacity="0.15" stroke="#4a90d9" {stroke}/>'
            )
            parts.append(
                f'<text x="{left + width / 2:g}" y="{top + 17}" text-anchor="middle" fill="#4a90d9" '
                f'font-weight="600">{wing}</text>'
            )
    height = len(ROWS) * (HEIGHT + GAP)
    body = "\n".join(parts)
    OUT.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13">\n{body}\n</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
