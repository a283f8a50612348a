"""Names that somebody else gave: in terminals, spreadsheets and pages they are text and nothing else."""

import csv
import io
import re
import warnings
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from test_report import Page, compared, made, photo, prediction
from typer.testing import CliRunner

from blurlib import data
from blurlib._cli import main, options
from blurlib._common.files import csv_table
from blurlib._common.texts import starts_formula, visible
from blurlib.blurs import Disk
from blurlib.demo import DemoSettings, _page
from blurlib.demo._photographs import Photograph
from blurlib.paper import ReproducedCell, ReproducedTable
from blurlib.reporting import (
    Code,
    Section,
    Table,
    blurred_figure,
    markdown_table,
    plain_table,
    predictions_figure,
    report_page,
    write_page,
)

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
TERMINAL = "cat\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e.jpg"
HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></title></svg></textarea><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{7*7}}{% raw %}",
    "`<b onclick=alert(1)>`",
    "&lt;script&gt;<!--",
    TERMINAL,
]
FORMULAS = [
    "=1+1",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "-1 [=cmd|'x'!A0]",
    "'=1",
    "''@a",
]


# --- Terminals


@given(st.text())
def test_visible_text_has_no_control_characters(text):
    shown = visible(text)
    assert not CONTROL.search(shown) and "\n" not in shown
    assert shown == text or CONTROL.search(text) or re.search("[\n\u2028\u2029]", text)
    assert shown.isascii() == text.isascii() or CONTROL.search(text) or re.search("[\u2028\u2029]", text)


def test_tables_show_them_escaped():
    for table in (plain_table, markdown_table):
        text = table(["blur", TERMINAL], [[TERMINAL, "1.0"], ["a\nb", "2.0"]])
        assert not CONTROL.search(text) and "cat\\x1b[2J" in text and "a\\nb" in text
    lines = plain_table(["", "x"], [[TERMINAL, "1.0"], ["a", "2.0"]]).split("\n")
    assert len(set(map(len, lines[1:]))) == 1
    report = made(1, blurs=("sharp", TERMINAL), model=TERMINAL, root=TERMINAL)
    for text in (str(report), report.to_markdown()):
        assert not CONTROL.search(text) and text.count("cat\\x1b[2J") == 3


def test_broken_images_are_named_escaped(tmp_path):
    path = tmp_path / "val" / "a\x1b[31m" / f"{TERMINAL}.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\\x1b\[31m") as error:
        data.open_images(tmp_path, split="val").load(0)
    assert not CONTROL.search(str(error.value))
    listing = data.open_images(tmp_path, split="val", on_error="skip")
    skipped = listing.view(0, lambda image, _: image)
    assert not CONTROL.search(skipped.reason) and skipped.name == listing.id(0)  # itself, for records
    path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        listing.load(0)
    assert not CONTROL.search(str(error.value))


def test_the_commands_print_them_escaped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(1, blurs=("sharp", TERMINAL), model=TERMINAL, root=TERMINAL).save("report.json")
    (tmp_path / "in").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "in" / f"{TERMINAL[:-4]}.png")
    (tmp_path / "in" / "\x1b[5mb.png").write_bytes(b"no image")
    runner = CliRunner()
    for arguments, code in (
        (["report", "report.json"], 0),
        (["report", f"{TERMINAL}.json"], 2),
        (["blur", "in", "-b", "D2", "-o", "out"], 1),
        (["evaluate", TERMINAL, "in"], 2),
        (["evaluate", f"{TERMINAL}.pt", "in", "--arch", "resnet18"], 2),
    ):
        result = runner.invoke(main.app, arguments)
        assert result.exit_code == code, result.output
        assert not CONTROL.search(result.output) and "\\x1b[" in result.output, result.output


def test_warnings_are_printed_escaped():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn(f"odd {TERMINAL}", stacklevel=1)
    for filename in (options.__file__, "other.py"):
        text = options._warning(caught[0].message, UserWarning, filename, 1)
        assert not CONTROL.search(text) and text.count("\n") == 1 and "\\x1b[2J" in text


# --- Spreadsheets


@given(st.lists(st.text(), min_size=1, max_size=4))
@example(FORMULAS)
def test_no_cell_of_a_csv_file_is_a_formula(cells):
    written = csv_table(["name", "value"], [[cell, -0.5] for cell in cells])
    if any("\0" in cell for cell in cells):  # which Python's reader does not take before 3.11
        return
    read = [row[0] for row in csv.reader(io.StringIO(written, newline=""))][1:]
    for cell, back in zip(cells, read, strict=True):
        assert not starts_formula(back)
        assert cell == (back[1:] if re.match(r"'+[=+\-@\t\r\n]", back) and back != cell else back)


