"""Print the lowest versions that pyproject.toml declares, as constraints for pip.

    python .ci/lowest.py > lowest.txt
    PIP_CONSTRAINT=lowest.txt pip install -e ".[dev]"

Those of the library and of each extra for its users; with --dev those of the tests too.
"""

import re
import sys
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

OWN = ("bench", "dev", "neighbours")


def lowest(project: dict, *, dev: bool = False) -> list[str]:
    """`name==bound` for each requirement `name>=bound`, each name once."""
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"]]
    lines += [line for extra, each in extras.items() if dev or extra not in OWN for line in each]
    found = {}
    for line in lines:
        match = re.match(r"([\w.-]+)>=([\w.]+)", line)
        if match:  # others are "blurlib[extra]"
            found.setdefault(match[1], match[2])
    return [f"{name}=={bound}" for name, bound in found.items()]


if __name__ == "__main__":
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    print(*lowest(project, dev="--dev" in sys.argv), sep="\n")
