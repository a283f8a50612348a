"""The paper as data: its conditions, its training mixes and recipes, and every number that it prints.

Vasiljevic, Chakrabarti, Shakhnarovich, "Examining the Impact of Blur on Recognition by Convolutional
Networks". A table is a list of cells. Each states what was measured (network, scale, blur, metric) and the
published value, so that a program can measure the same and print both next to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Metric = Literal["top1", "top5", "entropy", "cross_entropy", "miou", "trimap_miou"]

CONDITIONS = {
    "sharp": "Sharp",
    "D2": "Defocus r=2 (D2)",
    "D4": "Defocus r=4 (D4)",
    "D6": "Defocus r=6 (D6)",
    "D8": "Defocus r=8 (D8)",
    "H4": "Horiz. length=4",
    "H8": "Horiz. length=8",
    "V4": "Vert. length=4",
    "V8": "Vert. length=8",
    "shake": "Camera Shake",
    "G4": "Gaussian sigma=4",
    "G8": "Gaussian sigma=8",
}
"""The paper's blurs: our short names and the paper's words, in the order of its table 1."""

MIXES = {
    "D4": "sharp + D4",
    "defocus": "sharp + D2 + D4 + D6 + D8",
    "D8": "sharp + D8",
    "only D8": "D8",
    "shake": "0.2 sharp + 0.8 shake",
}
"""What the networks of table 3 were fine-tuned on. Where the paper gives no shares they are equal: it says so
of the defocus mix (section 4.1, "uniform mix"), and of camera shake alone gives others, 20 % sharp."""

NETWORKS = ("vgg16", "resnet50")
"""torchvision's names. The supplement's "ResNet-51" does not exist; its authors' network of that size,
ResNet-50, is meant."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The paper's recipe of fine-tuning.

    Attributes:
        epochs: of each phase.
        lr: learning rate of each phase.
        momentum: of SGD; None where the paper does not say.
        batch_size: images in a batch; None where the paper does not say.
        crop: side of the random crop in px; None where there is none.
        first_sides: shorter sides in px before the blur, one at random; None where there is one size only.
        canonical_side: shorter side (segmentation: geometric mean of the sides) at which blurs are defined.
        section: of the paper.

    Example:
        >>> CLASSIFICATION.epochs, CLASSIFICATION.lr
        ((2, 1), (0.001, 0.0001))
    """

    epochs: tuple[int, ...]
    lr: tuple[float, ...]
    momentum: float | None
    batch_size: int | None
    crop: int | None
    first_sides: tuple[int, ...] | None
    canonical_side: int
    section: str


CLASSIFICATION = Recipe(
    epochs=(2, 1),
    lr=(1e-3, 1e-4),
    momentum=0.9,
    batch_size=128,
    crop=224,
    first_sides=(356, 384, 410),
    canonical_side=384,
    section="4",
)
SEGMENTATION = Recipe(
    epochs=(6, 2),
    lr=(1e-4, 1e-5),
    momentum=None,
    batch_size=None,
    crop=None,
    first_sides=None,
    canonical_side=384,
    section="5",
)


@dataclass(frozen=True, kw_only=True)
class Training:
    """A network of the paper: how it came from the pretrained weights.

    Attributes:
        mix: what it was fine-tuned on, a key of `MIXES`, or "sharp" for a control that the paper does not
            have; None for the original weights.
        sides: network sides of the training, one of them at random for each image; none for the original.
        per_scale: not one network, but at each of the sides the one that was trained there alone.
        deblurring: of the images before the network sees them: the method and the blur that it assumes, such
            as "epll:D8". Empty: none.

    Example:
        >>> print(Training(), Training(mix="D4", sides=(256,)), Training(deblurring="epll:D8"))
        original D4@256 original deblurred by epll:D8
    """

    mix: str | None = None
    sides: tuple[int, ...] = ()
    per_scale: bool = False
    deblurring: str = ""

    def __str__(self) -> str:
        if self.deblurring:
            return f"{replace(self, deblurring='')} deblurred by {self.deblurring}"
        if self.mix is None:
            return "original"
        return f"{self.mix}@{('|' if self.per_scale else ',').join(map(str, self.sides))}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of a table.

    Attributes:
        row: heading of its row, in the paper's words.
        column: heading of its column.
        training: the network.
        sides: network sides that are averaged.
        blur: short name.
        metric: what is measured.
        value: what the paper found: fractions between 0 and 1, entropies in nats.

    Example:
        >>> TABLES["table1"].cells[0].value
        0.7607
    """

    row: str
    column: str
    training: Training
    sides: tuple[int, ...]
    blur: str
    metric: Metric
    value: float


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        name: as the command line writes it.
        title: what it shows.
        network: as the command line names it.
        crops: how the network is applied.
        cells: every number, row by row.

    Example:
        >>> table = TABLES["table4"]
        >>> len(table.cells), table.columns
        (21, ('Sharp', 'D4', 'D8'))
    """

    name: str
    title: str
    network: str
    crops: Literal["dense", "five", "image"]
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> tuple[str, ...]:
        """Headings of the rows."""
        return tuple(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of the columns."""
        return tuple(dict.fromkeys(cell.column for cell in self.cells))

    @property
    def trainings(self) -> tuple[Training, ...]:
        """The networks that it compares."""
        return tuple(dict.fromkeys(cell.training for cell in self.cells))


