"""The paper's numbers against a second transcription, typed from the paper's text alone."""

from itertools import product
from statistics import mean

import pytest

from blurlib import notation, paper
from blurlib.notation import parse_mix

TEXT = {  # rows and columns as printed; percent, in table 2 nats
    "table1": """
        76.07 90.88 92.17 90.76
        74.83 88.06 89.00 85.43
        68.48 81.48 80.93 66.86
        61.03 72.69 67.86 40.64
        53.34 60.97 51.40 22.52
        75.37 89.11 90.04 86.59
        70.73 83.32 82.77 71.50
        75.57 88.79 89.84 86.19
        70.75 82.51 81.86 69.20
        58.91 69.02 66.66 44.77
        56.34 62.38 49.80 19.76
        30.15 17.39 11.37  3.41
    """,
    "table2": """
        1.1837 1.1215 1.2060 1.1449
        2.6131 1.3629 2.6513 1.3882
        3.8021 1.6553 3.8654 1.6819
    """,
    "table3": """
        90.88 91.36 90.59 91.03 16.10 90.56
        81.48 89.84 89.44 85.39 67.03 87.79
        60.97 66.90 87.01 87.88 88.43 82.36
        69.02 73.18 80.78 79.60 60.52 88.84
        83.32 81.09 80.66 80.62 28.02 88.52
    """,
    "table4": """
        90.88 81.48 60.97
        90.59 89.44 87.01
        90.76 66.86 22.52
        87.86 85.99 81.54
        92.17 80.93 51.40
        90.84 89.17 85.86
        91.10 89.80 87.09
    """,
    "table5": "90.60 61.57 87.00 87.15 88.3",
    "table6": """
        70.0 55.5 68.2 54.2
        63.8 47.0 64.8 50.2
        50.0 33.5 58.7 44.2
        35.2 21.8 51.3 37.3
        23.1 13.2 43.0 30.5
    """,
    "tableA": """
        92.89 93.44
        90.40 90.82
        85.20 83.54
        77.07 69.52
        66.14 55.94
    """,
}

DEFOCUS = ["sharp", "D2", "D4", "D6", "D8"]
ALL = [*DEFOCUS, "H4", "H8", "V4", "V8", "shake", "G4", "G8"]
BOTH = (256, 512)
TRAININGS3 = ["original", "D4@256", "defocus@256", "D8@256", "only D8@256", "shake@256"]
SCALES1 = [(128,), (256,), BOTH, (512,)]
ROWS4 = [
    ("original", (256,)),
    ("defocus@256", (256,)),
    ("original", (512,)),
    ("defocus@512", (512,)),
    ("original", BOTH),
    ("defocus@256,512", BOTH),
    ("defocus@256|512", BOTH),
]
COLUMNS5 = [
    ("original", "sharp"),
    ("original", "D8"),
    ("original deblurred by epll:D8", "D8"),
    ("defocus@256", "D8"),
    ("only D8@256", "D8"),
]
MEASURED = {  # what each cell holds: training, sides, blur, metric
    "table1": [("original", sides, blur, "top5") for blur, sides in product(ALL, SCALES1)],
    "table2": [
        (training, (256,), blur, metric)
        for blur in ("sharp", "D4", "D8")
        for metric in ("entropy", "cross_entropy")
        for training in ("original", "defocus@256")
    ],
    "table3": [
        (training, (256,), blur, "top5")
        for blur, training in product(["sharp", "D4", "D8", "shake", "H8"], TRAININGS3)
    ],
    "table4": [
        (training, sides, blur, "top5") for (training, sides), blur in product(ROWS4, ["sharp", "D4", "D8"])
    ],
    "table5": [(training, (256,), blur, "top5") for training, blur in COLUMNS5],
    "table6": [  # the paper gives no side for the segmentation network
        (training, (), blur, metric)
        for blur in DEFOCUS
        for training in ("original", "defocus@")
        for metric in ("miou", "trimap_miou")
    ],
    "tableA": [("original", sides, blur, "top5") for blur, sides in product(DEFOCUS, [(256,), BOTH])],
}


def as_printed(cell):
    return round(cell.value, 4) if cell.metric.endswith("entropy") else round(100 * cell.value, 2)


def percent(name, training, blur, sides=(256,), metric="top5"):
    [cell] = [
        cell
        for cell in paper.TABLES[name].cells
        if (str(cell.training), cell.sides, cell.blur, cell.metric) == (training, sides, blur, metric)
    ]
    return as_printed(cell)


def table3(training, blur):
    return percent("table3", training, blur)


def top5_cells():
    return [cell for table in paper.TABLES.values() for cell in table.cells if cell.metric == "top5"]


def test_every_table_is_here():
    assert list(paper.TABLES) == list(TEXT)
    assert [table.name for table in paper.TABLES.values()] == list(TEXT)


@pytest.mark.parametrize("name", TEXT)
def test_values_are_those_printed(name):
    assert [as_printed(cell) for cell in paper.TABLES[name].cells] == [float(n) for n in TEXT[name].split()]


