"""Blur as one step of a torchvision v2 pipeline, in the workers of a DataLoader, with masks beside images.

    python examples/02_dataloader.py [FOLDER]

Blur moves no object, so masks, boxes and labels come out as they went in; the geometric steps of the same
pipeline change both.
"""

import sys
import tempfile
from pathlib import Path

import skimage.data
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.utils import make_grid

import blurlib

PIPELINE = v2.Compose(
    [
        v2.RandomCrop(128),
        v2.RandomHorizontalFlip(),
        # Before the conversion to float: on uint8 blur is exact and several times faster.
        v2.RandomChoice(
            [
                v2.Identity(),
                blurlib.DiskBlur(radius=(2.0, 6.0)),
                blurlib.MotionBlur(length=(4.0, 16.0), angle=(0.0, 180.0)),
                blurlib.CameraShakeBlur(),
            ]
        ),
        v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
    ]
)


class Photographs(Dataset):
    """Three photographs over and over, each with a mask of its brighter half."""

    def __init__(self) -> None:
        images = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())
        self.images = [torch.from_numpy(image).permute(2, 0, 1) for image in images]

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        pixels = self.images[index % len(self.images)]
        mask = (pixels.float().mean(0) > 127).to(torch.uint8)
        return PIPELINE(tv_tensors.Image(pixels), tv_tensors.Mask(mask))


def main(folder: Path) -> None:
    # The transforms draw from torch's generator, which the loader seeds in each worker.
    torch.manual_seed(0)
    loader = DataLoader(Photographs(), batch_size=16, shuffle=True, num_workers=2)
    for number, (images, masks) in enumerate(loader):
        values = sorted(masks.unique().tolist())
        print(
            f"batch {number}: images {tuple(images.shape)} {images.dtype}, masks hold {values}: not blurred"
        )
    rows = make_grid(torch.cat([images[:8], masks[:8, None].expand(-1, 3, -1, -1).float()]), nrow=8)
    v2.functional.to_pil_image(rows).save(folder / "batch.png")

    # The same object, not a copy:
    image, mask = tv_tensors.Image(torch.rand(3, 64, 64)), tv_tensors.Mask(torch.zeros(64, 64))
    blurred, returned = blurlib.DiskBlur(radius=4)(image, mask)
    assert returned is mask and not torch.equal(blurred, image)
    print(f"The last batch with its masks is {folder / 'batch.png'}.")


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="blurlib-"))
    place.mkdir(parents=True, exist_ok=True)
    main(place)