_ORIGINAL = Training()
_DEFOCUS = Training(mix="defocus", sides=(256,))


def _table1() -> PaperTable:
    scales = {"128": (128,), "256": (256,), "256+512": (256, 512), "512": (512,)}
    percents = {
        "sharp": (76.07, 90.88, 92.17, 90.76),
        "D2": (74.83, 88.06, 89.00, 85.43),
        "D4": (68.48, 81.48, 80.93, 66.86),
        "D6": (61.03, 72.69, 67.86, 40.64),
        "D8": (53.34, 60.97, 51.40, 22.52),
        "H4": (75.37, 89.11, 90.04, 86.59),
        "H8": (70.73, 83.32, 82.77, 71.50),
        "V4": (75.57, 88.79, 89.84, 86.19),
        "V8": (70.75, 82.51, 81.86, 69.20),
        "shake": (58.91, 69.02, 66.66, 44.77),
        "G4": (56.34, 62.38, 49.80, 19.76),
        "G8": (30.15, 17.39, 11.37, 3.41),
    }
    cells = [
        _top5(CONDITIONS[blur], column, _ORIGINAL, sides, blur, percent)
        for blur, row in percents.items()
        for (column, sides), percent in zip(scales.items(), row, strict=True)
    ]
    return _classification("table1", "the original network at different scales", cells)


def _table2() -> PaperTable:
    metrics: tuple[tuple[str, Metric], ...] = (("Entropy", "entropy"), ("Cross-entropy", "cross_entropy"))
    nats = {
        "sharp": (1.1837, 1.1215, 1.2060, 1.1449),
        "D4": (2.6131, 1.3629, 2.6513, 1.3882),
        "D8": (3.8021, 1.6553, 3.8654, 1.6819),
    }
    columns = [
        (f"{title}, {state}", training, metric)
        for title, metric in metrics
        for state, training in (("original", _ORIGINAL), ("fine-tuned", _DEFOCUS))
    ]
    cells = [
        Cell(
            row=_row(blur),
            column=column,
            training=training,
            sides=(256,),
            blur=blur,
            metric=metric,
            value=value,
        )
        for blur, row in nats.items()
        for (column, training, metric), value in zip(columns, row, strict=True)
    ]
    return _classification("table2", "entropy and cross-entropy of the predicted distributions", cells)


def _table3() -> PaperTable:
    columns = {
        "Original": _ORIGINAL,
        "Sharp & D4": Training(mix="D4", sides=(256,)),
        "Sharp & D2,D4,D6,D8": _DEFOCUS,
        "Sharp & D8": Training(mix="D8", sides=(256,)),
        "Only D8": Training(mix="only D8", sides=(256,)),
        "Sharp & camera shake": Training(mix="shake", sides=(256,)),
    }
    percents = {
        "sharp": (90.88, 91.36, 90.59, 91.03, 16.10, 90.56),
        "D4": (81.48, 89.84, 89.44, 85.39, 67.03, 87.79),
        "D8": (60.97, 66.90, 87.01, 87.88, 88.43, 82.36),
        "shake": (69.02, 73.18, 80.78, 79.60, 60.52, 88.84),
        "H8": (83.32, 81.09, 80.66, 80.62, 28.02, 88.52),
    }
    cells = [
        _top5(CONDITIONS[blur], column, training, (256,), blur, percent)
        for blur, row in percents.items()
        for (column, training), percent in zip(columns.items(), row, strict=True)
    ]
    return _classification("table3", "fine-tuning on one mix, tested under another blur", cells)


