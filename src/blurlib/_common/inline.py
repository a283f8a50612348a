"""Pictures inside a text: data URIs."""

from __future__ import annotations

import base64
import io

from PIL import Image

__all__ = ["data_uri"]


def data_uri(image: Image.Image, kind: str) -> str:
    """A picture as "data:image/...;base64,..."; `kind` is "JPEG" or "PNG"."""
    data = io.BytesIO()
    image.save(data, kind, **({"quality": 86, "optimize": True} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"
