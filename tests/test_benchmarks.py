"""The arithmetic of the benchmarks: what is compared, ratios, tables, the page."""

import importlib.util
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import blurlib
import cells
import engine
import gpu
import speed_page
import timing


def times(library, hot, cold, error=0.25):
    return {"library": library, "hot": hot, "cold": cold, "error": error, "rounds": 3}


def row(blur, *, size="384x512", layout="CHW uint8", batch=0, **entries):
    return {"size": size, "blur": blur, "layout": layout, "batch": batch, "times": entries}


def record(*rows):
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "processor": "a processor",
        "cores": 2,
        "system": "a system",
        "engine": "native v4",
        "compiler": "a compiler",
        "versions": {"blurlib": "0", "torch": "2"},
        "commit": "c0ffee",
        "load": [0.1, 0.2],
        "rounds": 3,
        "agrees": {"uint8": 2.5, "float32": 1e-5},
        "rows": list(rows),
        "left_out": [],
    }


QUICK = {"OpenCV blur": times("OpenCV", 2.0, 1.8), "OpenCV filter2D": times("OpenCV", 1.5, 4.0)}
SLOW = {"SciPy fft": times("SciPy", 12.0, 30.0)}
OURS = {"blurlib": times("blurlib", 1.0, 2.0), "blurlib v3": times("blurlib", 1.5, 2.4)}


# --- The grid ---


def test_grid():
    grid = cells.grid()
    assert len(set(grid)) == len(grid)
    singles = [cell for cell in grid if not cell.batch and cell.size != cells.TINY]
    assert len(singles) == len(cells.SIZES) * len(cells.BLURS) * len(cells.LAYOUTS)
    assert len([cell for cell in grid if cell.batch]) == 8
    assert set(cells.grid(quick=True)) < set(grid)


@pytest.mark.parametrize("blur", [*cells.BLURS, *cells.BATCH_BLURS])
def test_kernels_are_valid(blur):
    kernel = cells.kernel_of(blur)
    assert kernel.ndim == (3 if blur in cells.BATCH_BLURS else 2) and cells.words(blur)
    torch.testing.assert_close(kernel.sum((-2, -1)), torch.ones(kernel.shape[:-2], dtype=torch.float64))


def test_kernels_of_a_batch_lose_their_zeros_and_no_more():
    for kernel in cells.kernel_of("disks"):
        small = cells.trimmed(kernel)
        assert torch.equal(small[small > 0], kernel[kernel > 0])
        assert small[0].any() and small.shape[0] % 2 == 1
    assert cells.trimmed(cells.kernel_of("D8")).shape == cells.kernel_of("D8").shape


def test_pictures_are_one_picture_in_three_layouts():
    chw, hwc, floats = (cells.picture("224x224", layout) for layout in cells.LAYOUTS)
    assert chw.dtype == torch.uint8 and isinstance(hwc, np.ndarray) and floats.dtype == torch.float32
    assert (chw.permute(1, 2, 0).numpy() == hwc).all()
    assert torch.equal(floats.mul(255).round().to(torch.uint8), chw)
    assert cells.picture(cells.TINY, "CHW uint8").shape == (1, 8, 8)


# --- The comparison with the exact picture ---


@pytest.mark.parametrize("layout", cells.LAYOUTS)
def test_difference_from_the_exact_picture(layout):
    cell = cells.Cell("224x224", "D2", layout)
    blurred = blurlib.blur(cells.picture(cell.size, layout), cells.kernel_of("D2"))
    assert cells.difference(cell, blurred) < engine.ALLOWED[layout.split()[1]]
    other = blurlib.blur(cells.picture(cell.size, layout), cells.kernel_of("D4"))
    assert cells.difference(cell, other) > engine.AGREES[layout.split()[1]]


def test_difference_inside_looks_at_no_border():
    cell = cells.Cell("224x224", "D2", "CHW uint8")
    blurred = blurlib.blur(cells.picture(cell.size, cell.layout), cells.kernel_of("D2"), border="zeros")
    assert cells.difference(cell, blurred) > 20
    assert cells.difference(cell, blurred, inside=True) < 0.502


def test_difference_refuses_another_type_or_shape():
    cell = cells.Cell("224x224", "D2", "CHW uint8")
    image = cells.picture(cell.size, cell.layout)
    for wrong in (image.float(), image[:, 1:]):
        with pytest.raises(ValueError, match=r"must give torch\.uint8"):
            cells.difference(cell, wrong)


