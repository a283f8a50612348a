"""Blur one photograph in several ways, and write a sheet that shows each with its kernel.

    python examples/01_blur_a_photograph.py [FOLDER]

Shows short names, kernels, transforms, and what scale means: a blur of 8 px is much in a small image and
nothing in a large one.
"""

import sys
import tempfile
from pathlib import Path

import skimage.data
import torch
from PIL import Image
from torchvision.transforms import v2

import blurlib
from blurlib.blurs import describe
from blurlib.functional import apply
from blurlib.notation import parse

NAMES = ("sharp", "D8", "D8a", "H8", "L16@30", "G4", "S17", "S42")


def kernel_picture(kernel: torch.Tensor, side: int = 96) -> Image.Image:
    """The kernel as light on black, its largest weight white, enlarged without smoothing."""
    room = torch.zeros(33, 33)
    height, width = kernel.shape
    top, left = (33 - height) // 2, (33 - width) // 2
    room[top : top + height, left : left + width] = kernel / kernel.max()
    return v2.functional.to_pil_image(room).resize((side, side), Image.Resampling.NEAREST)


def main(folder: Path) -> None:
    photograph = Image.fromarray(skimage.data.astronaut())

    # By name, on a PIL image. The same names stand in tables, mixes and on the command line.
    sheet = Image.new("RGB", (4 * photograph.width, 2 * photograph.height))
    for number, name in enumerate(NAMES):
        blur = parse(name)
        tile = apply(photograph, blur)
        tile.paste(kernel_picture(blur.kernel()), (0, 0))
        sheet.paste(tile, (number % 4 * tile.width, number // 4 * tile.height))
        print(f"{name:8}{describe(blur)}")
    sheet.save(folder / "blurs.png")

    # By kernel, on a tensor: uint8 in, uint8 out. Any kernel of odd size that sums to 1 will do.
    pixels = v2.functional.pil_to_tensor(photograph)
    soft = blurlib.blur(pixels, blurlib.kernels.disk(8))
    assert soft.dtype == torch.uint8
    assert torch.equal(soft, v2.functional.pil_to_tensor(apply(photograph, "D8")))

    # As a transform, with a radius drawn anew at each call.
    transform = blurlib.DiskBlur(radius=(1.0, 8.0))
    torch.manual_seed(0)
    v2.functional.to_pil_image(transform(pixels)).save(folder / "drawn.png")

    # At scale: D8 is defined for a shorter side of 384 px, this photograph has 512.
    scale = min(photograph.size) / 384
    apply(photograph, "D8", scale=scale).save(folder / "scaled.png")
    print(f"\nD8 at 384 px is a radius of {8 * scale:.1f} px here. Pictures are in {folder}.")


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="blurlib-"))
    place.mkdir(parents=True, exist_ok=True)
    main(place)
