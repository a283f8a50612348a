"""Names that somebody else gave, in texts for terminals, tables and pages."""

from __future__ import annotations

import re

__all__ = ["spreadsheet_cell", "starts_formula", "visible"]

# Control characters, by which a name could move the cursor or ring; and those that turn or break a line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FORMULA = re.compile(r"[=+\-@\t\r\n]")
_NUMBER = re.compile(
    r"[-+]?[0-9.,]+(?:e[-+]?[0-9]+)?(?: ?%| nats| px)?(?: \[[-+\u2212\u221e0-9., ]+\])?|[-+]?(?:inf|nan)|-"
)


def visible(text: str, *, keep: str = "") -> str:
    r"""A text whose control characters are escaped, as Python writes them.

    Example:
        >>> visible("cat\x1b[2J.jpg")
        'cat\\x1b[2J.jpg'
    """
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else repr(match[0])[1:-1], text)


def starts_formula(text: str) -> bool:
    """Whether a spreadsheet would compute a cell; a number, alone or with its interval, is none."""
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None


def spreadsheet_cell(value: object) -> object:
    """A value as comma-separated files have it: before a text that starts a formula stands an apostrophe.

    Texts that start with apostrophes and go on like that get one more, so that what reads them back takes the
    first away and has the name.

    Example:
        >>> spreadsheet_cell("=1+1"), spreadsheet_cell("'=1"), spreadsheet_cell("-0.5"), spreadsheet_cell(-1)
        ("'=1+1", "''=1", '-0.5', -1)
    """
    if isinstance(value, str) and starts_formula(value.lstrip("'")):
        return f"'{value}"
    return value