def test_reference_is_a_sum_over_the_kernel():
    image, kernel = (
        np.arange(24.0).reshape(1, 4, 6) ** 2,
        np.array([[0.0, 0.0, 0.0], [0.5, 0.25, 0.25], [0, 0, 0]]),
    )
    around = np.pad(image, [(0, 0), (0, 0), (1, 1)], mode="reflect")
    expected = 0.5 * around[..., 2:] + 0.25 * around[..., 1:-1] + 0.25 * around[..., :-2]
    np.testing.assert_allclose(cells.reference(image, kernel), expected, atol=1e-9)


# --- Rounds and records ---


def test_variants_run_in_turns_and_give_medians(capsys):
    calls = []

    def variant(name, library, seconds):
        def run(mode):
            calls.append((name, mode))
            return seconds

        return engine.Variant(name, library, 0.1, run)

    chosen = [variant("blurlib", "blurlib", 1e-3), variant("other f", "other", 0.25)]
    cell = cells.Cell("224x224", "D8", "CHW uint8")
    found = engine.measure(cell, chosen, 5, random.Random(0))
    assert found["times"]["blurlib"] == times("blurlib", 1.0, 1.0, 0.1) | {"rounds": 5}
    assert found["times"]["other f"] == times("other", 250.0, 250.0, 0.1)  # slow: three rounds
    assert calls.count(("blurlib", "hot")) == 5 and calls.count(("other f", "cold")) == 1 + 3
    assert "250.00 other f" in capsys.readouterr().out


def test_a_wrong_picture_of_ours_stops_everything(monkeypatch):
    monkeypatch.setattr(blurlib, "blur", lambda image, _: image)
    with pytest.raises(AssertionError, match=r"from the exact picture, 0\.502 allowed"):
        engine.ours(cells.Cell("224x224", "D2", "CHW uint8"), "blurlib")


@pytest.mark.parametrize("mode", timing.MODES)
def test_one_call_is_timed(mode):
    calls = []
    assert timing.seconds(lambda: calls.append(1), mode, "perf_counter") >= 0
    assert len(calls) == (2 if mode == "hot" else 1)


def test_record_is_read_as_it_was_written(tmp_path):
    whole = timing.environment() | {"rows": [{"a": 1}, {"a": 2}], "none": []}
    path = timing.write("engine", whole, tmp_path / "engine.json")
    found = timing.read("engine", tmp_path)
    assert found == {**whole, "load": found["load"]} and len(found["load"]) == 2
    assert path.read_text("utf-8").count('{"a"') == 2
    assert timing.read("pipeline", tmp_path) is None


@pytest.mark.slow
def test_engine_in_a_process_of_its_own():
    from against import Engine

    cell = cells.Cell(cells.TINY, "D2", "HWC uint8")
    other = Engine(Path(sys.executable))
    blurred = other.load(cells.picture(cell.size, cell.layout), cells.kernel_of("D2"))
    assert cells.difference(cell, blurred) < 0.502
    assert other.seconds("hot", clock="perf_counter", calls=2) > 0
    other.close()


def test_other_libraries_agree_where_they_are_compared():
    if missing := [p for p in ("kornia", "kornia_rs", "albumentations") if not importlib.util.find_spec(p)]:
        pytest.skip(f"not installed: {missing} (pip install 'blurlib[bench]')")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what these packages warn of at import is not ours
        found, left_out = engine.variants(cells.Cell("224x224", "G4", "CHW uint8"))
    names = {variant.name for variant in found}
    assert {"blurlib", "OpenCV GaussianBlur", "kornia-rs gaussian_blur", "SciPy gaussian_filter"} <= names
    assert left_out == []


# --- Tables and page ---


def test_ratios_are_of_a_librarys_quickest_function():
    assert speed_page.ratios(row("H17", **OURS, **QUICK, **SLOW)) == {
        "OpenCV": {"hot": 1.5, "cold": 0.9},
        "SciPy": {"hot": 12.0, "cold": 15.0},
    }


@pytest.mark.parametrize(("value", "shown"), [(123.4, "123"), (9.96, "10"), (2.04, "2.0"), (0.456, "0.46")])
def test_ratios_have_two_digits(value, shown):
    assert speed_page.times(value) == shown