@pytest.mark.parametrize("name", TEXT)
def test_each_cell_says_what_was_measured(name):
    cells = paper.TABLES[name].cells
    assert [(str(c.training), c.sides, c.blur, c.metric) for c in cells] == MEASURED[name]


@pytest.mark.parametrize("name", TEXT)
def test_cells_go_row_by_row(name):
    table = paper.TABLES[name]
    assert [(cell.row, cell.column) for cell in table.cells] == list(product(table.rows, table.columns))
    lines = [line.split() for line in TEXT[name].strip().splitlines()]
    assert (len(table.rows), len(table.columns)) == (len(lines), len(lines[0]))


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5"])
def test_vgg16_sees_all_crops(name):
    assert (paper.TABLES[name].network, paper.TABLES[name].crops) == ("vgg16", "dense")


def test_resnet_sees_five_crops():
    # The paper writes "ResNet-51", which the authors of ResNet never published; the nearest is ResNet-50.
    assert (paper.TABLES["tableA"].network, paper.TABLES["tableA"].crops) == ("resnet50", "five")


@pytest.mark.parametrize(
    ("one", "other", "shared"), [("table1", "table3", 5), ("table1", "table4", 9), ("table3", "table4", 6)]
)
def test_tables_agree_where_they_print_the_same_cell(one, other, shared):
    first, second = (
        {(c.training, c.sides, c.blur): c.value for c in paper.TABLES[name].cells} for name in (one, other)
    )
    common = first.keys() & second.keys()
    assert len(common) == shared
    assert {key: first[key] for key in common} == {key: second[key] for key in common}


def test_classification_recipe():
    recipe = paper.CLASSIFICATION
    assert (recipe.epochs, recipe.lr) == ((2, 1), (1e-3, 1e-4))
    assert (recipe.momentum, recipe.batch_size, recipe.crop) == (0.9, 128, 224)
    assert (recipe.first_sides, recipe.canonical_side) == ((356, 384, 410), 384)
    assert "4" in str(recipe.section)


def test_segmentation_recipe():
    recipe = paper.SEGMENTATION
    assert (recipe.epochs, recipe.lr, recipe.canonical_side) == ((6, 2), (1e-4, 1e-5), 384)
    assert (recipe.momentum, recipe.batch_size, recipe.crop, recipe.first_sides) == (None,) * 4
    assert "5" in str(recipe.section)


def test_mixes_are_those_of_section_4():
    shares = {
        name: {str(blur): share for blur, share in parse_mix(mix).items()}
        for name, mix in paper.MIXES.items()
    }
    assert shares == {
        "D4": {"sharp": 0.5, "D4": 0.5},
        "defocus": dict.fromkeys(DEFOCUS, pytest.approx(0.2)),
        "D8": {"sharp": 0.5, "D8": 0.5},
        "only D8": {"D8": 1.0},
        "shake": {"sharp": pytest.approx(0.2), "shake": pytest.approx(0.8)},
    }


def test_every_training_names_a_mix():
    trainings = {str(cell.training) for table in paper.TABLES.values() for cell in table.cells}
    networks = {training.partition("@")[0].partition(" deblurred ")[0] for training in trainings}
    assert networks == {"original", *paper.MIXES}


