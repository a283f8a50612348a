"""This blurlib and another commit's, each in a process of its own, which take turns.

Both blur the same images and time themselves by the same function: the call before (hot) and the 64 MB read
(cold) happen there, right before the call that counts.
"""

from __future__ import annotations

import functools
import os
import pickle
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import timing

Picture = np.ndarray | torch.Tensor


class Engine:
    """A blurlib in a process of its own.

    Args:
        place: a checkout, whose `src` is imported with the packages that are here; or the Python of an
            environment that has the other blurlib installed.
    """

    def __init__(self, place: Path) -> None:
        command, env = [str(place)], dict(os.environ)
        if place.is_dir():
            # Without `site`, which would make this checkout's own blurlib importable first.
            command = [sys.executable, "-S"]
            env["PYTHONPATH"] = os.pathsep.join([str(place / "src"), *site.getsitepackages()])
        self._process = subprocess.Popen(
            [*command, __file__], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        found = self._ask("where")
        self.file, self.backend = found["file"], found["backend"]
        self.commit = timing.commit(Path(self.file).parent)

    def load(self, image: Picture, kernel: torch.Tensor) -> Picture:
        """Take an image and a kernel, and return the blurred image."""
        is_tensor = isinstance(image, torch.Tensor)
        blurred = self._ask("load", np.asarray(image), kernel.numpy(), is_tensor)
        return torch.from_numpy(blurred) if is_tensor else blurred

    def seconds(self, mode: str, clock: str, calls: int) -> float:
        """Seconds of a call with what was loaded last, on one thread."""
        return float(self._ask("seconds", mode, clock, calls))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, *question: object) -> Any:
        pickle.dump(question, self._process.stdin)
        self._process.stdin.flush()
        try:
            return pickle.load(self._process.stdout)
        except EOFError:
            raise SystemExit("a blurlib has stopped; its message is above") from None


def _serve() -> None:
    """Answer the questions on stdin; what blurlib prints goes to stderr."""
    import blurlib

    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    run: Any = None
    while True:
        try:
            name, *given = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if name == "where":
            backends = getattr(blurlib, "backends", None)
            backend = backends()["cpu"] if backends else "numba"
            answer: Any = {"file": str(blurlib.__file__), "backend": backend}
        elif name == "load":
            array, kernel, is_tensor = given
            image = torch.from_numpy(array) if is_tensor else array
            run = functools.partial(blurlib.blur, image, torch.from_numpy(kernel))
            answer = np.asarray(run())
        else:
            answer = timing.seconds(run, *given)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve()
