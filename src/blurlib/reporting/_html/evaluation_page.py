"""The page of an evaluation, from the plain records of reports and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._common.provenance import flattened, network_name
from ...blurs import OwnShake, describe
from ...notation import parse
from .._text import nats, percent, points, share, sides_text, signed_nats, with_interval
from .charts import curves_figure
from .page import Figure, Section, Table, write_page
from .pictures import kernels_figure


def report_page(
    path: str | Path,
    report: Mapping[str, Any],
    *,
    before: Mapping[str, Any] | None = None,
    comparison: Mapping[str, Any] | None = None,
    title: str | None = None,
    sections: Sequence[Section] = (),
) -> Path:
    """The page of an evaluation: the main finding, tables, plots, kernels, every setting.

    Args:
        path: the file; its folder is made.
        report: `BlurReport.to_dict()`, of the fine-tuned network where there are two.
        before: likewise, of the original network.
        comparison: `Comparison.to_dict()` of the two, for changes with intervals and recovered shares.
        title: of the page.
        sections: more of them, shown after the main result.

    Returns:
        The file.

    Raises:
        ValueError: if a report holds no record, or `path` is a folder.
        ImportError: if the extra `report` is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> record = {"blur": "D8", "sides": [256], "top1": 0.5, "top5": 1.0, "entropy": 0.47,
        ...           "cross_entropy": 0.72, "ece": 0.4, "count": 2, "skipped": 0}
        >>> with TemporaryDirectory() as folder:
        ...     page = report_page(f"{folder}/page.html", {"settings": {}, "records": [record]})
        ...     "D8 (defocus disk, radius 8 px)" in page.read_text(encoding="utf-8")
        True
    """
    for name, given in (("report", report), ("before", before)):
        if given is not None and not given.get("records"):
            raise ValueError(f"`{name}` must hold at least one record, got none")
    rows = _rows(report, before, comparison)
    settings = report.get("settings") or {}
    compared = any(row["before"] for row in rows)
    plots = curves_figure(rows, level=(comparison or {}).get("level", 0.95))
    if compared:
        first: list[Figure | Table] = [_main_table(rows, comparison), plots]
        details = [_records_table(report, "after fine-tuning")]
    else:
        first = [_records_table(report, "after fine-tuning" if before else ""), plots]
        details = []
    if before is not None:
        details.append(_records_table(before, "before fine-tuning"))
    if comparison is not None:
        details.append(_changes_table(comparison))
    parts = [Section(title="Accuracy under blur", text=_METRICS, parts=first), *sections]
    known = [blur for blur in dict.fromkeys(row["blur"] for row in rows) if blur != "sharp"]
    if known:
        text = _BLURS.format(**_side_of(settings))
        parts.append(Section(title="The blurs", text=text, parts=[kernels_figure(known)]))
    if details:
        parts.append(Section(title="All numbers", parts=details))
    table = _settings_table(settings, (before or {}).get("settings"))
    parts.append(Section(title="Settings", text=_SETTINGS, parts=[table]))
    alone = f"{network_name(settings, 'A network')} under blur"
    return write_page(
        path,
        title=title or ("Before and after fine-tuning on blur" if compared else alone),
        lead=_finding(rows),
        sections=parts,
        facts=_facts(report, comparison),
    )


_METRICS = (
    "Top-1 and top-5: share of images whose true class is the most probable one, or among the five most "
    "probable. Entropy of the predicted distribution: how unsure the network is. Cross-entropy with the true "
    "class: how much probability it denies the truth. Both are in nats."
)
_BLURS = "Blurs are defined in pixels of the image when its shorter side is {side}."
_SETTINGS = (
    "What the numbers depend on. The same network and images give the same numbers again under these "
    "settings, whatever the number of loader processes."
)


def _side_of(settings: Mapping[str, Any]) -> dict[str, str]:
    side = settings.get("canonical_side")
    return {"side": "the canonical one" if side is None else f"{side} px"}


def _rows(
    report: Mapping[str, Any], before: Mapping[str, Any] | None, comparison: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """One row a condition: values before, after and of the control, changes with intervals where compared."""
    original = {_condition(record): record for record in (before or {}).get("records", ())}
    changes = {_condition(row): row for row in (comparison or {}).get("rows", ())}
    rows = []
    for record in report["records"]:
        row = changes.get(_condition(record))
        if row is None:
            rows.append(
                {"before": original.get(_condition(record)), "control": None, "after": record, "changes": {}}
            )
        else:
            found = {name: row[name] for name in ("top1", "top5", "entropy", "cross_entropy")}
            values: dict[str, Any] = {
                role: {name: change[role] for name, change in found.items()}
                for role in ("before", "control", "after")
            }
            if found["top1"]["control"] is None:
                values["control"] = None
            intervals = {
                name: change["difference_interval"]
                for name, change in found.items()
                if None not in change["difference_interval"]
            }
            rows.append({**values, "changes": found, "intervals": intervals})
        rows[-1] |= {"blur": record["blur"], "sides": tuple(record["sides"])}
    return rows


def _condition(row: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    return row["blur"], tuple(row["sides"])


def _name(row: Mapping[str, Any], *, several: bool) -> list[str]:
    return [str(row["blur"]), *([sides_text(row["sides"])] if several else [])]


def _several(rows: Sequence[Mapping[str, Any]]) -> bool:
    return len({tuple(row["sides"]) for row in rows}) > 1


def _main_table(rows: Sequence[Mapping[str, Any]], comparison: Mapping[str, Any] | None) -> Table:
    several = _several(rows)
    roles = [role for role in ("before", "control", "after") if any(row[role] for row in rows)]
    alone = roles == ["after"]
    header = ["blur", *(["scale"] if several else [])]
    header += ["top-1 %"] if alone else [f"top-1 % {role}" for role in roles]
    if not alone:
        header.append("change, points")
    if comparison is not None:
        header.append("recovered %")
    for metric in ("entropy", "cross-entropy"):
        header += [metric] if alone else [f"{metric} {role}" for role in roles]
    lines = []
    for row in rows:
        line = _name(row, several=several)
        line += [percent(row[role]["top1"]) if row[role] else "-" for role in roles]
        change = row["changes"].get("top1")
        if not alone:
            if change:
                line.append(with_interval(change["difference"], change["difference_interval"], points))
            else:
                line.append(points(row["after"]["top1"] - row["before"]["top1"]) if row["before"] else "-")
        if comparison is not None:
            line.append(
                with_interval(change["recovered"], change["recovered_interval"], share) if change else "-"
            )
        for metric in ("entropy", "cross_entropy"):
            line += [nats(row[role][metric]) if row[role] else "-" for role in roles]
        lines.append(line)
    return Table(header=header, rows=lines, caption=_legend(rows, comparison))


def _legend(rows: Sequence[Mapping[str, Any]], comparison: Mapping[str, Any] | None) -> str:
    parts = ["Entropy and cross-entropy in nats."]
    if comparison is not None:
        control = bool(comparison.get("runs", {}).get("control"))
        against = "the control, trained for as long on sharp images" if control else "the network before"
        lost = "control" if control else "network before"
        parts += [
            f"Changes are against {against}, in percentage points.",
            f"Recovered: share of what blur had cost the {lost} that came back.",
            f"In brackets: paired bootstrap {100 * comparison['level']:g} % intervals over images.",
            "“-”: not defined, on sharp images or where the loss is under two standard errors.",
        ]
    elif any(row["before"] is None for row in rows) and any(row["before"] for row in rows):
        parts.append("“-”: not measured before.")
    return " ".join(parts)


def _records_table(report: Mapping[str, Any], when: str) -> Table:
    records = report["records"]
    several = _several(records)
    header = [
        "blur",
        *(["scale"] if several else []),
        "top-1 %",
        "top-5 %",
        "entropy",
        "cross-entropy",
        "ECE %",
    ]
    lines = [
        [
            *_name(r, several=several),
            *(percent(r[name]) for name in ("top1", "top5")),
            *(f"{r[name]:.3f}" for name in ("entropy", "cross_entropy")),
            percent(r["ece"]),
            str(r["count"]),
            str(r.get("skipped", 0)),
        ]
        for r in records
    ]
    top = (report.get("settings") or {}).get("top_k", 5)
    few = "" if top == 5 else f" Top-5 looks at all {top} classes."
    return Table(
        header=[*header, "images", "skipped"],
        rows=lines,
        caption=f"Every number{f' {when}' if when else ''}. ECE: expected calibration error.{few}",
    )


def _changes_table(comparison: Mapping[str, Any]) -> Table:
    rows = comparison["rows"]
    several = _several(rows)
    header = ["blur", *(["scale"] if several else [])]
    header += ["top-5, points", "entropy", "cross-entropy", "top-5 recovered %", "cross-entropy recovered %"]
    lines = []
    for row in rows:
        line = _name(row, several=several)
        for name, style in (("top5", points), ("entropy", signed_nats), ("cross_entropy", signed_nats)):
            line.append(with_interval(row[name]["difference"], row[name]["difference_interval"], style))
        for name in ("top5", "cross_entropy"):
            line.append(with_interval(row[name]["recovered"], row[name]["recovered_interval"], share))
        lines.append(line)
    runs = ", ".join(f"{count} {role}" for role, count in comparison["runs"].items() if count)
    return Table(
        header=header,
        rows=lines,
        caption=(
            f"Further changes. Networks averaged: {runs}; {comparison['resamples']} bootstrap resamples of "
            "the images. “-”: not defined, on sharp images or where the loss is under two standard errors."
        ),
    )


def _finding(rows: Sequence[Mapping[str, Any]]) -> str:
    """The main finding: where it hurt most, and what became of it."""
    sharp = {row["sides"]: row for row in rows if row["blur"] == "sharp"}
    blurred = [row for row in rows if row["blur"] != "sharp"]
    if not blurred:
        return f"Top-1 accuracy on sharp images is {percent(rows[0]['after']['top1'])} %."
    role = "before" if any(row["before"] for row in blurred) else "after"
    measured = [row for row in blurred if row[role]]
    worst = min(measured, key=lambda row: row[role]["top1"])
    name = str(worst["blur"])
    words = "camera shake" if isinstance(parse(name), OwnShake) else describe(parse(name))
    where = words if name == "shake" else f"{name} ({words})"
    where += f" at side {sides_text(worst['sides'])}" if _several(rows) else ""
    reference = sharp.get(worst["sides"])
    if role == "after":
        if reference is None:
            return f"Under {where}, top-1 accuracy is {percent(worst['after']['top1'])} %."
        lost = 100 * (reference["after"]["top1"] - worst["after"]["top1"])
        return (
            f"Blur costs up to {lost:.1f} points: top-1 accuracy is {percent(reference['after']['top1'])} % "
            f"on sharp images and {percent(worst['after']['top1'])} % under {where}."
        )
    text = (
        f"Under {where}, top-1 accuracy went from {percent(worst['before']['top1'])} % to "
        f"{percent(worst['after']['top1'])} % by fine-tuning"
    )
    if worst["control"]:
        text += (
            f", where training for as long on sharp images alone gave {percent(worst['control']['top1'])} %"
        )
    recovered = worst["changes"].get("top1", {}).get("recovered")
    if recovered is not None:
        text += f": {share(recovered)} % of what blur had cost came back"
    text += "."
    if reference is not None and reference["before"]:
        text += (
            f" On sharp images it was {percent(reference['before']['top1'])} % and is "
            f"{percent(reference['after']['top1'])} %."
        )
    return text


def _facts(report: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> dict[str, str]:
    settings = report.get("settings") or {}
    records = report["records"]
    facts = {
        "Network": network_name(settings),
        "Images": f"{records[0]['count']:,}",
        "From": settings.get("root"),
    }
    facts["Classes"] = settings.get("classes")
    facts["Sides"] = ", ".join(dict.fromkeys(f"{sides_text(record['sides'])} px" for record in records))
    if records[0].get("skipped"):
        facts["Skipped"] = f"{records[0]['skipped']} unreadable"
    if settings.get("complete") is False:
        facts["State"] = "stopped before the end"
    if comparison is not None and max(comparison["runs"].values()) > 1:
        facts["Networks"] = f"mean of {comparison['runs']['after']}"
    facts["Date"] = str(settings.get("date", ""))[:10]
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _settings_table(settings: Mapping[str, Any], before: Mapping[str, Any] | None) -> Table:
    own, other = (
        {name: _text(value) for name, value in flattened(each).items()} for each in (settings, before or {})
    )
    both = before is not None and any(own.get(name) != other.get(name) for name in {*own, *other})
    names = list(dict.fromkeys([*own, *other]))
    rows = [[f"`{name}`", own.get(name, "-"), *([other.get(name, "-")] if both else [])] for name in names]
    return Table(
        header=["setting", "after" if both else "value", *(["before"] if both else [])],
        rows=rows,
        caption="Settings of the evaluation" + (", of both networks." if both else "."),
    )


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return str(value)
