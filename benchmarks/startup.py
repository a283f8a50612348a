"""What blurlib costs before the first image: import, the first blur, memory. Each in fresh processes.

    python benchmarks/startup.py     writes results/startup.json, half a minute

A process has an empty home, and has imported torch and torchvision, which its user has anyway. Linux only.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile

import timing
from cells import BLURS

PROCESSES = 7
CODE = """
import json, time
import numpy, torch, torchvision.transforms.v2
def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024
image = torch.randint(0, 256, (3, 224, 224), dtype=torch.uint8)
torch.set_num_threads(1)
before, start = resident(), time.perf_counter()
import blurlib
found = {"import_ms": 1e3 * (time.perf_counter() - start), "import_mb": resident() - before}
start = time.perf_counter()
blurlib.DiskBlur((1.0, 8.0))(image)
found["first_ms"] = 1e3 * (time.perf_counter() - start)
for blur in BLURS:
    kernel = blurlib.notation.parse(blur).kernel()
    for picture in (image, image.float()):
        blurlib.blur(picture, kernel)
print(json.dumps({**found, "kernels_mb": resident() - before}))
"""


def measured() -> timing.Record:
    """What one fresh process finds."""
    with tempfile.TemporaryDirectory() as home:
        env = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        command = [sys.executable, "-c", CODE.replace("BLURS", repr(BLURS))]
        done = subprocess.run(command, env=env | {"HOME": home}, cwd=home, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def main() -> None:
    timing.parser(__doc__).parse_args()
    record = timing.environment()
    found = [measured() for _ in range(PROCESSES)]
    medians = {name: round(statistics.median(entry[name] for entry in found), 3) for name in found[0]}
    print(medians)
    print("written:", timing.write("startup", record | {"kernels": len(BLURS), **medians}))


if __name__ == "__main__":
    main()
