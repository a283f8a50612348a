import builtins
import dataclasses
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from blurlib import reporting
from blurlib.metrics import ImageValues
from blurlib.reporting import (
    Change,
    Code,
    Comparison,
    ComparisonRow,
    Prediction,
    Record,
    Report,
    Section,
    Table,
    report_page,
    write_page,
)
from blurlib.reporting._html import charts, pictures
from blurlib.reporting._html.page import Figure

VOID = {"meta", "img", "br", "hr", "link", "input", "col", "wbr", "source"}
HOSTILE = "<script>alert('x')</script> & \"q\" `c` $x$"
VALUES = {"top1": 0.5, "top5": 0.75, "entropy": 1.0, "cross_entropy": 2.0}
METRICS = [metric for metric in ImageValues.metrics if metric.plotted]


class Page(HTMLParser):
    """Tags, ids and visible text of a page; every tag must close in its turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def words(self):
        return re.sub(r"\s+", " ", "".join(self.text)).replace("\u2212", "-")


def photo(height=24, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prediction(**changes):
    example = Prediction(
        image=photo(),
        title="D8",
        truth="cat",
        before=[("dog", 0.613), ("cow", 0.2)],
        after=[("cat", 0.914), ("dog", 0.05)],
    )
    return dataclasses.replace(example, **changes)


def record(blur, seed, sides=(256,), **values):
    draw = np.random.default_rng(seed).uniform
    highest = {"top1": 1, "top5": 1, "entropy": 3, "cross_entropy": 3, "ece": 1}
    values = {name: draw(0, high) for name, high in highest.items()} | values
    return Record(task="classification", blur=blur, sides=sides, values=values, count=1234, skipped=3)


def made(seed=0, blurs=("sharp", "D4", "G8", "shake"), sides=((256,),), top1=None, **settings):
    settings = {
        "model": "VGG",
        "root": "photos/val",
        "canonical_side": 384,
        "versions": {"torch": "2.9"},
    } | settings
    records = [
        record(blur, 100 * seed + 10 * number + place, side, **({"top1": top1[number]} if top1 else {}))
        for number, blur in enumerate(blurs)
        for place, side in enumerate(sides)
    ]
    return Report(records=records, settings=settings)


def compared(before, after, control=None):
    """A comparison with made-up intervals."""
    roles = {"before": before, "control": control, "after": after}

    def change(place, name, recovered):
        values = {role: r.records[place].values[name] if r else None for role, r in roles.items()}
        base = values["before"] if control is None else values["control"]
        return Change(
            **values,
            sharp=None,
            difference=values["after"] - base,
            difference_interval=(-0.111 - place / 100, 0.222),
            recovered=0.65 if recovered else None,
            recovered_interval=(0.43, np.inf) if recovered else None,
        )

    rows = [
        ComparisonRow(
            blur=own.blur,
            sides=own.sides,
            count=own.count,
            changes={name: change(place, name, own.blur != "sharp" and name != "entropy") for name in VALUES},
        )
        for place, own in enumerate(after.records)
    ]
    runs = {"before": 1, "control": 3 if control else 0, "after": 3}
    return Comparison(rows=rows, runs=runs, level=0.95, resamples=2000, settings=after.settings)


def row(label, *roles, sides=(64,), changes=None):
    values = dict.fromkeys(roles, VALUES)
    return charts.Row(label=label, blur="D8", sides=sides, values=values, changes=changes or {})


def everything(path, name="plain"):
    rows = [row(name, "before", "after", "control")]
    return write_page(
        path,
        title=name,
        lead=f"{name} costs 12 % and `D8` more.",
        facts={name: name},
        sections=[
            Section(
                title=name,
                text=f"First {name}.\n\nSecond.",
                parts=[
                    reporting.kernels_figure("sharp, D2, H8, L5@30, G8, S17, shake"),
                    reporting.blurred_figure([photo(), photo(40, 20)], "sharp, D4, shake", names=[name, "b"]),
                    reporting.predictions_figure([prediction(truth=name, title=name, before=[(name, 1.0)])]),
                    charts.curves_figure(rows, METRICS),
                ],
            ),
            Section(title="Tables", parts=[Table(header=[name, "b"], rows=[[name, name]], caption=name)]),
            Section(title="Code", parts=[Code(text=name)]),
        ],
    )


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_page_is_whole_and_fetches_nothing(tmp_path):
    text = everything(tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    found = Page(text)
    assert "://" not in text
    for tag, attributes in found.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "#").startswith(("data:image/", "#")), (tag, name)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in found.tags}
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text
    assert len(text) < 500_000


def test_page_is_accessible(tmp_path):
    found = read(everything(tmp_path / "page.html"))
    assert found.all("html") == [{"lang": "en"}]
    assert all(image["alt"].strip() for image in found.all("img"))
    assert len(found.all("figure")) == 4 and len(found.all("figcaption")) == 4
    groups = [
        attributes["aria-label"] for attributes in found.all("div") if attributes.get("role") == "group"
    ]
    assert len(groups) == 4 and all(groups)
    headings = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))
    assert all(cell.get("scope") in ("col", "row") for cell in found.all("th"))
    assert "Figure 4." in found.words and "Table 1." in found.words


def test_ids_are_unique_and_references_lead_somewhere(tmp_path):
    found = read(everything(tmp_path / "page.html"))
    assert len(found.ids) == len(set(found.ids))
    wanted = {
        part.removeprefix("#")
        for _, attributes in found.tags
        for name in ("aria-labelledby", "href", "xlink:href")
        if name in attributes
        for part in [attributes[name]]
    }
    assert wanted and wanted <= set(found.ids)


def test_hostile_names_stay_text(tmp_path):
    found = read(everything(tmp_path / "page.html", HOSTILE))
    assert "script" not in {tag for tag, _ in found.tags}
    assert found.words.count("<script>alert('x')</script> & \"q\"") >= 10
    assert "$x$" in found.words  # never a formula


def test_prose(tmp_path):
    text = everything(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<p>First plain.</p>" in text and "<p>Second.</p>" in text
    assert "<code>D8</code>" in text
    assert "12\u00a0%" in text


def test_tables_align_numbers_and_set_intervals_small(tmp_path):
    table = Table(
        header=["blur", "top-1 %", "change", "note"],
        rows=[["D8", "40.0", "-3.1 [-4.0, +1.0]", "none"], ["sharp", "-", "+2.0 [1.0, 3.0]", "1"]],
    )
    path = write_page(
        tmp_path / "page.html", title="T", lead="L", sections=[Section(title="S", parts=[table])]
    )
    text = path.read_text(encoding="utf-8")
    found = Page(text)
    assert [cell.get("class") for cell in found.all("td")] == ["number", "number", None] * 2
    assert re.search(r"\u22123.1 <small[^>]*>\[\u22124.0, \+1.0\]</small>", text)
    assert "Table" not in found.words  # no number without a caption
    with pytest.raises(ValueError, match="`rows` must have a cell for each of the 2 headings"):
        Table(header=["a", "b"], rows=[["1"]])


def test_cells_are_tinted_by_their_shades(tmp_path):
    table = Table(
        header=["a", "b", "c"], rows=[["x", "1", "2"], ["y", "3", "4"]], shades=[[1, -0.5], [None, 0]]
    )
    path = write_page(
        tmp_path / "page.html", title="T", lead="L", sections=[Section(title="S", parts=[table])]
    )
    styles = [cell.get("style") for cell in Page(path.read_text(encoding="utf-8")).all("td")]
    assert "var(--after) 45%" in styles[0]
    assert "var(--before) 22%" in styles[1]
    assert styles[2:] == [None, None]
    for shades, message in ([[[1.0]], "must be 1 rows of 2"], [[[2.0, 0.0]], "must be from -1 to 1, got 2"]):
        with pytest.raises(ValueError, match=message):
            Table(header=["a", "b", "c"], rows=[["x", "1", "2"]], shades=shades)


def test_risk_curves_share_a_scale_and_are_told_in_words():
    curves = {
        "D4": {"after": np.linspace(0, 0.2, 100)},
        "D8": {"before": np.linspace(0, 0.6, 100), "after": np.linspace(0, 0.3, 100)},
    }
    figure = charts.risk_figure(curves)
    assert "D8: 29.7 % of the surest half, 60.0 % of all before" in figure.alt
    panels = re.findall(r'<div class="plot">.*?</svg>', figure.image, re.DOTALL)
    assert [">60</text>" in panel for panel in panels] == [True, True]
    assert "var(--before)" in panels[-1]
    assert "var(--before)" not in panels[-2]
    for wrong in ({}, {"D8": {"after": np.zeros(0)}}):
        with pytest.raises(ValueError, match="`curves` must hold at least one condition"):
            charts.risk_figure(wrong)


@pytest.mark.parametrize("kind", ["alone", "two", "compared", "control", "scales"])
def test_report_page_holds_every_number(tmp_path, kind):
    sides = ((128,), (256, 512)) if kind == "scales" else ((256,),)
    after, before, control = made(1, sides=sides), made(2, sides=sides), made(3, sides=sides)
    given = {
        "alone": {},
        "two": {"before": before},
        "compared": {"before": before, "comparison": compared(before, after)},
        "control": {"before": before, "comparison": compared(before, after, control)},
        "scales": {"before": before, "comparison": compared(before, after)},
    }[kind]
    found = read(report_page(tmp_path / "page.html", after, **given))
    for own in [after, *([given["before"]] if "before" in given else [])]:
        for line in own.records:
            for name in ("top1", "top5", "ece"):
                assert f"{100 * line.values[name]:.1f}" in found.words
            for name in ("entropy", "cross_entropy"):
                assert f"{line.values[name]:.3f}" in found.words
            assert "1234" in found.words and line.blur in found.words
    for each in given["comparison"].rows if "comparison" in given else ():
        assert f"[{100 * each.top1.difference_interval[0]:+.1f}, +22.2]" in found.words
    if kind == "control":
        assert all(f"{100 * line.top1:.1f}" in found.words for line in control.records)
        assert "trained for as long on sharp images" in found.words
        assert "65 [43, ∞]" in found.words
    if kind in ("compared", "control"):
        assert "not defined" in found.words and "95 % interval" in found.words.replace("\xa0", " ")
    if kind == "scales":
        assert "256+512" in found.words
    for name in ("model", "canonical_side", "versions.torch", "2.9", "photos/val"):
        assert name in found.words
    assert (tmp_path / "page.html").stat().st_size < 500_000


def lead(path):
    text = path.read_text(encoding="utf-8").replace("\xa0", " ")
    return re.sub(r"<.*?>", "", re.search(r'<p class="lead">(.*?)</p>', text)[1])


def test_report_page_leads_with_the_finding(tmp_path):
    blurs = ("sharp", "D8")
    before, after = made(1, blurs=blurs, top1=(0.7, 0.2)), made(2, blurs=blurs, top1=(0.69, 0.6))
    path = tmp_path / "page.html"
    assert lead(report_page(path, before)) == (
        "Blur costs up to 50.0 points: top-1 accuracy is 70.0 % on sharp images and 20.0 % under D8 "
        "(defocus disk, radius 8 px)."
    )
    told = lead(report_page(path, after, before=before, comparison=compared(before, after)))
    assert "went from 20.0 % to 60.0 % by fine-tuning: 65 % of the loss was recovered." in told
    assert "On sharp images it was 70.0 % and is 69.0 %." in told
    assert "20.0 % to 60.0 %" in lead(report_page(path, after, before=before))
    assert "69.0 %" in lead(report_page(path, Report(records=after.records[:1])))
    assert "60.0 %" in lead(report_page(path, Report(records=after.records[1:])))


def test_report_page_shows_settings_that_differ(tmp_path):
    found = read(report_page(tmp_path / "page.html", made(1), before=made(2, crop=7), title="Mine & yours"))
    assert "Mine & yours" in found.words
    before = made(2, model="Other", limit=None, mean=[0.5, 0.25], complete=True)
    found = read(report_page(tmp_path / "page.html", made(1), before=before))
    assert "Other" in found.words and "0.5, 0.25" in found.words


def test_report_page_of_unknown_names(tmp_path):
    found = read(report_page(tmp_path / "page.html", made(1, model=HOSTILE, root=HOSTILE)))
    assert found.words.count("<script>alert('x')</script>") >= 4


def test_page_is_written_aside(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")
    seen, rename = [], Path.replace

    def replace(source, target):
        seen.append((source.name, path.read_text(encoding="utf-8")))
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    assert everything(path) == path
    assert len(seen) == 1 and seen[0][0] != "page.html" and seen[0][1] == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(ValueError, match="`path` must be a file, got the folder"):
        write_page(tmp_path, title="T", lead="L", sections=[])


def test_page_is_the_same_each_time(tmp_path):
    pages = [everything(tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_missing_extra_is_told_with_its_remedy(tmp_path, monkeypatch, missing):
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    true_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return true_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "blurlib\[report\]"'):
        report_page(tmp_path / "page.html", made())


def test_kernels_share_a_scale_and_keep_their_shapes():
    figure = reporting.kernels_figure("sharp, D8, shake")
    images = Page(figure.image).all("img")
    assert [image["alt"] for image in images] == ["kernel of sharp", "kernel of D8", "kernel of shake"]
    assert len({image["width"] for image in images}) == 1
    assert "19 by 19" in figure.caption and "cut" not in figure.caption
    wide = reporting.kernels_figure("G8, D20")
    assert "43 by 43" in wide.caption and "cut" in wide.caption


@pytest.mark.parametrize("room", [5, 17, 33])
def test_kernel_picture_is_centred(room):
    kernel = np.zeros((17, 5))
    kernel[8, 2] = 0.5
    picture = np.asarray(pictures._kernel_picture(kernel, room))
    assert picture.shape == (room, room) and picture[room // 2, room // 2] == 255 and (picture > 0).sum() == 1


def test_photographs_are_blurred_and_left_alone():
    image = photo()
    kept = image.copy()
    figure = reporting.blurred_figure([image], "sharp, D4")
    uris = [attributes["src"] for attributes in Page(figure.image).all("img")]
    assert len(set(uris)) == 2 and (image == kept).all()
    large = reporting.blurred_figure([photo(700, 900)], "sharp")
    shown = Page(large.image).all("img")[0]
    assert (int(shown["width"]), int(shown["height"])) == (360, 280)


def test_predictions_mark_the_truth_by_more_than_colour():
    text = reporting.predictions_figure([prediction(), prediction(after=())]).image
    found = Page(text)
    assert "cat is not among these 2" in found.words
    assert found.words.count("✓") == 1 and "(the true class)" in found.words
    assert "61.3 %" in found.words and "91.4 %" in found.words
    assert "wrong" in found.words and "right" in found.words


def test_curves_draw_what_is_there():
    rows = [row(f"D8 at {side}", "before", "after") for side in ("64", "64+96")]
    figure = charts.curves_figure(rows, METRICS)
    assert "D8 at 64+96" in figure.image and figure.image.count('class="plot"') == 3
    assert "control" not in figure.image and "interval" not in figure.caption
    assert "$x$" in charts.curves_figure([row("$x$", "after")], METRICS).image
    many = charts.curves_figure([row("D8", "before", "after", "control")], METRICS).image
    for name in ("--before", "--after", "--control"):
        assert f"var({name})" in many
    assert not re.search(r"#0000\w\w\b|#[0-9a-f]{6}\b", figure.image)


def test_bad_input():
    with pytest.raises(ValueError, match="`image` must be a data URI or markup"):
        Figure(image="https://example.org/x.png", alt="x")
    with pytest.raises(ValueError, match="`alt` must say"):
        Figure(image="<svg></svg>", alt=" ")
    with pytest.raises(ValueError, match="`blur` must be one of"):
        reporting.kernels_figure("Q3")
    with pytest.raises(ValueError, match="`images` must hold at least one photograph"):
        reporting.blurred_figure([], "D4")
    with pytest.raises(TypeError, match="`images` must be uint8"):
        reporting.blurred_figure([photo() / 255], "D4")
    with pytest.raises(ValueError, match=r"`images` must be arrays \(H, W, 3\)"):
        reporting.blurred_figure([photo()[..., 0]], "D4")
    with pytest.raises(ValueError, match="`names` must name each of the 1 images"):
        reporting.blurred_figure([photo()], "D4", names=["a", "b"])
    with pytest.raises(ValueError, match="`examples` must hold at least one"):
        reporting.predictions_figure([])
    with pytest.raises(
        ValueError, match=r"`before` must hold classes with probabilities from 0 to 1, got 91"
    ):
        reporting.predictions_figure([prediction(before=[("cat", 91)])])
    with pytest.raises(ValueError, match="`rows` must hold at least one condition"):
        charts.curves_figure([], METRICS)
