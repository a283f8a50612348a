"""Functions in processes of their own, which need not import torch anew: a server has, and forks."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed
import torch.multiprocessing

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
multiprocessing.set_forkserver_preload(["blurlib"])


def in_processes(function: Callable, *arguments: Any, world: int = 1, timeout: float = 300) -> list[Any]:
    """What a function of a module returns in each of several processes, which torchrun seems to have started.

    Not forks of this process: where there is a GPU, they could not compute gradients.
    """
    # As torchrun's agent: the port is free, and all processes are its clients.
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        running = torch.multiprocessing.start_processes(
            _call, (world, store.port, folder, function, arguments), world, join=False, start_method=METHOD
        )
        end = time.monotonic() + timeout
        while not running.join(timeout=max(0, end - time.monotonic())):
            if time.monotonic() > end:
                for process in running.processes:
                    process.kill()
                raise TimeoutError(f"{function.__name__} takes more than {timeout} s")
        return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(world)]


def _call(
    rank: int, world: int, port: int, folder: str, function: Callable, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # this process's workers start as they usually do
    if world > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
    result = function(*arguments)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    Path(folder, str(rank)).write_bytes(pickle.dumps(result))
