"""Texts by which somebody else names blurs: read in linear time, with the library's own errors only."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blurlib.notation import is_short_name, parse, parse_list, parse_mix

LONG = 60_000
PIECES = st.sampled_from(
    [
        *"DHVLGSax@.+-e%, \0\n\x1b\u0664\u00b2\ud800",
        "sharp",
        "shake",
        "train",
        "0",
        "7",
        "12",
        "9" * 400,
        "1" * 5000,
    ]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)


def refused(read, text):
    """Refuses in one line of a bounded length, or reads."""
    try:
        return read(text)
    except ValueError as error:
        said = str(error)
        assert said.startswith("`") and said.isprintable() and len(said) < 400, said
    return None


@given(TEXTS)
@example("D1.2.3")
@example("D...")
@example("D" + "9" * 400)
@example("H" + "9" * 400)
@example("S" + "1" * 5000)
@example("Hx" + "1" * 5000)
@example("D\u0664")
@example("H\u00b2")
@example("D4\0")
@example("L1e999@1e999")
@example("1e999 D4 + 1 sharp")
@example("nan D4 + 1 sharp")
@example("D\x1b[31m4")
def test_any_text_reads_or_is_refused(text):
    for read in (parse, parse_list, parse_mix):
        refused(read, text)
    blur = refused(parse, text)
    assert blur is None or (is_short_name(text.strip()) and text.isascii() and parse(str(blur)) == blur)


# Each took 14 s for a third of the length, or more, where a character had several places in the form.
@pytest.mark.parametrize(
    "text",
    [
        "D" + "1" * LONG + "x",
        "L" + "1" * LONG + "@" + "1" * LONG + "x",
        "G1e" + "1" * LONG + "x",
        "S" + "1" * LONG,
        "disk" * LONG,
        "1" + " " * LONG + "+ D4",
        "1" + " " * LONG + "D4 x",
        "1" * LONG + "x D4",
        "1 %" + " " * LONG,
    ],
    ids=lambda text: text[:8],
)
def test_long_texts_are_read_in_linear_time(text):
    for read in (parse, parse_list, parse_mix):
        refused(read, text)


def test_long_lists_are_read_in_linear_time():
    names = [f"D{number / 100}" for number in range(1, 5000)]
    assert len(parse_list(", ".join(names))) == len(parse_mix(" + ".join(names))) == 4999
    for read, text in ((parse_list, ", ".join([*names, "D1.0"])), (parse_mix, " + ".join([*names, "D1"]))):
        with pytest.raises(ValueError, match="name each blur once, got 'D1' twice"):
            read(text)


def test_messages_suggest_the_nearest():
    for text, near in (
        ("D1.2.3", "D1.2"),
        ("H\u00b2", "H8"),
        ("D" + "1" * 99 + "x", "D111111"),
        ("disc 4", "D4"),
    ):
        with pytest.raises(ValueError, match=f"did you mean '{near}'"):
            parse(text)
