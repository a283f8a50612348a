"""The page of a tolerance: the sizes, the curves that they were read from, every setting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._common.provenance import network_name
from ..reporting import (
    Crossing,
    Family,
    Point,
    Section,
    Table,
    percent,
    settings_table,
    sizes_figure,
    write_page,
)
from ._camera import Camera
from ._ladders import LADDERS

if TYPE_CHECKING:
    from ._result import Tolerance

_TEXT = """\
For each kind of blur the largest size at which the network keeps its share of the sharp {metric}.

A curve that never rises is laid through the metric at the measured sizes (isotonic regression, then monotone
cubic interpolation); dotted: where it crosses the target. In brackets 90 % intervals, bootstraps over images:
other images of this kind, not other networks. "At least": the target is still met at the largest size."""


def tolerance_page(
    path: str | Path, found: Tolerance, *, before: Tolerance | None = None, camera: Camera | None = None
) -> Path:
    """Write the page; see :meth:`Tolerance.to_html`."""
    header, rows = found.cells(before, camera=camera)
    networks = {"after": found} if before is None else {"before": before, "after": found}
    families = [_family(each.kind, networks) for each in found.kinds]
    table = Table(header=header, rows=rows, caption=found.caption)
    figure = sizes_figure(families, [found.metric])
    settings = settings_table(found.settings, None if before is None else before.settings)
    name = network_name(found.settings, "A network")
    return write_page(
        path,
        title=f"How much blur {'a fine-tuned network' if before else name} stands",
        lead=_lead(found, before),
        sections=[
            Section(title="Sizes", text=_TEXT.format(metric=found.metric.title), parts=[table, figure]),
            Section(title="Settings", parts=[settings]),
        ],
        facts={"Images": f"{found.count:,}", "Target": f"{100 * found.target:.3g} % of sharp"},
    )


def _family(kind: str, networks: dict[str, Tolerance]) -> Family:
    points, crossings = {}, {}
    for role, network in networks.items():
        each = network[kind]
        points[role] = [
            Point(size=size, value=value, interval=band)
            for size, value, band in zip(each.sizes, each.values, each.bands, strict=True)
        ]
        low, high = each.interval
        ends = None if low is None or each.size is None else (low, each.largest if high is None else high)
        crossings[role] = Crossing(value=network.target * network.sharp, size=each.size, interval=ends)
    title = f"{kind}, {LADDERS[kind].measure} in px"
    metric = next(iter(networks.values())).metric.name
    return Family(title=title, curves={metric: points}, crossings=crossings)


def _lead(found: Tolerance, before: Tolerance | None) -> str:
    each = "; ".join(
        f"{one.kind} {'' if before is None else f'{before[one.kind].short} px before, now '}{one.short} px"
        for one in found.kinds
    )
    return (
        f"Of its {found.metric.title} on sharp images, {percent(found.sharp)} %, the network keeps "
        f"{100 * found.target:.3g} % up to these sizes: {each}."
    )