def _table4() -> PaperTable:
    both = (256, 512)
    rows = (
        ("256, original", _ORIGINAL, (256,), (90.88, 81.48, 60.97)),
        ("256, fine-tuned", _DEFOCUS, (256,), (90.59, 89.44, 87.01)),
        ("512, original", _ORIGINAL, (512,), (90.76, 66.86, 22.52)),
        ("512, fine-tuned", Training(mix="defocus", sides=(512,)), (512,), (87.86, 85.99, 81.54)),
        ("256+512, original", _ORIGINAL, both, (92.17, 80.93, 51.40)),
        (
            "256+512, fine-tuned (single network)",
            Training(mix="defocus", sides=both),
            both,
            (90.84, 89.17, 85.86),
        ),
        (
            "256+512, fine-tuned (per-scale)",
            Training(mix="defocus", sides=both, per_scale=True),
            both,
            (91.10, 89.80, 87.09),
        ),
    )
    cells = [
        _top5(row, _row(blur), training, sides, blur, percent)
        for row, training, sides, percents in rows
        for blur, percent in zip(("sharp", "D4", "D8"), percents, strict=True)
    ]
    return _classification("table4", "fine-tuning at different scales", cells)


def _table5() -> PaperTable:
    columns = (
        ("Original on sharp", _ORIGINAL, "sharp", 90.60),
        ("Original on blurred (D8)", _ORIGINAL, "D8", 61.57),
        ("Original on deblurred", Training(deblurring="epll:D8"), "D8", 87.00),
        ("FT-Mix on blurred (D8)", _DEFOCUS, "D8", 87.15),
        ("FT-D8 on blurred (D8)", Training(mix="only D8", sides=(256,)), "D8", 88.3),
    )
    cells = [
        _top5("Top-5 accuracy", column, training, (256,), blur, percent)
        for column, training, blur, percent in columns
    ]
    return _classification("table5", "deblurring with the true kernel, against fine-tuning", cells)


def _table6() -> PaperTable:
    tuned = Training(mix="defocus")
    columns: tuple[tuple[str, Training, Metric], ...] = (
        ("Original, all", _ORIGINAL, "miou"),
        ("Original, boundaries", _ORIGINAL, "trimap_miou"),
        ("Fine-tuned, all", tuned, "miou"),
        ("Fine-tuned, boundaries", tuned, "trimap_miou"),
    )
    percents = {
        "sharp": (70.0, 55.5, 68.2, 54.2),
        "D2": (63.8, 47.0, 64.8, 50.2),
        "D4": (50.0, 33.5, 58.7, 44.2),
        "D6": (35.2, 21.8, 51.3, 37.3),
        "D8": (23.1, 13.2, 43.0, 30.5),
    }
    cells = [
        Cell(
            row="Sharp" if blur == "sharp" else f"Blur {blur}",
            column=column,
            training=training,
            sides=(),  # the paper does not say at what size its network sees the images
            blur=blur,
            metric=metric,
            value=round(percent / 100, 4),
        )
        for blur, row in percents.items()
        for (column, training, metric), percent in zip(columns, row, strict=True)
    ]
    title = "mean intersection over union on Pascal VOC 2012"
    return PaperTable(name="table6", title=title, network="zoomout:vgg16", crops="image", cells=tuple(cells))


def _table_a() -> PaperTable:
    scales = {"256": (256,), "256+512": (256, 512)}
    percents = {
        "sharp": (92.89, 93.44),
        "D2": (90.40, 90.82),
        "D4": (85.20, 83.54),
        "D6": (77.07, 69.52),
        "D8": (66.14, 55.94),
    }
    cells = [
        _top5(_row(blur), column, _ORIGINAL, sides, blur, percent)
        for blur, row in percents.items()
        for (column, sides), percent in zip(scales.items(), row, strict=True)
    ]
    title = "a residual network on five crops"
    return PaperTable(name="tableA", title=title, network="resnet50", crops="five", cells=tuple(cells))


def _top5(
    row: str, column: str, training: Training, sides: tuple[int, ...], blur: str, percent: float
) -> Cell:
    value = round(percent / 100, 4)
    return Cell(row=row, column=column, training=training, sides=sides, blur=blur, metric="top5", value=value)


def _row(blur: str) -> str:
    return "Sharp" if blur == "sharp" else blur


def _classification(name: str, title: str, cells: Sequence[Cell]) -> PaperTable:
    return PaperTable(name=name, title=title, network="vgg16", crops="dense", cells=tuple(cells))


TABLES = {
    table.name: table
    for table in (_table1(), _table2(), _table3(), _table4(), _table5(), _table6(), _table_a())
}
"""Every table of the paper by its name: table1 to table6, tableA."""
