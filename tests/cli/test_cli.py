"""The command line: every option of the functions, what is written, and one clean line for every mistake."""

import inspect
import io
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torchvision import models
from typer.testing import CliRunner

import blurlib
from blurlib import data
from blurlib._cli import evaluate, finetune, main, options
from blurlib._common import interrupts
from blurlib.blurs import shake_of_image
from blurlib.functional import apply
from blurlib.reporting import Report
from images import exhaustive

SMALL = ["--crop", "24", "--canonical-side", "32", "--workers", "0", "--no-progress"]
SEEN = ["--scales", "24", "--blurs", "sharp,D2", *SMALL]
TRAINED = ["--network-side", "24", "--batch-size", "4", "--epochs", "1", "--lr", "1e-2", *SMALL]

NETWORKS = """
from torch import nn
import torch

def tiny():
    torch.manual_seed(3)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *pool, nn.Linear(4, 2))

ready = tiny()
three = 3

def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3), *list(tiny())[1:])

def four():
    return nn.Sequential(nn.Conv2d(4, 4, 3), *list(tiny())[1:])

def fixed():
    return nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), nn.Linear(32 * 32, 2))

def nothing():
    return None
"""


def run(*arguments, code=0):
    result = CliRunner().invoke(main.app, [str(argument) for argument in arguments], prog_name="blurlib")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def noise(width=40, height=30, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def same(path, expected):
    with Image.open(path) as image:
        assert image.mode == "RGB" and image.size == expected.size
        assert np.array_equal(np.asarray(image), np.asarray(expected))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with the root `data` and the module `networks`."""
    for split in ("train", "val"):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                noise(seed=10 * label + number).save(folder / f"{number}.png")
    (tmp_path / "networks.py").write_text(NETWORKS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "networks", raising=False)
    yield tmp_path
    sys.modules.pop("networks", None)


# --- help


def commands():
    return typer.main.get_command(main.app).commands


@pytest.mark.parametrize(
    "name",
    [
        *("demo", "blur", "show", "corrupt", "gauge", "evaluate", "tolerance", "finetune", "reproduce"),
        *("report", "doctor"),
    ],
)
def test_help_has_examples_that_parse(name, monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    text = run(name, "--help").output
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    shown = re.findall(rf"^ +(?:torchrun .*-m )?blurlib {name}\b((?:.*\\\s*\n)*.*)$", text, re.MULTILINE)
    assert shown, f"`blurlib {name} --help` has no example"
    known = {option for parameter in commands()[name].params for option in parameter.opts}
    for words in shown:
        assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", words)) <= known


def test_help_of_the_whole_lists_the_commands():
    text = run("--help").output
    assert set(commands()) == {
        "demo",
        "blur",
        "show",
        "corrupt",
        "gauge",
        "evaluate",
        "tolerance",
        "finetune",
        "reproduce",
        "report",
        "doctor",
    }
    assert "Exit codes: 0 done;" in " ".join(text.split())
    assert all(f" {name} " in text for name in commands())
    assert "blurlib demo --out" in text


@pytest.mark.parametrize("name", ["evaluate", "finetune"])
def test_every_parameter_of_the_function_is_an_option(name):
    options = {parameter.name: parameter for parameter in commands()[name].params}
    function = inspect.signature(getattr(blurlib, name)).parameters
    # --output is asked for where a network would be lost without it; --arch and --classes name the network;
    # `distributed` is whether torchrun started the command; --deblur puts something before the network.
    # `metadata` is what the command knows of the network; folders have no `columns`.
    # --json is how the result is printed.
    extra = {"arch", "classes", "help", "distributed", "deblur", "metadata", "columns", "json"}
    assert set(options) - extra == set(function) - extra
    for parameter in list(function.values())[2:]:
        if parameter.name in ("output", "distributed", "metadata", "columns"):
            continue
        given = options[parameter.name].default
        if isinstance(given, (list, tuple)):
            given = [type(np.atleast_1d(parameter.default)[0].item())(x) for x in ",".join(given).split(",")]
            assert given == np.atleast_1d(parameter.default).tolist(), parameter.name
        else:
            assert given == parameter.default, parameter.name


def test_corrupt_has_the_options_of_its_function():
    options = {parameter.name: parameter.default for parameter in commands()["corrupt"].params}
    function = inspect.signature(data.corrupt).parameters
    assert set(options) - {"help"} == set(function)
    for parameter in list(function.values())[3:]:
        assert options[parameter.name] == parameter.default


def test_version_by_every_door(monkeypatch, capsys):
    expected = f"blurlib {version('blurlib')}\n"
    assert run("--version").output == expected
    monkeypatch.setattr(sys, "argv", ["-m", "--version"])
    monkeypatch.delitem(sys.modules, "blurlib.__main__", raising=False)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # main() sets its own
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("blurlib", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == expected


def test_a_mistyped_command_or_option_is_explained():
    assert "No such command" in run("blurr", code=2).output
    assert "No such option" in run("blur", "a.png", "--blurr", "D8", "-o", "b.png", code=2).output
    assert "--output" in run("finetune", "networks:tiny", "data", code=2).output


# --- corrupt


def test_copies_are_written_evaluated_and_told(place):
    output = run("corrupt", "data", "bench", "--blurs", "D2,shake", "--canonical-side", "32").output
    assert "D2: bench/disk/2\nshake: bench/shake/each\n" in output
    small = ["--scales", "24", *SMALL]
    direct = run("evaluate", "networks:tiny", "data", "--blurs", "D2", *small).output
    copies = run("evaluate", "networks:tiny", "bench/disk/2", *small).output
    assert "blurred by blurlib corrupt: D2, PNG, at a shorter side of 32 px" in copies
    assert copies.splitlines()[2] == direct.splitlines()[2]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("data", "data/bench"), "error: `destination` must be apart from `root`"),
        (("data", "networks.py"), "error: `destination` must be a folder, got the file 'networks.py'"),
        (("nowhere", "bench"), "error: `root` must be a folder of images, got 'nowhere', which is not there"),
        (("data", "bench", "--quality", "80"), "which loses nothing, got 80; or pass --encoding jpeg"),
    ],
    ids=["inside", "file", "nowhere", "quality"],
)
def test_corrupt_refuses_in_one_line(place, arguments, told):
    output = run("corrupt", *arguments, "--blurs", "D2", code=2).output
    assert told in output and output.count("\n") == 1
    assert not (place / "bench").exists() and not (place / "data" / "bench").exists()


# --- blur


@pytest.mark.parametrize(("at", "scale"), [((), 30 / 384), (("--at", 15), 2.0), (("--at", "image"), 1.0)])
def test_blur_scales_the_kernel_to_the_photograph(tmp_path, at, scale):
    noise().save(tmp_path / "in.png")
    output = run("blur", tmp_path / "in.png", "--blur", "D4", "-o", tmp_path / "out.png", *at).output
    same(tmp_path / "out.png", apply(noise(), "D4", scale=scale))
    assert "D4 in pixels of the photograph" in output if scale == 1.0 else f"scaled by {scale:.3g}" in output
    assert "40 x 30 px" in output


def test_blur_takes_border_and_format(tmp_path):
    noise().save(tmp_path / "in.png")
    run(
        "blur",
        tmp_path / "in.png",
        "-b",
        "G2",
        "-o",
        tmp_path / "a.bmp",
        "--at",
        "image",
        "--border",
        "zeros",
    )
    same(tmp_path / "a.bmp", apply(noise(), "G2", border="zeros"))
    run("blur", tmp_path / "in.png", "-b", "G2", "-o", tmp_path / "new" / "b.JPG", "--at", "image")
    apply(noise(), "G2").save(tmp_path / "expected.jpg", quality=95)
    assert (tmp_path / "new" / "b.JPG").read_bytes() == (tmp_path / "expected.jpg").read_bytes()


def test_blur_turns_photographs_upright_and_keeps_their_colour_profile(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise().save(tmp_path / "in.png", exif=exif, icc_profile=b"a profile")
    run("blur", tmp_path / "in.png", "-b", "H3", "-o", tmp_path / "out.png", "--at", "image")
    same(tmp_path / "out.png", apply(noise().transpose(Image.Transpose.ROTATE_270), "H3"))
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["icc_profile"] == b"a profile"
        assert image.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16", "RGBA"])
def test_blur_takes_every_mode(tmp_path, mode):
    deep = Image.fromarray(np.full((6, 9), 25700, np.uint16))
    image = deep if mode == "I;16" else noise(9, 6).convert(mode)
    if mode == "RGBA":
        image.putalpha(0)
    image.save(tmp_path / "in.tiff")
    run("blur", tmp_path / "in.tiff", "-b", "D1", "-o", tmp_path / "out.png", "--at", "image")
    with Image.open(tmp_path / "out.png") as out:
        assert out.mode == "RGB" and out.size == (9, 6)
        if mode in ("I;16", "RGBA"):
            assert out.getextrema() == (((100, 100),) if mode == "I;16" else ((255, 255),)) * 3


def test_blur_of_a_folder_keeps_its_structure_and_shakes_by_place(tmp_path):
    names = ["a.png", "b.PNG", "deep/er/c.bmp", "z.png"]
    for seed, name in enumerate(names):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        noise(seed=seed).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("not an image", encoding="utf-8")
    (tmp_path / "in" / ".hidden.png").write_bytes(b"")
    output = run(
        "blur", tmp_path / "in", "-b", "shake", "-o", tmp_path / "out", "--at", "image", "--seed", 5
    ).output
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert written == sorted(str(Path(name)) for name in names)
    for index, name in enumerate(names):
        same(tmp_path / "out" / name, apply(noise(seed=index), shake_of_image(index, seed=5)))
    assert "4 images blurred\n" in output


def test_blur_of_a_folder_goes_on_after_broken_files(tmp_path):
    (tmp_path / "in").mkdir()
    noise().save(tmp_path / "in" / "b.jpg")
    whole = (tmp_path / "in" / "b.jpg").read_bytes()
    (tmp_path / "in" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "c.png").write_bytes(b"")
    result = run("blur", tmp_path / "in", "-b", "D4", "-o", tmp_path / "out", code=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.jpg"]
    errors = result.stderr.splitlines()
    assert len(errors) == 2 and all(line.startswith("error: cannot read ") for line in errors)
    assert "a.jpg" in errors[0] and "c.png" in errors[1]
    assert "1 images blurred, 2 could not be" in result.stdout


def test_blur_overwrites_by_force_only(tmp_path):
    for name in ("in/a.png", "in/b.png", "out/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise().save(tmp_path / name)
    before = (tmp_path / "out" / "b.png").read_bytes()
    text = run("blur", tmp_path / "in", "-b", "D40", "-o", tmp_path / "out", code=2).output
    assert "--force" in text and "b.png" in text
    assert (tmp_path / "out" / "b.png").read_bytes() == before
    assert not (tmp_path / "out" / "a.png").exists()
    run("blur", tmp_path / "in", "-b", "D40", "-o", tmp_path / "out", "--force")
    assert (tmp_path / "out" / "b.png").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("in.png", "-b", "disc8", "-o", "out.png"), "did you mean"),
        (("in.png", "-b", "D-4", "-o", "out.png"), "`radius`"),
        (("in.png", "-b", "shake", "-o", "out.png"), "S93"),
        (("none.png", "-b", "D4", "-o", "out.png"), "none.png"),
        (("in.png", "-b", "D4", "-o", "folder"), str(Path("folder", "in.png"))),
        (("in.png", "-b", "D4", "-o", "out"), ".png"),
        (("in.png", "-b", "D4", "-o", "out.doc"), "out.doc"),
        (("folder", "-b", "D4", "-o", "out"), "got none in"),
        (("data", "-b", "D4", "-o", "out.png"), "must be a folder"),
        (("data", "-b", "D4", "-o", "in.png"), "must be a folder"),
        (("data", "-b", "D4", "-o", "data/out"), "outside"),
        (("data", "-b", "D4", "-o", "data", "--force"), "outside"),
        (("in.png", "-b", "D4", "-o", "out.png", "--at", "0"), "--at"),
        (("in.png", "-b", "D4", "-o", "out.png", "--at", "small"), "small"),
        (("in.png", "-b", "D4", "-o", "out.png", "--border", "round"), "circular"),
        (("in.png", "-b", "D900", "-o", "out.png", "--at", "1"), "in.png"),
        (("empty.png", "-b", "D4", "-o", "out.png"), "not an image"),
    ],
)
def test_blur_refuses_in_one_line(place, arguments, words):
    noise().save("in.png")
    Path("folder").mkdir()
    Path("empty.png").write_bytes(b"")
    before = sorted(place.rglob("*"))
    result = run("blur", *arguments, code=2)
    assert not result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert words in result.stderr
    assert sorted(place.rglob("*")) == before


def test_blur_stopped_leaves_whole_files(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        noise().save(tmp_path / "in" / name)
    save = Image.Image.save

    def stop_at_b(image, path, *arguments, **options):
        save(image, path, *arguments, **options)
        if Path(path).name.startswith(".b."):  # written aside first
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", stop_at_b)
    result = run("blur", tmp_path / "in", "-b", "D4", "-o", tmp_path / "out", code=130)
    assert "stopped after 1 of 3" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


# --- evaluate, finetune, report


def test_evaluate_prints_and_keeps_what_the_function_measures(place):
    output = run("evaluate", "networks:tiny", "data", *SEEN, "--output", "runs/a").stdout
    import networks

    expected = blurlib.evaluate(
        networks.tiny(),
        "data",
        blurs="sharp,D2",
        scales=24,
        crop=24,
        canonical_side=32,
        workers=0,
        progress=False,
    )
    assert expected.table() in output
    kept = Report.load("runs/a")
    assert [record.cross_entropy for record in kept.records] == [r.cross_entropy for r in expected.records]
    assert "blurlib report runs/a" in output


def test_evaluate_behind_a_deblurring(place):
    usual = ["--scales", "24", "--blurs", "D3", *SMALL, "--mean", "0.5,0.5,0.5"]
    run("evaluate", "networks:tiny", "data", *usual, "--deblur", "wiener:D2", "--output", "a")
    import networks

    behind = blurlib.deblurring.DeblurThenClassify(networks.tiny(), "wiener", "D2", mean=(0.5, 0.5, 0.5))
    expected = blurlib.evaluate(
        behind, "data", blurs="D3", scales=24, crop=24, canonical_side=32, workers=0, progress=False
    )
    kept = Report.load("a")
    assert [record.cross_entropy for record in kept.records] == [r.cross_entropy for r in expected.records]
    assert kept.settings["deblurring"]["blur"] == "D2"
    refused = run("evaluate", "networks:tiny", "data", *usual, "--deblur", "wiener", code=2).output
    assert "`--deblur` must be METHOD:BLUR" in refused


def test_evaluate_reads_lists(place):
    scales = ["--scales", "24,32+48", "--scales", "48", "--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.25"]
    run("evaluate", "networks:ready", "data", *scales, "--blurs", "D2", *SMALL, "--output", "a", "--limit", 4)
    report = Report.load("a")
    assert [record.sides for record in report.records] == [(24,), (32, 48), (48,)]
    assert report.settings["std"] == [0.2, 0.2, 0.25]
    assert report.records[0].count == 4


def test_finetune_trains_as_the_function_and_its_weights_come_back(place):
    lists = [
        "--epochs",
        "1",
        "--epochs",
        "1",
        "--lr",
        "1e-2,1e-3",
        "--trainable",
        "0.*,4.*",
        "--hflip",
        "0.5",
    ]
    result = run("finetune", "networks:tiny", "data", *TRAINED[:4], *lists, *SMALL, "--output", "runs/b")
    assert len(re.findall(r"^epoch \d: lr", result.stdout, re.MULTILINE)) == 2
    import networks

    expected = blurlib.finetune(
        networks.tiny(), "data", epochs=(1, 1), lr=(1e-2, 1e-3), network_side=24, batch_size=4, crop=24,
        hflip=0.5, canonical_side=32, workers=0, progress=False,
    ).model.state_dict()  # fmt: skip
    for name in ("model.pt", "checkpoint.pt"):
        state = torch.load(Path("runs/b") / name, weights_only=True)
        state = state.get("model", state)
        assert all(torch.equal(expected[key], state[key]) for key in expected)
        run(
            "evaluate", Path("runs/b") / name, "data", "--arch", "networks:tiny", *SEEN, "--output", name[:-3]
        )
    assert Report.load("model").to_csv() == Report.load("checkpoint").to_csv()
    assert "blurlib evaluate runs/b/model.pt data --arch networks:tiny" in result.stdout


def test_the_command_that_finetune_suggests_shows_images_as_in_training(place):
    """It left out all but --arch: other colours, sides and crops than those trained with."""
    shown = ["--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.25", "--resample", "box"]
    output = run("finetune", "networks:tiny", "data", *TRAINED, *shown, "--output", "my runs").stdout
    (line,) = re.findall(r"To evaluate: (blurlib evaluate .*)", output)
    words = shlex.split(line)
    assert words[:4] == ["blurlib", "evaluate", "my runs/model.pt", "data"]
    run(*words[1:], "--blurs", "D2", "--no-progress", "--workers", "0", "--output", "kept")
    kept = Report.load("kept").settings
    assert (kept["mean"], kept["std"], kept["normalisation"]) == ([0.5] * 3, [0.2, 0.2, 0.25], "given")
    assert (kept["scales"], kept["crop"], kept["canonical_side"]) == ([[24]], 24, 32)
    assert kept["resample"] == "box"
    assert kept["metadata"] == {"name": "networks:tiny", "file": "my runs/model.pt"}
    plain = run("finetune", "networks:tiny", "data", *TRAINED, "--output", "b").stdout
    assert "--mean" not in plain and "--resample" not in plain


def test_a_network_of_more_classes_than_the_folder(place):
    """One command tells the remedy, the next is it, and what finetune suggests has it too."""
    Path("wide.py").write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))\n"
    )
    classes = sorted(path.name for path in Path("data/val").iterdir())
    Path("wnids.txt").write_text("\n".join([f"other {number}" for number in range(5)] + classes[::-1]))
    message = run("evaluate", "wide:build", "data", *SEEN, code=2).stderr
    assert "got 7 scores for the 2 classes" in message and "pass --class-map FILE to say which" in message
    run("evaluate", "wide:build", "data", *SEEN, "--class-map", "wnids.txt", "--output", "a")
    assert Report.load("a").settings["class_map"] == [6, 5]
    mapped = ["--class-map", "wnids.txt"]
    output = run("finetune", "wide:build", "data", *TRAINED, *mapped, "--output", "b").stdout
    (line,) = re.findall(r"To evaluate: blurlib (evaluate .* --class-map wnids.txt.*)", output)
    run(*shlex.split(line), "--blurs", "D2", "--no-progress", "--workers", "0")
    message = run("evaluate", "wide:build", "data", *SEEN, "--class-map", "absent.txt", code=2).stderr
    assert "`class_map` must be a text file" in message and "'absent.txt', which is not there" in message


def test_evaluate_keeps_the_report_of_another_evaluation(place):
    run("evaluate", "networks:tiny", "data", *SEEN, "--output", "a")
    before = Path("a/report.json").read_bytes()
    again = ["evaluate", "networks:tiny", "data", "--output", "a"]
    text = run(*again, *SEEN[:2], "--blurs", "D2", *SMALL, code=2).stderr
    assert "blurs (was ['sharp', 'D2'], now ['D2'])" in text and "or pass --force" in text
    assert Path("a/report.json").read_bytes() == before
    run(*again, *SEEN)  # the same once more
    run("evaluate", "networks:ready", "data", "--output", "a", *SEEN)  # and the same weights by another name
    run(*again, *SEEN[:2], "--blurs", "D2", *SMALL, "--force")
    report = Report.load("a")
    assert report.blurs == ("D2",) and report.caption.startswith("networks:tiny, 8 images of data/val")
    assert (
        "a 64-bit integer"
        in run("finetune", "networks:tiny", "data", "-o", "b", "--seed", 10**23, code=2).stderr
    )


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse names that are no text")
def test_names_that_are_no_text_survive(place, monkeypatch):
    """On streams that take text only, as those of a terminal do."""
    name = os.fsdecode(b"caf\xe9")
    (place / "data").rename(place / name)
    (place / name / "val" / "cat" / f"{name}.png").write_bytes(b"no picture")
    out = f"out-{name}"
    usual = ["--on-error", "skip", *SEEN, "--output", out]
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # main() sets its own
    for words in (
        ["evaluate", "networks:tiny", name, *usual],
        ["report", out, "--html", f"{out}/page.html", "--markdown", f"{out}/page.md"],
        ["finetune", "networks:tiny", name, *TRAINED, "--output", f"run-{name}"],
        ["blur", name, "--blur", "D2", "--out", f"soft-{name}"],
    ):
        monkeypatch.setattr(sys, "argv", ["blurlib", *words])
        shown, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", on) for on in ("strict", "backslashreplace"))
        monkeypatch.setattr(sys, "stdout", shown)
        monkeypatch.setattr(sys, "stderr", errors)
        with pytest.raises(SystemExit) as ended:
            main.main()
        shown.flush()
        assert ended.value.code == (words[0] == "blur")
        assert b"caf\\udce9" in shown.buffer.getvalue()
    assert Report.load(out).settings["skipped"] == [f"val/cat/{name}.png"]
    assert "caf\\udce9" in Path(out, "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("world", ["1", "2"])
def test_torchrun_shares_an_evaluation(place, monkeypatch, world):
    given = {}
    monkeypatch.setattr(evaluate, "evaluate_network", lambda *_, **options: given.update(options) or "table")
    monkeypatch.setenv("WORLD_SIZE", world)
    run("evaluate", "networks:tiny", "data")
    assert given["distributed"] == (world == "2")


def test_warnings_of_the_library_are_for_users():
    own = options._warning("64 % are void", UserWarning, f"{Path(main.__file__).parent}/masks.py", 3)
    assert own == "warning: 64 % are void\n"
    assert options._warning("old", FutureWarning, "/torch/x.py", 3) == "/torch/x.py:3: FutureWarning: old\n"


def test_finetune_resumes(place):
    run("finetune", "networks:tiny", "data", *TRAINED, "--output", "b")
    text = run("finetune", "networks:tiny", "data", *TRAINED, "--output", "b", code=2).stderr
    assert "--resume" in text and "resume=True" not in text
    assert "epoch 1" in run("finetune", "networks:tiny", "data", *TRAINED, "--output", "b", "--resume").stdout


def test_finetune_takes_the_options_of_a_step(place):
    options = shlex.split(
        "--optimizer torch.optim:AdamW --schedule cosine --warmup 0.5 --clip 1 --ema 0.9 --accumulate 2"
        " --amp no --channels-last --batch-norm recalibrate --validate-every 2 --network-side 24"
        " --epochs 3 --lr 1e-2 --blur wide --teacher 0.5"
    )
    text = run("finetune", "networks:tiny", "data", *SMALL, *options, "--output", "a").stdout
    assert [("val_top1" in line) for line in text.splitlines()[:3]] == [False, True, True]
    kept = json.loads((place / "a" / "settings.json").read_text())["settings"]
    assert kept["optimizer"]["class"] == "torch.optim.adamw.AdamW"
    expected = {"schedule": "cosine", "warmup": 0.5, "clip": 1.0, "ema": 0.9, "accumulate": 2, "amp": False}
    expected |= {"channels_last": True, "batch_norm": "recalibrate", "validate_every": 2, "compile": False}
    expected |= {"teacher": 0.5}
    assert {name: kept[name] for name in expected} == expected
    assert (place / "a" / "best.pt").exists()
    for wrong, told in (
        (("--optimizer", "torch.optim"), "`--optimizer` must be module:function, such as torch.optim:AdamW"),
        (
            ("--optimizer", "nowhere:Adam"),
            "got 'nowhere:Adam' (No module named 'nowhere'); look at its spelling",
        ),
        (("--amp", "fp8"), "`--amp` must be one of bf16, fp16, no, got 'fp8'"),
        (("--schedule", "linear"), "`schedule` must be one of steps, cosine, got 'linear'"),
        (("--validation", "data"), "`validation` must be left out where `validate_every` is 0"),
    ):
        result = run("finetune", "networks:tiny", "data", *TRAINED, *wrong, "--output", "b", code=2)
        assert told in result.stderr and result.stderr.count("\n") == 1


def test_segmentation_from_end_to_end(tmp_path, monkeypatch):
    (tmp_path / "mine_masks.py").write_text(
        "import torch\n\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Conv2d(3, 3, 3, padding=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    place = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (place / part).mkdir(parents=True)
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / "JPEGImages" / f"{number}.jpg")
        Image.fromarray(noise[..., 0] // 86).save(place / "SegmentationClass" / f"{number}.png")
    for split in ("train", "val"):
        (place / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("0\n1\n2\n")
    usual = ["--task", "segmentation", "--canonical-side", "32", "--device", "cpu", "--no-progress"]
    out = run("evaluate", "mine_masks:build", tmp_path, *usual, "--output", tmp_path / "before").output
    assert "trimap mIoU %" in out
    assert "D8" in out
    trained = ["--epochs", "1", "--lr", "0.1", "--batch-size", "2", "--network-size", "24,32"]
    out = run("finetune", "mine_masks:build", tmp_path, *usual, *trained, "--output", tmp_path / "run").output
    assert "pixel_accuracy" in out
    assert "--task segmentation" in out
    void = ["--reduce-zero-label", "--ignore-index", "9"]
    out = run(
        "finetune", "mine_masks:build", tmp_path, *usual, *trained, *void, "--output", tmp_path / "void"
    ).output
    (line,) = re.findall(r"To evaluate: blurlib (evaluate .*)", out)
    assert shlex.split(line)[-3:] == ["--ignore-index", "9", "--reduce-zero-label"]
    run(*shlex.split(line), "--device", "cpu", "--no-progress", "--output", tmp_path / "voided")
    said = Report.load(tmp_path / "voided").settings
    assert (said["ignore_index"], said["reduce_zero_label"]) == (9, True)
    run("evaluate", "mine_masks:build", tmp_path, *usual, "--scales", "32", "--output", tmp_path / "after")
    page = tmp_path / "page.html"
    out = run("report", tmp_path / "after", tmp_path / "before", "--html", page).output
    assert "mIoU %: before -> after" in out
    assert "before fine-tuning" in page.read_text(encoding="utf-8")
    for words, message in (
        (["--network-size", "24"], "`--network-size` must be height and width"),
        (["--crops", "five"], "`crops` must be left out for segmentation"),
        (["--scales", "24+32"], "several scales are not averaged"),
        (["--ignore-index", "0", "--class-map", "a.txt"], "`class_map` must be left out for segmentation"),
    ):
        assert message in run("evaluate", "mine_masks:build", tmp_path, *usual, *words, code=2).output
    assert "pixels" in run("report", tmp_path / "after", "--confidence", code=2).output


def test_report_shows_compares_and_writes(place):
    run("evaluate", "networks:tiny", "data", *SEEN, "--output", "a")
    run("finetune", "networks:tiny", "data", *TRAINED, "--output", "run")
    run("evaluate", "run/model.pt", "data", "--arch", "networks:tiny", *SEEN, "--output", "b")
    before, after = Report.load("a"), Report.load("b")
    assert before.table() in run("report", "a").stdout
    output = run(
        "report", "b/report.json", "a", "--control", "a", "--markdown", "x.md", "--html", "new/page.html"
    ).stdout
    comparison = after.compare(before, control=before)
    assert comparison.table() in output
    assert Path("x.md").read_text(encoding="utf-8") == comparison.to_markdown()
    page = Path("new/page.html").read_text(encoding="utf-8")
    assert "<html" in page and "D2" in page
    assert "BEFORE" in run("report", "b", "--control", "a", code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "resnet81", "data"), "did you mean 'resnet18'"),
        (("evaluate", "timm:absent", "data"), "pip install timm"),
        (("evaluate", "networks:absent", "data"), "'absent'"),
        (("evaluate", "absent:tiny", "data"), "'absent'"),
        (("evaluate", "networks:three", "data"), "got int"),
        (("evaluate", "networks:nothing", "data"), "got NoneType"),
        (("evaluate", "networks:tiny", "data", "--arch", "resnet18"), "--arch"),
        (("evaluate", "networks:tiny", "data", "--classes", "4"), "--classes"),
        (("evaluate", "networks:fixed", "data", "--crop", "24"), "it takes 32 x 32: choose `scales` and"),
        (("finetune", "networks:fixed", "data", "--output", "o"), "it takes 32 x 32: choose `network_side`"),
        (("evaluate", "networks:four", "data"), "takes images of 4 channels"),
        (("evaluate", "weights.pt", "data"), "--arch"),
        (("evaluate", "weights.ckpt", "data"), "--arch"),
        (("evaluate", "objects.ckpt", "data", "--arch", "networks:tiny"), "['state_dict'], 'weights.pt')"),
        (("evaluate", "weights.pt", "data", "--arch", "networks:tiny"), "got missing 0.bias, 4.weight"),
        (("evaluate", "absent.pt", "data", "--arch", "networks:tiny"), "absent.pt"),
        (("evaluate", "broken.pt", "data", "--arch", "networks:tiny"), "it is damaged, or of another kind"),
        (("evaluate", "weights.pt", "data", "--arch", "squeezenet1_1"), "must fit"),
        (("evaluate", "networks:tiny", "absent"), "'absent'"),
        (("finetune", "networks:tiny", "data/train", "--output", "o"), "`root`"),
        (("evaluate", "networks:tiny", "data", "--scales", "24,big"), "--scales"),
        (("evaluate", "networks:tiny", "data", "--mean", "a,b,c"), "--mean"),
        (("evaluate", "networks:tiny", "data", "--crops", "six"), "five"),
        (("evaluate", "networks:tiny", "data", "--crops", "dense"), "--crops five"),
        (("evaluate", "networks:tiny", "data", "--device", "toaster"), "toaster"),
        (("finetune", "networks:tiny", "data", "--output", "o", "--epochs", "1"), "`epochs` and `lr`"),
        (("finetune", "networks:tiny", "data", "--output", "o", "--epochs", "few"), "--epochs"),
        (("finetune", "networks:tiny", "data", "--output", "o", "--blur", "sharp + Q4"), "did you mean"),
        (("finetune", "networks:tiny", "data", "--output", "o", "--trainable", "head.*"), "head.*"),
        (("finetune", "networks:tiny", "data", "--output", "networks.py"), "must be a folder"),
        (("report", "absent"), "absent"),
        (("report", "networks.json"), "networks.json"),
    ],
)
def test_mistakes_are_told_in_one_line(place, monkeypatch, arguments, words):
    monkeypatch.setitem(sys.modules, "timm", None)  # as where it is not installed
    Path("broken.pt").write_bytes(b"no weights")
    torch.save({"0.weight": torch.zeros(1)}, "weights.pt")
    torch.save({"state_dict": {}, "settings": Path()}, "objects.ckpt")
    Path("networks.json").write_text("{}", encoding="utf-8")
    more = ["--workers", "0", "--no-progress"] if arguments[0] != "report" else []
    result = run(*arguments, *more, code=2)
    assert not result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert words in result.stderr
    assert len(result.stderr) < 500


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("command", ["evaluate", "finetune"])
def test_a_broken_image_is_named_wherever_it_is_read(place, command, workers):
    for split in ("train", "val"):
        (place / "data" / split / "dog" / "2.png").write_bytes(b"broken")
    options = [*(SEEN if command == "evaluate" else TRAINED), "--workers", workers]
    result = run(command, "networks:tiny", "data", *options, "--output", "a", code=2)
    assert re.fullmatch(r"error: cannot read data.*2\.png: .*--on-error skip.*\n", result.stderr)
    result = run(command, "networks:tiny", "data", *options, "--output", "b", "--on-error", "skip")
    assert "skipped" in result.stdout or "1 more could not be read" in result.stdout


def test_debug_shows_the_traceback(place):
    for arguments in (
        ["--debug", "evaluate", "resnet81", "data"],
        ["evaluate", "resnet81", "data", "--debug"],
    ):
        result = CliRunner().invoke(main.app, arguments)
        assert isinstance(result.exception, ValueError) and "resnet81" in str(result.exception)


def test_an_unforeseen_error_is_one_line_too(place, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(evaluate, "evaluate_network", broken)
    result = run("evaluate", "networks:tiny", "data", code=70)
    assert result.stdout == ""
    assert result.stderr == "error: RuntimeError: out of memory and more; --debug shows where\n"
    result = CliRunner().invoke(main.app, ["evaluate", "networks:tiny", "data", "--debug"])
    assert isinstance(result.exception, RuntimeError) and result.exit_code == 1


def test_stopping_says_what_is_kept(place, monkeypatch):
    def stopped(*_, output=None, **__):
        if output is not None:
            output.mkdir()
            (output / "checkpoint.pt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "evaluate_network", stopped)
    monkeypatch.setattr(finetune, "finetune_network", stopped)
    text = run("finetune", "networks:tiny", "data", "--output", "a", code=130).stderr
    assert text == "\nstopped; kept in a: checkpoint.pt; add --resume to go on\n"
    assert run("evaluate", "networks:tiny", "data", code=130).stderr == "\nstopped; nothing was kept\n"
    monkeypatch.setattr(Report, "load", stopped)
    assert run("report", "a", code=130).stderr == "\nstopped\n"


@pytest.mark.parametrize("told", [False, True])
def test_a_signal_ends_a_command_with_its_code(place, monkeypatch, told):
    def stopped(*_, **__):
        error = SystemExit(143)
        if told:
            error.told = True
        raise error

    monkeypatch.setattr(evaluate, "evaluate_network", stopped)
    text = run("evaluate", "networks:tiny", "data", code=143).stderr
    assert text == ("" if told else "\nstopped; nothing was kept\n")


STOPPING = """
import os, signal
from networks import tiny
from torch import nn

class Stopping(nn.Module):
    left = int(os.environ["LEFT"])

    def __init__(self):
        super().__init__()
        self.inner = tiny()

    def forward(self, images):
        if torch.is_grad_enabled():
            Stopping.left -= 1
            if Stopping.left == 0:
                os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
        return self.inner(images)
"""


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [("SIGTERM", 143, "SIGTERM"), ("SIGHUP", 129, "SIGHUP"), ("SIGINT", 130, "Ctrl-C")],
)
@pytest.mark.usefixtures("usual_handlers")
def test_a_signal_stops_finetune_with_one_line_that_is_true(place, monkeypatch, name, code, told):
    (place / "stopping.py").write_text(f"import torch\n{STOPPING}", encoding="utf-8")
    monkeypatch.setenv("LEFT", "3")
    monkeypatch.setenv("SIGNAL", name)
    monkeypatch.delitem(sys.modules, "stopping", raising=False)

    def command(output, epochs):
        options = ["2" if word == "1" else word for word in TRAINED] if epochs == 2 else TRAINED
        return ["finetune", "stopping:Stopping", "data", *options, "--output", output]

    result = run(*command("a", 2), code=code)
    assert result.stdout == ""
    place_of_it = "after step 1 of 2 in epoch 2 of 2; kept in 'a/checkpoint.pt'"
    assert result.stderr == f"\nstopped by {told} {place_of_it}; add resume=True (--resume) to go on\n"
    refused = run(*command("a", 1), "--resume", code=2).stderr
    assert refused.endswith("name another `output`, or allow the difference by --changes epochs\n")
    whole = run(*command("b", 2))
    again = run(*command("a", 2), "--resume", "--changes", "lr,epochs", "--checkpoint-every", "0.5")
    assert again.stdout == whole.stdout.replace("in b.", "in a.").replace(" b/", " a/")


def test_a_network_may_end_the_program(place, monkeypatch):
    monkeypatch.setattr(evaluate, "evaluate_network", lambda *_, **__: sys.exit(3))
    assert run("evaluate", "networks:tiny", "data", code=3).stderr == ""


@pytest.mark.parametrize(
    ("door", "imported"),
    [("-m", "numpy"), exhaustive("-m", "torch"), ("script", "torch._C"), exhaustive("script", "typer")],
)
def test_ctrl_c_while_the_command_is_imported(tmp_path, door, imported):
    """The interpreter tells of each import; the signal comes right after one of them."""
    script = tmp_path / "blurlib"  # what installers write
    script.write_text("import sys\nfrom blurlib._cli.main import main\nsys.exit(main())\n", encoding="utf-8")
    command = [sys.executable, "-X", "importtime", *(("-m", "blurlib") if door == "-m" else (script,))]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in background jobs
    try:
        process = subprocess.Popen(
            [*command, "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        for line in process.stderr:
            if line.rpartition("|")[2].strip() == imported:
                process.send_signal(signal.SIGINT)
                break
        told = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
        assert process.stdout.read() == ""
    assert (process.returncode, told) == (130, ["", "stopped"])


@pytest.mark.parametrize(
    ("shown", "started", "command"),
    [
        ("-m", "python -X importtime -m blurlib blur a.png", True),
        ("-m", "python -Im blurlib", True),
        ("-m", "python -mblurlib", True),
        ("/bin/blurlib", "python /bin/blurlib blur a.png", True),
        ("blurlib.exe", "python blurlib.exe", True),
        ("-m", "python -m pytest", False),
        ("-c", "python -c code blurlib", False),
        ("", "python", False),
        ("train.py", "python train.py blurlib", False),
        ("/bin/blurlib", "python -c spawned --multiprocessing-fork", False),  # shows its parent's name
    ],
)
def test_ctrl_c_is_taken_over_in_the_command_alone(monkeypatch, shown, started, command):
    monkeypatch.setattr(sys, "argv", [shown])
    monkeypatch.setattr(sys, "orig_argv", started.split())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupts.begin()
        assert (signal.getsignal(signal.SIGINT) is interrupts._stop) == command
        interrupts.end()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `nohup` and shells in the background want it
        interrupts.begin()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_pretrained_network_gets_other_outputs_and_says_so(monkeypatch):
    torch.manual_seed(7)
    stored = models.squeezenet1_1().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: stored)
    monkeypatch.setattr("blurlib.models._named._downloaded", lambda *_: stored)
    seen = []
    monkeypatch.setattr(
        evaluate, "evaluate_network", lambda network, *_, **__: seen.append(network) or "table"
    )
    for arguments in (
        (),
        ("--classes", 1000),
        ("--classes", 5),
        ("--classes", 5),
        ("--classes", 5, "--seed", 1),
    ):
        result = run("evaluate", "squeezenet1_1", "data", *arguments)
        note = "squeezenet1_1 gets 5 outputs; new, not trained yet: classifier.1.bias, classifier.1.weight"
        assert result.stderr == (f"note: {note}\n" if 5 in arguments else "")
    states = [network.state_dict() for network in seen]
    for state in states:
        assert all(torch.equal(state[key], stored[key]) for key in stored if not key.startswith("classifier"))
    heads = [state["classifier.1.weight"] for state in states]
    assert torch.equal(heads[0], heads[1]) and heads[2].shape[0] == 5
    assert torch.equal(heads[2], heads[3]) and not torch.equal(heads[3], heads[4])


def test_checkpoints_of_others_and_grey_networks_run(place):
    import networks

    run("evaluate", "networks:tiny", "data", *SEEN, "--output", "a")
    weights = {f"model._orig_mod.{name}": value for name, value in networks.tiny().state_dict().items()}
    torch.save({"state_dict": weights | {"loss.weight": torch.ones(2)}, "epoch": 1}, "a.ckpt")
    result = run("evaluate", "a.ckpt", "data", "--arch", "networks:tiny", *SEEN, "--output", "b")
    assert result.stderr == "note: not of networks:tiny and left out: loss.weight\n"
    assert Report.load("a").to_csv() == Report.load("b").to_csv()
    run("evaluate", "networks:grey", "data", *SEEN, "--mean", "0.5", "--std", "0.2")


def test_weights_that_do_not_come_are_explained(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    for classes in ((), ("--classes", 5)):
        text = run("evaluate", "squeezenet1_1", "data", *classes, code=2).stderr
        assert "cannot download the weights of squeezenet1_1" in text and "--arch squeezenet1_1" in text


def test_demo_passes_its_options_on(tmp_path, monkeypatch):
    given = {}

    def fake(out, **options):
        given.update(options, out=out)
        return out / "index.html"

    monkeypatch.setattr("blurlib.demo.run", fake)
    output = run("demo", "--out", tmp_path / "d", "--seed", 3, "--quick", "--no-progress").stdout
    assert given == {"out": tmp_path / "d", "seed": 3, "quick": True, "progress": False}
    assert f"The page: {tmp_path / 'd' / 'index.html'}" in output