def test_numbers_stay_numbers():
    values = [
        -0.5,
        -1,
        1e-300,
        float("-inf"),
        "-0.25",
        "+1.2",
        "-1e-05",
        "-",
        "+1.2 [+0.4, \u221e]",
        None,
        "",
    ]
    written = csv_table(["a"], [[value] for value in values])
    read = [row[0] if row else "" for row in csv.reader(io.StringIO(written))][1:]
    assert read == ["" if value is None else str(value) for value in values]
    rows = [["sharp", "-1.2 [\u22122.0, +0.4]"], ["D4", "-"]]
    assert "\\" not in markdown_table(["blur", "change"], rows)


def test_no_cell_of_a_markdown_table_is_a_formula():
    for name in FORMULAS:
        row = markdown_table(["class", "n"], [[name, "1"]]).split("\n")[2]
        assert re.fullmatch(r"\| (\\[=+\-@t r]|').*", row), row


# --- Pages


class Everything(Page):
    """A page whose text may be anything, but nothing else."""

    def __init__(self, path):
        text = path.read_text(encoding="utf-8")
        super().__init__(text)
        assert not CONTROL.search(text.replace("\t", ""))
        self.styles = re.findall(r"<style>.*?</style>", text, re.DOTALL)

    def plain(self):
        """That no name became a tag, an attribute, or an address."""
        tags = {tag for tag, _ in self.tags}
        assert not tags & {"script", "iframe", "object", "embed", "base", "form", "foreignobject"}
        for _, attributes in self.tags:
            for name, value in attributes.items():
                assert not name.startswith("on"), name
                if name in ("href", "src", "xlink:href", "action", "formaction"):
                    assert re.match(r"#|data:image/(png|jpeg|webp);base64,|https://", value), value
        return self


def shown(**texts):
    """Every part of a page that takes names."""
    name = texts["name"]
    cell = Table(header=[name, name], rows=[[name, name], [name, "-1.0 [-2.0, 3.0]"]], caption=name)
    figure = predictions_figure(
        [prediction(title=name, truth=name, before=[(name, 0.5)], after=[(name, 0.25), ("b", 0.5)])]
    )
    photographs = blurred_figure([photo()], [Disk(2)], names=[name])
    return [Section(title=name, text=name, parts=[cell, Code(text=name), figure, photographs])]


def make_page(path, name):
    write_page(path, title=name, lead=name, sections=shown(name=name), facts={name: name})


def make_report(path, name):
    report = made(1, blurs=("sharp", "D4", name), model=name, root=name, metadata={"name": name, name: name})
    report_page(path, report, title=name, sections=shown(name=name))


def make_comparison(path, name):
    before, after = (made(seed, blurs=("sharp", "D4", name), model=name, root=name) for seed in (1, 2))
    report_page(path, after, before=before, comparison=compared(before, after), title=name)


def make_reproduction(path, name):
    cell = ReproducedCell(
        row=name, column=name, network=name, sides=(256,), blur=name, metric="top5", paper=0.9, value=0.8,
        interval=(0.7, 0.9), each=(0.8,), base=name, change=0.1, change_interval=(0.0, 0.2),
    )  # fmt: skip
    settings = {"model": name, "root": name, "images": 9, "metadata": {"name": name}}
    table = ReproducedTable(item="table1", title=name, cells=(cell,), settings=settings)
    table.to_html(path)
    assert not CONTROL.search(str(table)) and not CONTROL.search(table.to_markdown())


def make_demo(path, name, monkeypatch):
    sources = [Photograph(name=known, image=Image.fromarray(photo()), credit=name) for known in _page._SHOWN]
    check = SimpleNamespace(sources=sources, classes=list(_page._SHOWN))
    monkeypatch.setattr(_page, "crops", lambda *_, **__: check)
    examples = [prediction(title=name, truth=name, before=[(name, 0.5)], after=[(name, 0.25)])]
    monkeypatch.setattr(_page, "_examples", lambda *_: (True, examples))
    before, after = made(1, model=name), made(2, model=name)
    trained = SimpleNamespace(
        settings=DemoSettings(blurs="sharp, D2", mix=name), seconds={name: 1.0},
        reports={"original": before, "mix": after}, comparison=compared(before, after),
    )  # fmt: skip
    _page._page(path, trained, 0)


# The page of the example has what those of reports and comparisons have.
SLOW = [pytest.param(maker, marks=pytest.mark.slow) for maker in (make_report, make_comparison)]
MAKERS = [make_page, make_reproduction, make_demo, *SLOW]


@pytest.mark.filterwarnings("ignore:Glyph", "ignore:constrained_layout")
@pytest.mark.parametrize("maker", MAKERS)
def test_names_are_text_in_every_page(maker, tmp_path, monkeypatch):
    more = [monkeypatch] if maker is make_demo else []
    maker(tmp_path / "plain.html", "name", *more)
    usual = Everything(tmp_path / "plain.html").plain()
    name = " ".join(HOSTILE)
    maker(tmp_path / "hostile.html", name, *more)
    found = Everything(tmp_path / "hostile.html").plain()
    assert found.styles == usual.styles
    assert {tag for tag, _ in found.tags} - {"code"} == {tag for tag, _ in usual.tags} - {"code"}
    for text in HOSTILE[:5]:
        assert text in "".join(found.text)
