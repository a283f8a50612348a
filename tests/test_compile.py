"""The transforms under torch.compile: each call draws anew, and draws what it would without."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from blurlib import CameraShakeBlur, DiskBlur, GaussianBlur, MotionBlur
from blurlib._engine.core import MISSING  # zeros around a kernel change a bit where torch blurs
from images import exhaustive

TRANSFORMS = {
    "disk": DiskBlur((1, 8)),
    "binary disk": DiskBlur((1, 8), antialias=False, border="circular"),
    "fixed disk": DiskBlur(3),
    "motion": MotionBlur(),
    "level motion": MotionBlur((0, 20), angle=0),
    "shake": CameraShakeBlur(),
    "test shake": CameraShakeBlur(bank="test"),
    "shakes of sizes": CameraShakeBlur(size=(5, 13)),
    "gaussian": GaussianBlur((0.0, 3.0)),
}


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def drawn(transform, image: torch.Tensor, draws: int) -> list[torch.Tensor]:
    found = []
    for seed in range(draws):
        torch.manual_seed(seed)
        found.append(transform(image))
    return found


def differ(images: list[torch.Tensor]) -> bool:
    """Whether most are another blur; two sigmas may have one kernel, as two radii of binary disks do."""
    return len({one.numpy().tobytes() for one in images}) > len(images) / 2


@pytest.mark.parametrize(("fullgraph", "draws"), [(True, 2), exhaustive(True, 20), exhaustive(False, 20)])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_compiled_draws_are_the_uncompiled_ones(name, fullgraph, draws):
    transform = TRANSFORMS[name]
    image = torch.randint(0, 256, (2, 3, 30, 33), dtype=torch.uint8)
    compiled = torch.compile(transform, backend="aot_eager", fullgraph=fullgraph)
    expected = drawn(transform, image, draws)
    for a, b in zip(drawn(compiled, image, draws), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1 if MISSING else 0)
    assert differ(expected) == (name != "fixed disk")


@pytest.mark.parametrize(
    ("name", "draws"),
    [(name, 2) for name in ("disk", "shake")] + [exhaustive(name, 20) for name in TRANSFORMS],
)
def test_compiled_to_machine_code(name, draws):
    """Random numbers are the compiler's own there: a point of light becomes some kernel, mostly another."""
    try:
        torch._inductor.cpp_builder.get_cpp_compiler()
    except Exception:
        pytest.skip("no C++ compiler")
    image = torch.zeros((1, 41, 41))
    image[0, 20, 20] = 1
    compiled = torch.compile(TRANSFORMS[name], fullgraph=True)
    found = drawn(compiled, image, draws)
    for one in found:
        assert one.sum().item() == pytest.approx(1, abs=1e-5)
        assert one.min() >= (-1e-6 if MISSING else 0)
    assert differ(found) == (name != "fixed disk")


def test_one_graph_for_a_pipeline():
    pipeline = v2.Compose([DiskBlur((1, 8)), v2.ToDtype(torch.float32, scale=True), MotionBlur((2, 9))])
    image = torch.randint(0, 256, (3, 30, 33), dtype=torch.uint8)
    compiled = torch.compile(pipeline, backend="aot_eager", fullgraph=True)
    for a, b in zip(drawn(compiled, image, 2), drawn(pipeline, image, 2), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_gradients_and_other_inputs():
    image = torch.rand(3, 20, 21)
    compiled = torch.compile(DiskBlur((1, 8)), backend="aot_eager")
    leaf = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(compiled(leaf).square().sum(), leaf)
    assert slope.isfinite().all()
    torch.manual_seed(1)
    found, label = compiled(tv_tensors.Image(image), 7)
    torch.manual_seed(1)
    torch.testing.assert_close(found.as_subclass(torch.Tensor), DiskBlur((1, 8))(image), rtol=0, atol=1e-6)
    assert label == 7
