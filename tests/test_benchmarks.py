"""The benchmark's own arithmetic: the grid, the figures asked for, the fits, the tables; nothing is timed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import blurlib
import cells
import fit_patch_prior
import goals
import measure
import speed_page
import speed_tables
import torch_ideas

ROOT = Path(__file__).resolve().parents[1]


def times(**milliseconds):
    return {
        name: {"ms": ms, "wall": ms, "quartiles": [ms, ms], "error": 0.0, "runs": 3}
        for name, ms in milliseconds.items()
    }


def row(blur, rivals, *, size="384x512", layout="CHW uint8", batch=0, threads=1):
    cell = {"size": size, "blur": blur, "layout": layout, "batch": batch, "threads": threads}
    return {**cell, "rivals": rivals}


def record(*rows):
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "processor": "a processor",
        "cores": 2,
        "system": "a system",
        "versions": {"blurlib": "0"},
        "commit": "c0ffee",
        "load": [0.1, 0.2],
        "asides": {"copy": "no blur", "elsewhere": "another kernel"},
        "rows": list(rows),
        "limits": {"4000x6000": 2.5},
        "left_out": [],
        "compiled": [],
    }


def figure(found, what, where):
    return next(entry for entry in found if (entry.what, entry.where) == (what, where))


# --- The grid ---


def test_grid_has_every_blur_in_every_layout_and_a_part_on_the_largest_images():
    grid = cells.grid()
    singles = [cell for cell in grid if not cell.batch and cell.threads == 1]
    assert len(set(grid)) == len(grid)
    for size in cells.SIZES[:-1]:
        assert len([cell for cell in singles if cell.size == size]) == len(cells.BLURS) * len(cells.LAYOUTS)
    assert {cell.blur for cell in singles if cell.size == cells.LARGEST} == set(cells.LARGEST_BLURS)
    assert {cell.threads for cell in grid if cell.batch} == {1, 2}


def test_every_figure_asked_for_has_its_cell():
    asked = {(blur, layout) for blur, layout in goals.RATIOS}
    assert asked == {(cell.blur, cell.layout) for cell in cells.grid((goals.SIZE,)) if not cell.batch}
    assert goals.LAYOUTS == cells.LAYOUTS
    assert {(blur, layout) for blur, layout, _ in goals.ALLOWED} <= asked
    assert set(goals.BATCH_RATIOS) == set(cells.BATCH_BLURS)
    assert {blur for members in goals.FAMILIES.values() for blur in members} == set(cells.BLURS)


def test_chosen_blurs_come_alone():
    assert cells.grid(("224x224",), ("D8",)) == [
        cells.Cell("224x224", "D8", layout) for layout in cells.LAYOUTS
    ]


@pytest.mark.parametrize("blur", [*cells.BLURS, *cells.BATCH_BLURS])
def test_kernels_are_valid(blur):
    kernel = cells.kernel_of(blur)
    assert kernel.ndim == (3 if blur in cells.BATCH_BLURS else 2)
    torch.testing.assert_close(kernel.sum((-2, -1)), torch.ones(kernel.shape[:-2], dtype=torch.float64))


def test_pictures_are_one_picture_in_three_layouts():
    chw, hwc, floats = (cells.photograph("224x224", layout) for layout in cells.LAYOUTS)
    assert chw.dtype == torch.uint8 and isinstance(hwc, np.ndarray) and floats.dtype == torch.float32
    assert (chw.permute(1, 2, 0).numpy() == hwc).all()
    assert torch.equal(floats.mul(255).round().to(torch.uint8), chw)


# --- Our formulations in plain torch ---


@pytest.mark.parametrize(
    ("idea", "blur"),
    [
        ("running_sums", "D4"),
        ("running_sums", "H8"),
        ("running_sums", "V17"),
        ("shifts", "S17"),
        ("shifts", "H8"),
        ("separable_shifts", "G1"),
    ],
)
@pytest.mark.parametrize("layout", ["CHW uint8", "CHW float32"])
def test_formulations_blur(idea, blur, layout):
    image, kernel = cells.photograph("224x224", layout)[:, :50, :60], cells.kernel_of(blur)
    exact = blurlib.blur(image.double(), kernel)
    blurred = getattr(torch_ideas, idea)(kernel)(image)
    assert blurred.dtype == image.dtype
    assert (blurred.double() - exact).abs().max() < (0.501 if image.dtype == torch.uint8 else 1e-5)


def test_formulations_decline_what_they_cannot_do():
    assert torch_ideas.running_sums(cells.kernel_of("S17")) is None
    assert torch_ideas.shifts(cells.kernel_of("G4")) is None
    assert torch_ideas.separable_shifts(cells.kernel_of("D4")) is None


# --- Fits ---


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.9])
def test_exponent_of_a_power_is_that_power(power):
    assert goals.exponent([(x, 7.0 * x**power) for x in (2, 4, 8, 16, 32)]) == pytest.approx(power)


def test_exponent_needs_two_sizes():
    with pytest.raises(ValueError, match="`points` must hold at least two sizes"):
        goals.exponent({1: 2.0})


def test_growth_is_fitted_by_layout_from_our_times_alone():
    sizes = ("224x224", "384x512", "1080x1920")
    rows = [
        row("D8", times(blurlib=2.0 * goals.area(size), rival=goals.area(size) ** 2), size=size)
        for size in sizes
    ]
    rows += [row(f"D{radius}", times(blurlib=3.0 * radius**0.5)) for radius in (2, 4, 16, 32)]
    rows.append(row("D2", times(blurlib=99.0), threads=2))
    found = record(*rows)
    assert goals.area_exponents(found) == {("D8", "CHW uint8"): pytest.approx(1.0)}
    without = record(*rows[3:])
    assert goals.size_exponents(without) == {("disk", "CHW uint8"): pytest.approx(0.5)}


# --- Asked and measured ---


def test_the_best_rival_is_one_that_counts():
    found = record(row("D8", times(blurlib=1.0, copy=0.1, elsewhere=0.5, slow=40.0, quick=9.0)))
    assert goals.best(found["rows"][0], found) == ("quick", 9.0)
    asked = figure(goals.asked(found), "ratio", "D8, CHW uint8")
    assert (asked.asked, asked.measured, asked.met, asked.detail) == ("10", "9.00", False, "quick")


@pytest.mark.parametrize(
    ("special", "other", "met", "detail"),
    [(0.85, 1.2, True, "cv2.blur"), (0.75, 1.2, False, "cv2.blur"), (0.85, 0.95, False, "other")],
)
def test_opencv_at_its_best_may_be_a_little_quicker_and_hides_no_other(special, other, met, detail):
    rivals = times(blurlib=1.0, other=other) | {"cv2.blur": times(x=special)["x"]}
    asked = figure(goals.asked(record(row("H8", rivals, layout="HWC uint8"))), "ratio", "H8, HWC uint8")
    assert (asked.met, asked.detail) == (met, detail)


def test_batches_threads_and_cells_where_a_rival_is_quicker():
    found = goals.asked(
        record(
            row("disks", times(blurlib=2.0, quick=25.0), batch=32, size="224x224"),
            row("disks", times(blurlib=1.25, quick=20.0), batch=32, size="224x224", threads=2),
            row("D8", times(blurlib=1.0, quick=0.89), size="224x224"),
            row("D4", times(blurlib=1.0, quick=0.91), size="224x224"),
        )
    )
    where = "32 disks, 224x224, CHW uint8"
    assert figure(found, "batch ratio", where)[3:5] == ("12.5", True)
    assert figure(found, "two threads", where)[3:5] == ("1.60", False)
    slower = next(entry for entry in found if entry.what.startswith("cells where"))
    assert (slower.measured, slower.met) == ("1", False)
    assert "D8" in slower.detail and "quick" in slower.detail


def test_records_of_other_sizes_are_joined(tmp_path):
    usual = {"processor": "p", "versions": {"torch": "2"}, "date": "2026-11-23", "commit": "abc"}
    lists = {"left_out": [], "compiled": [], "load": [0.1]}
    first = {**usual, **lists, "rows": [{"size": "224x224", "seconds": 1.0}]}
    later = {**usual, **lists, "rows": [{"size": "4000x6000", "seconds": 9.0}], "commit": "def"}
    path = measure.write("speed", first, tmp_path / "record.json")
    joined = measure.joined(path, later)
    assert [row["size"] for row in joined["rows"]] == ["224x224", "4000x6000"]
    assert joined["note"] == "4000x6000: from a run of its own, 2026-11-23, commit def."
    with pytest.raises(SystemExit, match="has cells of 224x224"):
        measure.joined(path, {**later, "rows": first["rows"]})
    with pytest.raises(SystemExit, match="another versions"):
        measure.joined(path, {**later, "versions": {"torch": "3"}})


def test_memory_and_shares():
    memory = {
        "size": "4000x6000",
        "rows": [{"rival": "blurlib", "blur": "D8", "layout": "CHW uint8", "extra": 106, "output": 100}],
    }
    stages = {"decode": 4.0, "resize": 2.0, "blur": 1.0, "shrink": 2.0, "normalise": 1.0}
    pipeline = {"rows": [{"blur": "blurlib D8", "stages": stages, "rates": {"0": 100.0}}]}
    found = goals.asked(record(), memory, pipeline)
    assert [(entry.measured, entry.met) for entry in found] == [("1.06", False), ("10%", True)]


# --- Tables and page ---


def test_table_of_rivals():
    found = record(row("D8", times(blurlib=0.5, copy=0.1, elsewhere=1.0, slow=20.0, quick=5.0)))
    text = speed_tables.one_size(found)
    taps = cells.taps("D8")
    assert f"| ps an element and tap | {0.5e9 / (3 * 384 * 512 * taps):.1f} |" in text
    for line in (
        "| blurlib, ms | 0.5 |",
        "| times as long as copying | 5.0 |",
        "| elsewhere | (2.0) |",
        "| slow | 40 |",
        "| quick | **10.0** |",
    ):
        assert line in text


def test_short_table_takes_a_librarys_quickest_way():
    rivals = times(blurlib=1.0) | {"cv2.filter2D": times(x=5.0)["x"], "cv2.blur": times(x=3.0)["x"]}
    text = speed_tables.short_table(record(row("H17", rivals)))
    assert "| horizontal motion, length 17 px | 1 ms | 3.0 x |" in text


def test_page_from_the_newest_record(tmp_path):
    old = record(row("D8", times(blurlib=9.0, quick=5.0)))
    new = record(row("D8", times(blurlib=1.0, quick=5.0))) | {"date": "2026-01-03T00:00:00+00:00"}
    (tmp_path / "speed_a.json").write_text(json.dumps(new), encoding="utf-8")
    (tmp_path / "speed_b.json").write_text(json.dumps(old), encoding="utf-8")
    text = speed_page.text(tmp_path)
    assert "`benchmarks/results/speed_a.json`" in text
    assert "| D8 | 10 | **5.00** ✗ | quick |" in text
    assert "a processor, 2 cores" in text and "commit c0ffee" in text


def test_page_is_that_of_the_records():
    if speed_page.newest("speed") is None:
        pytest.skip("no record yet; `make bench` makes one")
    assert speed_page.PAGE.read_text("utf-8") == speed_page.text(), "run `make tables`"


# --- The patch prior of deblurring ---


def test_patch_prior_is_fitted(tmp_path, capsys):
    """Few patches and components: the likelihood rises with every step on the same patches."""
    place = tmp_path / "prior.npz"
    fit_patch_prior.main(f"--components 4 --patches 4000 --steps 6 --output {place}".split())
    likelihoods = [float(line.split()[4].rstrip(",")) for line in capsys.readouterr().out.splitlines()]
    assert likelihoods[1] < likelihoods[2] and likelihoods[3] < likelihoods[4] < likelihoods[5]
    prior = blurlib.patch_prior.PatchPrior.load(place)
    assert prior.side == 8 and len(prior.weights) == 4
    assert (prior.weights.diff() <= 0).all()
