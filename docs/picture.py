"""Draws the picture of the README: one photograph sharp and under seven blurs, with their kernels.

The photograph ships inside scikit-image (the astronaut Eileen Collins, NASA, public domain).
`python docs/picture.py` writes `docs/_static/blurs.webp`.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from blurlib.blurs import Blur, describe
from blurlib.notation import parse_list
from blurlib.protocol import blurred, to_canonical

OUT = Path(__file__).parent / "_static" / "blurs.webp"
BLURS = parse_list("sharp, D4, D8, G4, H8, L16@30, S17, S46")
SIDE, GAP, LABEL = 220, 8, 26
WINDOW = (20, 60)  # top left corner of the face, at the canonical side
ZOOM = 3


def inset(kernel: torch.Tensor) -> Image.Image:
    """The kernel in its own size, enlarged, white where it is strongest."""
    levels = (kernel / kernel.max() * 255).round().to(torch.uint8).numpy()
    room = 21  # the largest but the Gaussian's, whose faint outer part is cut off here, not in the blur
    levels = levels[
        tuple(slice(max(0, (n - room) // 2), max(0, (n - room) // 2) + room) for n in levels.shape)
    ]
    canvas = np.zeros((room, room), np.uint8)
    top, left = (room - levels.shape[0]) // 2, (room - levels.shape[1]) // 2
    canvas[top : top + levels.shape[0], left : left + levels.shape[1]] = levels
    return Image.fromarray(canvas).resize((room * ZOOM, room * ZOOM), Image.Resampling.NEAREST)


def tile(photo: np.ndarray, blur: Blur) -> Image.Image:
    """The blurred window with its kernel and its name."""
    top, left = WINDOW
    window = blurred(photo, blur)[top : top + SIDE, left : left + SIDE]
    canvas = Image.new("RGB", (SIDE, SIDE + LABEL), "white")
    canvas.paste(Image.fromarray(window), (0, 0))
    corner = inset(blur.kernel())
    canvas.paste(corner, (SIDE - corner.width, SIDE - corner.height))
    name = describe(blur).split(",")[0]
    name = f"{blur}  {name}" if name != str(blur) else name
    ImageDraw.Draw(canvas).text((0, SIDE + 5), name, "black", ImageFont.load_default(13))
    return canvas


def main() -> None:
    """Four tiles a row."""
    photo = to_canonical(Image.fromarray(data.astronaut()), 384)
    rows = -(-len(BLURS) // 4)
    sheet = Image.new("RGB", (4 * SIDE + 3 * GAP, rows * (SIDE + LABEL) + GAP), "white")
    for position, blur in enumerate(BLURS):
        row, column = divmod(position, 4)
        sheet.paste(tile(photo, blur), (column * (SIDE + GAP), row * (SIDE + LABEL + GAP)))
    sheet.save(OUT, quality=88, method=6)
    print(f"{OUT.relative_to(Path.cwd())}: {OUT.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
