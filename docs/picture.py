"""Draws the blurred photographs of the README and of the first page, with their kernels.

The photographs ship with scikit-image: the astronaut Eileen Collins (NASA, public domain), the cat Chelsea
(Stéfan van der Walt, CC0) and a cup of coffee (Rachel Michetti, CC0). `python docs/picture.py` writes
`docs/_static/blurs.webp` and the tiles of the gallery, `docs/_static/gallery/*.webp`.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from blurlib.blurs import Blur, describe
from blurlib.notation import parse, parse_list
from blurlib.protocol import blurred, to_canonical

STATIC = Path(__file__).parent / "_static"

BLURS = parse_list("sharp, D4, D8, G4, H8, L16@30, S17, S46")
FACE = (20, 60)  # top left corner of the astronaut's face, at the canonical side
SIDE, GAP, LABEL, ROOM, ZOOM = 220, 8, 26, 21, 3

# File: photograph, top left corner of the window at the canonical side, blur. The left half stays sharp.
GALLERY = {
    "disk": ("astronaut", (20, 20), "D8"),
    "box": ("coffee", (30, 120), "H24"),
    "line": ("chelsea", (60, 170), "L24@30"),
    "gaussian": ("chelsea", (60, 170), "G6"),
    "shake": ("astronaut", (20, 20), "S17"),
    "camera_shake": ("coffee", (30, 120), "S46"),
}
TILE = (240, 320)


def inset(kernel: torch.Tensor, room: int, zoom: int) -> Image.Image:
    """The kernel enlarged, white where it is strongest; what lies outside `room` pixels is not drawn."""
    levels = (kernel / kernel.max() * 255).round().to(torch.uint8).numpy()
    levels = levels[
        tuple(slice(max(0, (n - room) // 2), max(0, (n - room) // 2) + room) for n in levels.shape)
    ]
    canvas = np.zeros((room, room), np.uint8)
    top, left = (room - levels.shape[0]) // 2, (room - levels.shape[1]) // 2
    canvas[top : top + levels.shape[0], left : left + levels.shape[1]] = levels
    return Image.fromarray(canvas).resize((room * zoom, room * zoom), Image.Resampling.NEAREST)


def window(
    photo: np.ndarray, blur: Blur, corner: tuple[int, int], size: tuple[int, int], room: int = ROOM
) -> Image.Image:
    """A part of the blurred photograph, with the kernel in its lower right corner."""
    (top, left), (height, width) = corner, size
    tile = Image.fromarray(blurred(photo, blur)[top : top + height, left : left + width])
    kernel = inset(blur.kernel(), room, ZOOM)
    tile.paste(kernel, (tile.width - kernel.width, tile.height - kernel.height))
    return tile


def sheet(photo: np.ndarray) -> Image.Image:
    """One photograph sharp and under seven blurs, four tiles a row, on nothing."""
    rows = -(-len(BLURS) // 4)
    canvas = Image.new("RGBA", (4 * SIDE + 3 * GAP, rows * (SIDE + LABEL) + GAP))
    for position, blur in enumerate(BLURS):
        row, column = divmod(position, 4)
        left, top = column * (SIDE + GAP), row * (SIDE + LABEL + GAP)
        canvas.paste(window(photo, blur, FACE, (SIDE, SIDE)), (left, top))
        name = describe(blur).split(",")[0]
        name = f"{blur}  {name}" if name != str(blur) else name
        # A grey that is read on white and on black.
        ImageDraw.Draw(canvas).text((left, top + SIDE + 5), name, "#808080", ImageFont.load_default(14))
    return canvas


def save(picture: Image.Image, path: Path) -> None:
    """As webp, saying how large it became."""
    path.parent.mkdir(exist_ok=True)
    picture.save(path, quality=85, method=6)
    print(f"{path.relative_to(STATIC)}: {path.stat().st_size // 1024} kB")


def main() -> None:
    """All pictures."""
    photos = {
        name: to_canonical(Image.fromarray(getattr(data, name)()), 384)
        for name in ("astronaut", "chelsea", "coffee")
    }
    save(sheet(photos["astronaut"]), STATIC / "blurs.webp")
    for file, (name, corner, blur) in GALLERY.items():
        tile = window(photos[name], parse(blur), corner, TILE, room=25)
        (top, left), half = corner, TILE[1] // 2
        tile.paste("white", (half - 1, 0, half + 1, TILE[0]))
        tile.paste(Image.fromarray(photos[name][top : top + TILE[0], left : left + half - 1]))
        save(tile, STATIC / "gallery" / f"{file}.webp")


if __name__ == "__main__":
    main()
