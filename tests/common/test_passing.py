"""How batches come from loader processes: with little shared memory, and when they do not come."""

import ctypes
import multiprocessing
import os
import sys
import time
import warnings
from collections import namedtuple

import pytest
import torch
from torch.utils.data import Dataset

from blurlib._common import passing
from blurlib._common.devices import batches, make_loader

Item = namedtuple("Item", "number views label")


class Images(Dataset):
    def __init__(self, count, size):
        self.count, self.size = count, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        views = [torch.full((self.size,), index, dtype=torch.uint8), torch.zeros(0, 3)]
        return Item(index, views, {"mask": torch.arange(5)[::2], "name": f"{index}.png"})


class Stuck(Images):
    def __getitem__(self, index):
        if index == 2:
            time.sleep(60)
        return super().__getitem__(index)


def same(items):
    return items


def seen(loader):
    found = []
    for item in batches(loader):
        assert type(item).__name__ == "Item" and item.views[1].shape == (0, 3)
        item.views[0] += 1  # a tensor like any other
        assert item.label["mask"].tolist() == [0, 2, 4] and item.label["name"] == f"{item.number}.png"
        found.append((item.number, {int(item.views[0].min()), int(item.views[0].max())}))
    return found


def test_what_does_not_fit_comes_through_pipes(monkeypatch):
    """To the same batches, with one warning."""
    expected = [(number, {number + 1}) for number in range(6)]
    options = {"workers": 1, "batch_size": None, "collate_fn": same}
    assert seen(make_loader(Images(6, 1000), **options)) == expected
    monkeypatch.setattr(passing, "_size", lambda _: 2**60)
    if not hasattr(os, "statvfs") or not passing._SHARED.exists():
        pytest.skip("no /dev/shm here")
    with pytest.warns(UserWarning, match=r"/dev/shm has \d+ MB free, too little for batches of") as warned:
        assert seen(make_loader(Images(6, 1000), **options)) == expected
    assert len(warned) == 1


def test_sizes_are_those_of_the_tensors():
    item = Images(1, 1000)[0]
    assert passing._size([item, item.views[0]]) == 1000 + 5 * 8


def in_a_container(queue):
    """As Docker starts a process, with 64 MB of shared memory; only root may."""
    libc = ctypes.CDLL(None, use_errno=True)
    new, private = 0x00020000, 0x00044000  # CLONE_NEWNS; MS_REC | MS_PRIVATE
    failed = libc.unshare(new) or libc.mount(b"none", b"/", None, private, None)
    if failed or libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=64m"):
        queue.put(None)
        return
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = seen(make_loader(Images(8, 20_000_000), workers=2, batch_size=None, collate_fn=same))
    queue.put((found, [str(each.message) for each in warned]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are Linux's")
def test_a_loader_in_a_container_of_64_mb():
    """Where torch waits for ever: two processes, two batches of 20 MB each ahead."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=in_a_container, args=(queue,))
    child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
        pytest.fail("it hangs")
    result = queue.get()
    if result is None:
        pytest.skip("no mount namespaces here")
    assert result[0] == [(number, {number + 1}) for number in range(8)]
    assert len(result[1]) == 1 and "too little for batches of 20 MB from 2 loader processes" in result[1][0]


def test_a_loader_that_hangs_ends():
    loader = make_loader(Stuck(4, 10), workers=1, batch_size=None, collate_fn=same, timeout=0.5)
    with pytest.raises(
        TimeoutError, match=r"no batch came from the 1 loader processes for 0\.00833333 minutes"
    ):
        seen(loader)
