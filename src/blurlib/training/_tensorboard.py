"""The log of a run for TensorBoard, where the package tensorboard is installed."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._common.files import replacing

_FOLDER = "tensorboard"


def write_tensorboard(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the numbers of log.csv as scalars by epoch into `folder`/tensorboard, if the package is there.

    The whole history goes into a new file, which takes the place of the one before: after a stop and a resume
    no step is there twice. The writer and its thread end here, so that no loader process is forked beside it.
    What fails is a warning: a run must not end for this.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    target = folder / _FOLDER
    try:
        target.mkdir(exist_ok=True)
        earlier = list(target.glob("events.out.tfevents.*"))
        # Aside in a folder of the system: the writer takes no path that is not text.
        with tempfile.TemporaryDirectory() as aside:
            with SummaryWriter(aside) as writer:
                for row in history:
                    for name, value in row.items():
                        if name != "epoch" and isinstance(value, (int, float)):
                            writer.add_scalar(name, value, row["epoch"])
            for file in Path(aside).iterdir():
                with replacing(target / file.name, durable=False) as new:
                    new.write_bytes(file.read_bytes())
        for file in earlier:
            file.unlink()
    except Exception as error:  # of whatever kind tensorboard, or the protobuf beside it, raises
        warnings.warn(
            f"the log for TensorBoard could not be written to {str(target)!r} ({error})", stacklevel=2
        )
