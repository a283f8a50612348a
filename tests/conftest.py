"""What every test starts from: a fixed seed, one thread, and no GPU unless asked for."""

import os
import random
import signal

import numpy as np
import pytest
import torch
from hypothesis import settings

# Examples a property: few in `make test`, many in `make test-all` (--hypothesis-profile=thorough).
settings.register_profile("quick", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=500, derandomize=False, print_blob=True)
settings.load_profile("quick")

# Results must not depend on the number of threads; the tests of exactly that set their own.
torch.set_num_threads(1)


# To wait for the disk proves nothing here, and takes as long as others make it wait.
os.fsync = lambda _: None


@pytest.fixture(autouse=True)
def _seed():
    """Fixes the global generators before each test, so that order and selection of tests do not matter."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  third parties draw from the global generator
    torch.manual_seed(0)


@pytest.fixture
def usual_handlers():
    """Signals as a program has them that handles none itself; under `nohup`, say, some are ignored."""
    usual = dict.fromkeys(("SIGINT", "SIGTERM", "SIGHUP"), signal.SIG_DFL) | {
        "SIGINT": signal.default_int_handler
    }
    before = {
        getattr(signal, name): signal.signal(getattr(signal, name), handler)
        for name, handler in usual.items()
        if hasattr(signal, name)
    }
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def pytest_collection_modifyitems(items):
    """Skips the tests marked `cuda` where there is no GPU.

    BLURLIB_REQUIRE_CUDA=1 lets them run and fail instead: a job on a GPU machine cannot pass by skipping.
    """
    if torch.cuda.is_available() or os.environ.get("BLURLIB_REQUIRE_CUDA") == "1":
        return
    skip = pytest.mark.skip(reason="no CUDA device (BLURLIB_REQUIRE_CUDA=1 makes this a failure)")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(skip)
