"""A figure of matplotlib outside of pyplot, which notebooks show all the same; needs matplotlib."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class Canvas(Figure):
    """Where pyplot was imported, a notebook knows how to show figures; elsewhere it asks them."""

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=110)
        return data.getvalue()
