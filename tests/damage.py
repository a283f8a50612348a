"""Files with changed bytes."""

from __future__ import annotations

import random


def changed(data: bytes, draw: random.Random, *, most: int = 1) -> bytes:
    """With a bit flipped, bytes cut out, or bytes put in; up to `most` times."""
    found = bytearray(data)
    for _ in range(draw.randrange(1, most + 1)):
        where, how = draw.randrange(len(found)), draw.randrange(4)
        if how < 2:
            found[where] ^= 1 << draw.randrange(8)
        elif how == 2:
            del found[where : where + draw.choice([1, 7, 10**6])]
        else:
            found[where:where] = draw.randbytes(draw.choice([1, 7, 300]))
        if not found:
            break
    return bytes(found)
