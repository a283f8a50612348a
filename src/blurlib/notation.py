"""Blurs and mixes as text: short names that read back to the same value.

A list of blurs is written ``sharp, D4``; a mix is ``sharp + D4`` (equal shares) or ``0.2 sharp + 0.8 shake``
(shares that sum to 1).
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ._common import checks
from .blurs import (
    Blur,
    Box,
    Disk,
    Gaussian,
    Line,
    PerImageShake,
    Shake,
    Sharp,
    has_short_name,
    number_text,
)

__all__ = ["parse", "parse_list", "parse_mix"]

# Each character has one place in a number, and so a text is read in linear time.
NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?"
_WHOLE = "[0-9]{1,9}"
_FORMS: dict[re.Pattern[str], Callable[[re.Match[str]], Blur]] = {
    re.compile(rf"D({NUMBER})(a?)"): lambda m: Disk(float(m[1]), antialias=bool(m[2])),
    re.compile(rf"([HV])({_WHOLE})"): lambda m: Box(int(m[2]), vertical=m[1] == "V"),
    re.compile(rf"L({NUMBER})(?:@({NUMBER}))?"): lambda m: Line(float(m[1]), float(m[2] or 0)),
    re.compile(rf"G({NUMBER})"): lambda m: Gaussian(float(m[1])),
    re.compile(rf"S({_WHOLE})(?:@(train|test))?"): lambda m: Shake(
        int(m[1]), "train" if m[2] == "train" else "test"
    ),
    re.compile(r"sharp"): lambda _: Sharp(),
    re.compile(r"shake"): lambda _: PerImageShake(),
}
_LONGEST = 60  # of a text in a message, in characters
_EXAMPLES = ("sharp", "D4", "D2.5a", "H8", "V8", "L12@30", "G4", "S17", "S17@train", "shake")
_WORDS = {
    "disk": "D",
    "defocus": "D",
    "box": "H",
    "horizontal": "H",
    "vertical": "V",
    "line": "L",
    "motion": "L",
}
_WORDS |= {
    "gaussian": "G",
    "gauss": "G",
    "camera": "S",
    "none": "sharp",
    "original": "sharp",
    "camerashake": "shake",
}


def parse(text: str | Blur) -> Blur:
    """Read a short name; the inverse of ``str(blur)``.

    Args:
        text: such as "D4"; a blur is returned as it is.

    Returns:
        The blur.

    Raises:
        TypeError: if `text` is neither, or a blur of your own has no text.
        ValueError: if there is no such blur; the message suggests the nearest. Likewise if a blur of your own
            is shown by the short name of another one.

    Example:
        >>> parse("L12@30")
        Line(length=12.0, angle=30.0)
    """
    if isinstance(text, Blur):
        return text if has_short_name(text) else _named(text)
    if not isinstance(text, str):
        raise TypeError(
            f"`blur` must be a short name such as 'D4' or a Blur, got {type(text).__name__}: {text!r}"
        )
    name = text.strip()
    for form, build in _FORMS.items():
        match = form.fullmatch(name)
        if match:
            return build(match)
    raise ValueError(
        f"`blur` must be one of the forms {', '.join(_EXAMPLES)}; got {_short(text)}, did you mean "
        f"{_nearest(name[:_LONGEST])!r}?"
    )


def is_short_name(text: str) -> bool:
    """Whether a text has the form of a short name; not "lens", by which a report shows a measured kernel."""
    return any(form.fullmatch(text) for form in _FORMS)


def _named(blur: Blur) -> Blur:
    """A blur without a short name, whose text must tell it apart in tables and files."""
    name, kind = str(blur), type(blur).__name__
    if is_short_name(name):
        raise ValueError(
            f"`blur` of your own must not be shown by the short name of another one, got {kind} shown as "
            f"{name!r}; give it another name, or a `__str__` of its own"
        )
    if name != " ".join(name.split()) or not name or " object at 0x" in name:
        raise TypeError(
            f"`blur` of your own must be shown by one line of text that says what it is, got {kind} shown as "
            f"{name!r}; give it a `__str__`, or make it a dataclass"
        )
    return blur


def _short(text: str) -> str:
    """A text as a message shows it."""
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")


def _nearest(name: str) -> str:
    """The short name that was most likely meant."""
    word = "".join(re.findall(r"[A-Za-z]+", name)).lower()
    number = float("".join(re.findall(r"[0-9]{1,6}(?:\.[0-9]+)?", name)[:1]) or "nan")
    close = difflib.get_close_matches(word, [*_WORDS, "sharp", "shake"], n=1, cutoff=0.6)
    letter = _WORDS.get(close[0], close[0]) if close else name[:1].upper()
    if letter in ("sharp", "shake"):
        return letter
    if letter in "DHVLGS" and letter and not math.isnan(number):
        return letter + (str(int(number)) if letter in "HVS" else number_text(number))
    return next((example for example in _EXAMPLES if letter and example.startswith(letter)), "D4")


def parse_list(blurs: str | Blur | Iterable[str | Blur]) -> tuple[Blur, ...]:
    """Read several blurs, such as "sharp, D4, D8, shake".

    Args:
        blurs: short names separated by commas, one blur, or a sequence of names and blurs.

    Returns:
        The blurs in their order.

    Raises:
        ValueError: if there is none, one is unknown, or one is named twice.

    Example:
        >>> [str(blur) for blur in parse_list("sharp, D4")]
        ['sharp', 'D4']
    """
    if isinstance(blurs, str):
        blurs = [name for name in blurs.split(",") if name.strip()]
    elif isinstance(blurs, Blur):
        blurs = [blurs]
    parsed = tuple(parse(blur) for blur in blurs)
    if not parsed:
        raise ValueError("`blurs` must name at least one blur, got none; for example 'sharp, D4, D8'")
    names = [str(blur) for blur in parsed]
    if len(set(names)) < len(names):
        double = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"`blurs` must name each blur once, got {double!r} twice; remove one of them")
    return parsed


def parse_mix(mix: str | Blur | Mapping[Any, float]) -> dict[Any, float]:
    """Read a mix of blurs with shares.

    Args:
        mix: "sharp + D4" (equal shares), "0.2 sharp + 0.8 shake" (a share before each), a blur or
            a transform alone (anything with a `draw` method), or a mapping from names, blurs or transforms to
            shares.

    Returns:
        A dict from blurs (or the transforms given) to shares that sum to 1 exactly as far as floats do.

    Raises:
        TypeError: if `mix` is none of these, or a share is not a number.
        ValueError: if a blur is unknown or named twice, only some shares are given, one is not above 0, or
            they do not sum to 1 within 1e-6.

    Example:
        >>> {str(blur): share for blur, share in parse_mix("0.2 sharp + 0.8 shake").items()}
        {'sharp': 0.2, 'shake': 0.8}
    """
    named: list[tuple[Any, float]]
    if isinstance(mix, Blur):
        return {parse(mix): 1.0}
    if hasattr(mix, "draw") and not isinstance(mix, type) and not hasattr(mix, "shares"):
        return {mix: 1.0}
    if isinstance(mix, str):
        parts = (
            [_split_share(part) for part in mix.split(" + ")]
            if " + " in mix
            else [_split_share(p) for p in mix.split("+")]
        )
        given = [share for share, _ in parts if share is not None]
        if given and len(given) < len(parts):
            raise ValueError(f"`mix` must give a share for each blur or for none, got {_short(mix)}")
        named = [(parse(name), 1.0 / len(parts) if share is None else share) for share, name in parts]
    elif isinstance(mix, Mapping):
        named = [(blur if hasattr(blur, "draw") else parse(blur), share) for blur, share in mix.items()]
    else:
        raise TypeError(
            f"`mix` must be a text such as 'sharp + D4', a blur or a mapping to shares, got {mix!r}"
            + ("; pass its `shares`, which are such a mapping" if hasattr(mix, "shares") else "")
        )
    shares: dict[Any, float] = {}
    names: set[str] = set()
    for blur, share in named:
        if blur in shares or (isinstance(blur, Blur) and str(blur) in names):
            raise ValueError(
                f"`mix` must name each blur once, got {str(blur)!r} twice; add their shares, "
                "or give one of your own another name"
            )
        names |= {str(blur)} if isinstance(blur, Blur) else set()
        shares[blur] = checks.check_number(f"share of {blur}", share, low=1e-9, high=1.0, unit="parts of 1")
    total = math.fsum(shares.values())
    if not shares or abs(total - 1.0) > 1e-6:
        shown = _short(mix) if isinstance(mix, str) else repr(mix)
        raise ValueError(
            f"`mix` must have shares that sum to 1, got {total:g} in {shown}; divide each by {total:g}"
        )
    return {blur: share / total for blur, share in shares.items()}


def _split_share(part: str) -> tuple[float | None, str]:
    match = re.fullmatch(rf"({NUMBER})(\s*%)?\s+(\S+)", part.strip())
    if not match:
        return None, part
    return float(match[1]) / (100.0 if match[2] else 1.0), match[3]