def test_readmes_table():
    planes = {"OpenCV, by planes blur": times("OpenCV, by planes", 3.0, 1.0)}
    text = speed_page.short(record(row("H17", **OURS, **QUICK, **SLOW, **planes)))
    assert "| blur | blurlib | OpenCV | fastest other |" in text
    assert "| horizontal motion, length 17 px | 2.00 ms | 0.50 x | 0.50 x (OpenCV) |" in text


def test_page_of_a_small_record(tmp_path):
    two = {"blurlib, 2 threads": {"library": "blurlib", "cold": 5.0, "error": 0.25, "rounds": 3}}
    batch = {name: {k: v for k, v in entry.items() if k != "hot"} for name, entry in {**OURS, **SLOW}.items()}
    del batch["blurlib v3"]
    batch["blurlib"]["cold"] = 9.0
    whole = record(
        row("D2", size=cells.TINY, blurlib=times("blurlib", 0.012, 0.3)),
        row("H17", **OURS, **QUICK, **SLOW),
        row("disks", batch=32, **batch, **two),
    )
    left = {
        "library": "Pillow",
        "function": "GaussianBlur",
        "layout": "CHW uint8",
        "blur": "G8",
        "error": 3.6,
    }
    whole["left_out"] = [left]
    startup = {"first_ms": 1.23, "import_ms": 210.0, "import_mb": 4.4, "kernels_mb": 9.6, "kernels": 15}
    stages = {"decode": 4.0, "resize": 2.0, "blur": 1.0, "shrink": 2.0, "normalise": 1.0}
    pipeline = {"rows": [{"blur": "disk", "by": "blurlib", "stages": stages}]}
    runs = {"source": "folder", "images": 500, "list_s": 0.0123, "epoch_s": 2.5, "evaluate_s": 5.0}
    loading = {"mix": "sharp + D2", "blurs": "sharp", "workers": 2, "rows": [runs]}
    records = {"engine": whole, "startup": startup, "pipeline": pipeline, "loading": loading}
    for kind, content in records.items():
        timing.write(kind, {**content, "load": [0.1]}, tmp_path / f"{kind}.json")
    speed_page.write(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text("utf-8")
    for line in (
        "| horizontal motion, length 17 px | 1.00 / 2.00 | **1.50 / 0.90** | 12 / 15 |",
        "| horizontal motion, length 17 px | 384x512 | torch, uint8 | OpenCV 1.50 / 0.90 |",
        "defocus disks of 32 radii from 2 to 12 px | torch, uint8 | 9.00 | 5.00 | 1.80 | SciPy 3.3 |",
        "With v3 it takes 1.34 times as long as with v4",
        "| a call on 1 x 8 x 8, torch, uint8 | 12 / 300 µs |",
        "| first `DiskBlur` of a process, made and called | 1.2 ms |",
        "| disk | blurlib | 1.00 | 10% | 100 |",
        "| folder | 500 | 12.30 | 200 | 100 |",
        "- Pillow GaussianBlur: Gaussian, sigma 8 px (3.6)",
        "compiled by a compiler",
    ):
        assert line in page
    assert (tmp_path / "speed.md").exists()


def test_page_is_that_of_the_records(tmp_path):
    if not speed_page.RESULTS.is_dir():
        pytest.skip("an sdist has no records")
    speed_page.write(page=tmp_path / "speed.md")
    assert speed_page.PAGE.read_text("utf-8") == (tmp_path / "speed.md").read_text("utf-8"), (
        "run `make tables`"
    )


def test_on_a_gpu_every_way_gives_the_same_picture():
    """As far as a CPU tells: the kernels are rotated where a library correlates."""
    for dtype, bound in ((torch.uint8, 1), (torch.float16, 2e-3)):
        image, each = gpu.pictures(2, dtype, "cpu")[..., :20, :22], gpu.kernels("shakes", 2, "cpu")
        expected = blurlib.blur(image, each).double()
        for name in ("blurlib", "blurlib, torch", "torch, grouped convolution", "torch, FFT"):
            assert (gpu.WAYS[name](image, each, "shakes")().double() - expected).abs().max() <= bound


def test_page_of_a_gpu():
    entry = {"blur": "D2", "batch": 32, "dtype": "torch.uint8", "blurlib": 0.25}
    page = gpu.page(
        {"device": "a GPU", "date": "today", "commit": "c0ffee", "tests": "passed", "times": [entry]}
    )
    assert "| D2 | 32 | uint8 | 0.250 |" in page


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="no CUDA device"):
        gpu.main()
