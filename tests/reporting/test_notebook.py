"""What notebooks and terminals show of reports, comparisons and blurs; figures of matplotlib."""

import io
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

import blurlib
from blurlib.blurs import Blur, Disk, PerImageShake, PointSpread, Sharp
from blurlib.metrics import image_values
from blurlib.reporting import Record, Report, compare

HOSTILE = "<script>alert('x')</script> & \x1b[2J"


def report(seed=0, blurs=("sharp", "D4", "D8", "G4", "shake"), **settings):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(60) % 6
    records = [
        Record.of(
            image_values(
                torch.randn(60, 6, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 6), labels
            ),
            blur=blur,
            sides=(64,),
        )
        for blur in blurs
    ]
    return Report(records=records, settings={"name": "net", "classes": 6} | settings)


class Cells(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.rows = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        if self.rows:
            self.rows[-1].append(data)


def test_a_report_in_a_notebook_is_its_table():
    own = report()
    found = Cells(own._repr_html_())
    header, rows = own.cells()
    assert found.rows[0] == header and [row[: len(header)] for row in found.rows[1:]] == rows
    assert "60 images" in found.rows[-1][-1]


def test_a_comparison_in_a_notebook_is_both_tables():
    after, before = report(1), report(0)
    found = Cells(compare(after, before)._repr_html_())
    assert len(found.rows) == 2 * (1 + len(after.records))
    assert "before -> after" in found.rows[0][1] and "points" in found.rows[6][1]


def test_a_terminal_has_one_line_of_an_object():
    own = report()
    assert repr(own) == (
        "<Report of classification: net, 60 images under sharp, D4, D8, G4, shake; print() shows the table>"
    )
    assert repr(compare(own, report(1))) == (
        "<Comparison of classification: 1 before and 1 after, 60 images under sharp, D4, D8, G4, shake; "
        "print() shows the tables>"
    )


def test_hostile_names_stay_text():
    own = report(name=HOSTILE, root=HOSTILE)
    for text in (own._repr_html_(), compare(own, own)._repr_html_()):
        assert "script" not in Cells(text).tags and "\x1b" not in text
    assert "\x1b" not in repr(own)


class Named(Blur):
    def kernel(self, scale=1.0):
        return torch.ones(1, 1, dtype=torch.float64)

    def __str__(self):
        return HOSTILE


@pytest.mark.parametrize(
    "blur", [Sharp(), Disk(4), PerImageShake(), PointSpread(np.eye(3), name="lens"), Named()]
)
def test_a_blur_in_a_notebook_is_its_kernel(blur):
    text = blur._repr_html_()
    found = Cells(text)
    assert found.tags == {"figure", "img", "figcaption", "b"} and "\x1b" not in text
    assert 'src="data:image/png;base64,' in text


def test_a_report_is_plotted():
    after, before, control = report(1), report(0), report(2)
    alone = after.plot()
    # Three metrics under every blur, and below against the radius of disks: sharp, D4, D8.
    assert len(alone.axes) == 6 and alone.axes[0].get_title("left") == "Top-1 accuracy, %"
    lines = alone.axes[3].get_lines()
    assert len(lines) == 1 and list(lines[0].get_xdata()) == [0.0, 4.0, 8.0]
    assert lines[0].get_ydata() == pytest.approx([100 * after[blur].top1 for blur in ("sharp", "D4", "D8")])
    assert len(alone.axes[3].collections) == 1  # the band
    three = after.plot(before=before, control=control)
    assert len(three.axes[3].get_lines()) == 3 and len(three.legends[0].get_texts()) == 3
    assert three._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="`control` must come with `before`"):
        after.plot(control=control)


def test_bands_hold_the_values_and_narrow_with_more_images():
    axes = report(1).plot().axes[3]
    corners = axes.collections[0].get_paths()[0].vertices
    for size, value in zip(axes.get_lines()[0].get_xdata(), axes.get_lines()[0].get_ydata(), strict=True):
        ends = corners[np.isclose(corners[:, 0], size), 1]
        # Close to the normal approximation of a share.
        width = 2 * 1.96 * (value * (100 - value) / 60) ** 0.5
        assert ends.min() < value < ends.max() and abs((ends.max() - ends.min()) - width) < 0.35 * width


def photo(height=24, width=32):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_show_takes_every_kind_of_image(tmp_path):
    array = photo()
    Image.fromarray(array).save(tmp_path / "photo.png")
    chw = torch.from_numpy(array).permute(2, 0, 1)
    kinds = [array, Image.fromarray(array), str(tmp_path / "photo.png"), chw, chw / 255]
    shown = [np.asarray(blurlib.show(kind, "D2").axes[0].images[0].get_array()) for kind in kinds]
    expected = np.asarray(blurlib.functional.apply(Image.fromarray(array), "D2"))
    assert all((each == expected).all() for each in shown)
    assert blurlib.show(array[..., 0], "D2").axes[0].images and blurlib.show(chw[:1], "D2").axes[0].images


def test_show_has_a_kernel_below_each_photograph():
    figure = blurlib.show(photo(), "D2, D4, shake", scale=2, title="a $x$")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["D2", "D4", "shake", "", "", ""]
    kernel = np.asarray(figure.axes[4].images[0].get_array())
    assert kernel.sum() == pytest.approx(1) and (kernel > 0).sum() == (Disk(4).kernel(2) > 0).sum()
    assert "the first image's" in figure.axes[5].get_xlabel().replace("\n", " ")
    many = blurlib.show(photo(), [f"D{radius}" for radius in range(1, 11)])
    assert sum(axes.get_visible() for axes in many.axes) == 20
    figure.savefig(io.BytesIO(), format="png")


def test_show_refuses_with_remedy(tmp_path):
    (tmp_path / "no.png").write_text("no image")
    for wrong, error, message in (
        (3, TypeError, "`image` must be a file, a Pillow image, an array or a tensor, got int"),
        (photo() / 2.0, ValueError, "floating values from 0 to 1, got 0 to 127"),
        (photo().astype(np.int64), TypeError, "`image` must be uint8, or floating from 0 to 1, got int64"),
        (
            photo().transpose(2, 0, 1),
            ValueError,
            r"array \(H, W\) or \(H, W, 3\).*move its channels to the end",
        ),
        (torch.zeros(2, 3, 4, 4), ValueError, r"take one of a batch by images\[0\]"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "at least one pixel"),
        (tmp_path / "none.png", FileNotFoundError, "`image` must name an image file, there is no"),
        (tmp_path / "no.png", ValueError, "`image` must be an image that can be read"),
    ):
        with pytest.raises(error, match=message):
            blurlib.show(wrong, "D2")
    with pytest.raises(ValueError, match="`blur` must be one of"):
        blurlib.show(photo(), "Q3")
