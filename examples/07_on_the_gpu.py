"""From files to a training step with blur, crop and normalisation on the GPU, or on the CPU where none is.

    python examples/07_on_the_gpu.py [FOLDER]

The workers decode, resize and cut the centre square, so that all images have one shape. An image's index is
the key of its blur and its crop: the network sees what it would see if the workers had blurred and cropped.
"""

import sys
import tempfile
from pathlib import Path

import skimage.data
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.utils import make_grid

import blurlib
from blurlib import protocol

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Usual are 256 and 224. Blurs are in pixels of SIDE here: D4 is what D16 is at 384.
SIDE, CROP = 96, 80
DRAWS = {"seed": 0, "hflip": 0.5}
MIX = blurlib.BlurMixSampler("sharp + D2 + D4 + shake", seed=DRAWS["seed"])


class CentreSquares(Dataset):
    """What a worker does: decode, resize, cut the square."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        with Image.open(self.paths[index]) as image:
            canonical = protocol.to_canonical(image, SIDE)
        square = v2.functional.center_crop(torch.from_numpy(canonical).permute(2, 0, 1), [SIDE, SIDE])
        return square, index % 2, index


def on_device(squares: torch.Tensor, indices: torch.Tensor, epoch: int) -> torch.Tensor:
    """Blur and crop a batch. `indices` stay on the CPU, so that nothing waits for the device."""
    soft = MIX(squares.to(DEVICE, non_blocking=True), indices=indices, epoch=epoch)
    return protocol.training_crops(soft, indices, crop=CROP, epoch=epoch, **DRAWS)


def in_the_workers(squares: torch.Tensor, indices: torch.Tensor, epoch: int) -> torch.Tensor:
    """The same image by image on the CPU, as `blurlib.finetune` does it."""
    sizes = protocol.Protocol(canonical_side=SIDE, network_side=SIDE, jitter=(SIDE,), crop=CROP)
    views = []
    for square, index in zip(squares, indices.tolist(), strict=True):
        image, key = v2.functional.to_pil_image(square), {"epoch": epoch, "index": index}
        views += protocol.training_view(image, 0, MIX.draw(**key), protocol=sizes, **key, **DRAWS)[:1]
    return torch.stack(views)


def main(folder: Path) -> None:
    photographs = CentreSquares(sorted(folder.glob("photograph-*.png")))
    # Pinned memory lets the transfer overlap with the work on the device.
    loader = DataLoader(photographs, batch_size=8, shuffle=True, pin_memory=DEVICE.type == "cuda")
    network = nn.Sequential(nn.Conv2d(3, 8, 7, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(8, 2)).to(DEVICE)
    print(f"{len(photographs)} photographs, blurred and cropped on {DEVICE}: {blurlib.backends()}")

    furthest, shown = 0, []
    for epoch in range(2):
        for squares, labels, indices in loader:
            views = on_device(squares, indices, epoch)
            outputs = network(protocol.normalised(views, protocol.IMAGENET_MEAN, protocol.IMAGENET_STD))
            nn.functional.cross_entropy(outputs, labels.to(DEVICE, non_blocking=True)).backward()

            shown.append(views.cpu())  # which waits for the device, and so is no part of a training
            difference = shown[-1].int() - in_the_workers(squares, indices, epoch).int()
            furthest = max(furthest, int(difference.abs().max()))
    print(f"largest difference from blur and crop in the workers: {furthest} levels of 255")
    assert furthest <= (DEVICE.type == "cuda")

    v2.functional.to_pil_image(make_grid(torch.cat(shown), nrow=8)).save(folder / "views.png")
    print(f"What the network saw is {folder / 'views.png'}.")


def write_photographs(folder: Path) -> None:
    """Crops of two photographs in turn, each a class."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(16):
        photograph = Image.fromarray(getattr(skimage.data, ("coffee", "chelsea")[number % 2])())
        place = folder / f"photograph-{number:02}.png"
        photograph.crop((10 * number, 0, 10 * number + 200, 150)).save(place)


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="blurlib-"))
    write_photographs(place)
    main(place)
