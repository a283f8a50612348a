"""Blur and crop after the transfer: what the workers would have made, and nothing that waits for a device."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import blurlib
from blurlib import protocol
from blurlib._common import devices

MIX = blurlib.BlurMixSampler("sharp + D4 + L6@30 + G2 + shake", seed=3)
INDICES = [4, 9, 2, 77, 5, 6, 0]
SQUARE = protocol.Protocol(canonical_side=40, network_side=40, jitter=(40,), crop=32)


def batch(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("hflip", "epoch"), [(0.0, 0), (0.5, 2), (1.0, 1)])
def test_a_batch_becomes_what_the_workers_make_of_its_images(hflip, epoch):
    arrays = batch(7, 40, 40, 3)
    expected = [
        protocol.training_view(
            Image.fromarray(array),
            mask,
            MIX.draw(index, epoch),
            protocol=SQUARE,
            seed=3,
            epoch=epoch,
            index=index,
            hflip=hflip,
        )
        for array, mask, index in zip(arrays, arrays[..., 0], INDICES, strict=True)
    ]
    places = {"crop": 32, "seed": 3, "epoch": epoch, "hflip": hflip}
    images = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    soft = MIX(images, indices=INDICES, epoch=epoch)
    assert torch.equal(
        protocol.training_crops(soft, INDICES, **places), torch.stack([view for view, _ in expected])
    )
    masks = protocol.training_crops(images[:, 0], INDICES, **places)
    assert np.array_equal(masks.numpy(), np.stack([mask for _, mask in expected]))


def test_crops_of_any_batch():
    """One image by itself, a video, floats, an oblong, nothing; one draw for the batch it is in."""
    images = torch.rand(7, 2, 3, 40, 52)
    found = protocol.training_crops(images, torch.tensor(INDICES), crop=44, measure="geometric")
    assert found.shape == (7, 2, 3, 40, 44)
    lefts = set()
    for image, index, cut in zip(images, INDICES, found, strict=True):
        alone = protocol.training_crops(image[None, :1], [index], crop=44, measure="geometric")
        assert torch.equal(alone[0, 0], cut[0])
        lefts |= {left for left in range(9) if torch.equal(image[..., left : left + 44], cut)}
    assert len(lefts) > 2
    assert protocol.training_crops(images[:0], [], crop=8).shape == (0, 2, 3, 8, 8)


class Uploads(TorchDispatchMode):
    """Counts copies to a device; one that waits, or that comes back, is an error."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, device = func.name(), (kwargs or {}).get("device")
        assert "_local_scalar_dense" not in name
        if "_to_copy" in name and device is not None and device.type != args[0].device.type:
            assert device.type == "cuda" and kwargs["non_blocking"]
            self.count += 1
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device():
    with FakeTensorMode(allow_non_fake_inputs=True), Uploads() as uploads:
        images = torch.empty((7, 3, 40, 40), dtype=torch.uint8, device="cuda")
        soft = MIX(images, indices=INDICES, epoch=1)
        cut = protocol.training_crops(soft, INDICES, crop=32, epoch=1)
    assert (cut.device.type, cut.dtype, cut.shape) == ("cuda", torch.uint8, (7, 3, 32, 32))
    assert uploads.count == 2  # of all kernels, of all places


def test_what_is_sent_to_a_gpu_lies_in_pinned_memory(monkeypatch):
    """Else the copy would wait, or be of what has been overwritten since."""
    pinned = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    with FakeTensorMode():
        assert devices.sent(torch.empty(3), torch.device("cuda")).device.type == "cuda"
    devices.sent(torch.empty(3), torch.device("cpu"))
    assert len(pinned) == 1


@pytest.mark.cuda
def test_on_a_gpu_without_waiting():
    arrays = batch(7, 3, 40, 40)
    expected = MIX(torch.from_numpy(arrays), indices=INDICES)
    there = torch.from_numpy(arrays).cuda()
    MIX(there, indices=INDICES)  # libraries load, trials run
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = protocol.training_crops(MIX(there, indices=INDICES), INDICES, crop=32)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    of_cpu = protocol.training_crops(expected, INDICES, crop=32)
    assert (found.cpu().int() - of_cpu.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (TypeError, {"images": np.zeros((2, 8, 8))}),
        (ValueError, {"images": torch.zeros(8, 8)}),
        (ValueError, {"indices": [1, 2, 3]}),
        (TypeError, {"indices": [0.5, 1]}),
        (ValueError, {"indices": [-1, 1]}),
        (ValueError, {"crop": 0}),
        (TypeError, {"crop": 2.5}),
        (ValueError, {"epoch": -1}),
        (ValueError, {"hflip": 1.5}),
        (ValueError, {"measure": "longer"}),
    ],
    ids=str,
)
def test_bad_crops(kind, given):
    usual = {"images": torch.zeros(2, 3, 8, 8), "indices": [0, 1], "crop": 4}
    name = next(iter(given))
    with pytest.raises(kind, match=rf"`{name}` must"):
        protocol.training_crops(**(usual | given))