def test_conditions_are_the_rows_of_table_1():
    assert list(paper.CONDITIONS) == ALL
    assert len(paper.TABLES["table1"].rows) == len(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_condition_is_the_short_name_of_a_blur(name):
    assert name in paper.CONDITIONS
    assert str(notation.parse(name)) == name


def test_fractions_lie_between_0_and_1():
    assert len(top5_cells()) == 48 + 30 + 21 + 5 + 10
    assert all(0 < cell.value < 1 for cell in (*top5_cells(), *paper.TABLES["table6"].cells))


@pytest.mark.parametrize("sides", SCALES1)
@pytest.mark.parametrize(
    "series", [DEFOCUS, ["sharp", "H4", "H8"], ["sharp", "V4", "V8"], ["sharp", "G4", "G8"]]
)
def test_a_larger_blur_costs_more(series, sides):
    values = [percent("table1", "original", blur, sides) for blur in series]
    assert values == sorted(set(values), reverse=True)


@pytest.mark.parametrize("blur", ALL[1:])
def test_drop_is_steeper_where_512_is_included(blur):
    drops = [
        percent("table1", "original", "sharp", sides) - percent("table1", "original", blur, sides)
        for sides in SCALES1
    ]
    assert drops == sorted(drops)


def test_scale_128_hurts_except_for_the_largest_kernel():
    # So section 3 says; it holds against 256 only: several blurs do better at 128 than with 512 included.
    better = {
        sides: [
            blur
            for blur in ALL
            if percent("table1", "original", blur, (128,)) > percent("table1", "original", blur, sides)
        ]
        for sides in SCALES1[1:]
    }
    assert better == {
        (256,): ["G8"],
        BOTH: ["D8", "G4", "G8"],
        (512,): ["D4", "D6", "D8", "V8", "shake", "G4", "G8"],
    }


def test_scale_256_is_best_overall_and_both_scales_on_sharp_images():
    means = {sides: mean(percent("table1", "original", blur, sides) for blur in ALL) for sides in SCALES1}
    assert max(SCALES1, key=means.__getitem__) == (256,)
    assert max(SCALES1, key=lambda sides: percent("table1", "original", "sharp", sides)) == BOTH


def test_entropy_rises_with_blur_and_falls_with_fine_tuning():
    for metric in ("entropy", "cross_entropy"):
        before, after = (
            [percent("table2", training, blur, metric=metric) for blur in ("sharp", "D4", "D8")]
            for training in ("original", "defocus@256")
        )
        assert before == sorted(before)
        assert all(b > a for b, a in zip(before, after, strict=True))


def test_three_epochs():
    assert sum(paper.CLASSIFICATION.epochs) == 3


def test_d8_from_61_percent_to_87():
    # Section 4.1 says "from 61% ... to 88%" of the network tuned on D2 to D8, which tables 3 and 4 give
    # 87.01. 88% is what "sharp & D8" (87.88) and "only D8" (88.43) reach.
    assert round(table3("original", "D8")) == 61
    assert round(table3("defocus@256", "D8")) == 87
    assert round(table3("D8@256", "D8")) == round(table3("only D8@256", "D8")) == 88


def test_sharp_accuracy_drops_by_less_than_a_third_of_a_point():
    assert 0 < table3("original", "sharp") - table3("defocus@256", "sharp") < 1 / 3


def test_moderate_blur_slightly_improves_sharp_accuracy():
    assert 0 < table3("D4@256", "sharp") - table3("original", "sharp") < 0.5


def test_defocus_and_shake_improve_each_other():
    assert table3("defocus@256", "shake") > table3("original", "shake") + 10
    assert table3("shake@256", "D4") > table3("original", "D4") + 5
    assert table3("shake@256", "D8") > table3("original", "D8") + 20


def test_one_radius_improves_the_other():
    assert table3("D4@256", "D8") > table3("original", "D8")
    assert table3("D8@256", "D4") > table3("original", "D4")


def test_linear_motion_gains_from_shake_and_loses_from_defocus():
    assert table3("shake@256", "H8") > table3("original", "H8")
    losses = [table3("original", "H8") - table3(name, "H8") for name in ("D4@256", "defocus@256", "D8@256")]
    assert all(2 < loss < 3 for loss in losses)


@pytest.mark.parametrize(
    ("training", "known", "dropped"),
    [("D4@256", "D4", "D8"), ("D8@256", "D8", "D4"), ("only D8@256", "D8", "D4")],
)
def test_knowing_the_blur_gains_less_than_dropped_blurs_lose(training, known, dropped):
    gain = table3(training, known) - table3("defocus@256", known)
    assert 0 < gain < table3("defocus@256", dropped) - table3(training, dropped)


def test_only_d8_degrades_everything_else():
    for blur in ("sharp", "D4", "shake", "H8"):
        assert table3("only D8@256", blur) == min(table3(training, blur) for training in TRAININGS3)


def test_scale_512_costs_nearly_three_points_on_sharp_images():
    before, after = (percent("table4", training, "sharp", (512,)) for training in ("original", "defocus@512"))
    assert 2.5 < before - after < 3


def test_networks_for_several_scales():
    at_256, at_512, single, per_scale = (
        [percent("table4", training, blur, sides) for blur in ("sharp", "D4", "D8")]
        for training, sides in (ROWS4[1], ROWS4[3], ROWS4[5], ROWS4[6])
    )
    assert all(low < high for low, high in zip(at_512, at_256, strict=True))
    assert all(low < high for low, high in zip(at_512, single, strict=True))
    assert all(low < high for low, high in zip(single[1:], at_256[1:], strict=True))
    assert all(low < high for low, high in zip(at_256[1:], per_scale[1:], strict=True))
    assert per_scale[0] - at_256[0] == pytest.approx(0.5, abs=0.05)


def test_fine_tuning_does_as_well_as_deblurring_or_better():
    blurred, deblurred, mixed, known = (percent("table5", *column) for column in COLUMNS5[1:])
    assert blurred < deblurred < mixed < known


@pytest.mark.parametrize("training", ["original", "defocus@256", "only D8@256"])
def test_the_subset_of_table_5_is_like_the_whole(training):
    assert percent("table5", training, "D8") == pytest.approx(table3(training, "D8"), abs=1)


@pytest.mark.parametrize("metric", ["miou", "trimap_miou"])
def test_segmentation_gains_on_blurred_images_at_a_greater_cost_to_sharp_ones(metric):
    before, after = (
        [percent("table6", training, blur, (), metric) for blur in DEFOCUS]
        for training in ("original", "defocus@")
    )
    assert all(a > b for b, a in zip(before[1:], after[1:], strict=True))
    assert before[0] - after[0] > table3("original", "sharp") - table3("defocus@256", "sharp")
    assert after[0] - after[-1] > table3("defocus@256", "sharp") - table3("defocus@256", "D8")


@pytest.mark.parametrize("sides", [(256,), BOTH])
@pytest.mark.parametrize("blur", DEFOCUS)
def test_resnet_is_slightly_better_than_vgg16(blur, sides):
    assert 0 < percent("tableA", "original", blur, sides) - percent("table1", "original", blur, sides) < 6
