"""Give each image of a batch a blur of its own, drawn from a mix: by chance, or by the image's number.

    python examples/03_one_blur_an_image.py [FOLDER]

A transform called on a batch draws once for all of it. `BlurMixSampler` draws once an image. With `indices`
the draw is a function of (seed, epoch, index), so that workers, batch size and order do not matter.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

import skimage.data
import torch
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2
from torchvision.utils import make_grid

import blurlib

MIX = blurlib.BlurMixSampler("0.2 sharp + 0.4 D4 + 0.4 shake", seed=0)


class Crops(Dataset):
    """Crops of a photograph; each sample carries its index, the key of its blur."""

    def __init__(self) -> None:
        self.photograph = torch.from_numpy(skimage.data.coffee()).permute(2, 0, 1)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        top, left = 90 * (index // 6), 90 * (index % 6)
        return self.photograph[:, top : top + 128, left : left + 128].contiguous(), index


def collate(samples: list[tuple[torch.Tensor, int]], epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Blur in the workers. Where they persist, a sampler can carry the epoch: blurlib.data.KeyedSampler."""
    images, indices = default_collate(samples)
    return MIX(images, indices, indices=indices, epoch=epoch)


def seen(epoch: int, **settings: object) -> torch.Tensor:
    """All images as one run over a loader shows them, in the order of their indices."""
    loader = DataLoader(Crops(), collate_fn=partial(collate, epoch=epoch), **settings)
    images, indices = (torch.cat(part) for part in zip(*loader, strict=True))
    return images[indices.argsort()]


def main(folder: Path) -> None:
    print("epoch 0:", *(MIX.draw(index) for index in range(8)))
    print("epoch 1:", *(MIX.draw(index, epoch=1) for index in range(8)))

    first = seen(0, batch_size=4)
    again = seen(0, batch_size=7, shuffle=True, num_workers=2)
    assert torch.equal(first, again)
    print("Other workers, batches and order: the same images, bit by bit.")
    assert not torch.equal(first, seen(1, batch_size=4))
    print("Another epoch: other blurs.")

    # After the loader and without keys, as torchvision's CutMix is used: torch's generator draws.
    torch.manual_seed(0)
    for images, labels in DataLoader(Crops(), batch_size=8):
        images, labels = MIX(images, labels)
    assert images.shape == (8, 3, 128, 128) and labels.tolist() == list(range(16, 24))

    v2.functional.to_pil_image(make_grid(first, nrow=6)).save(folder / "mix.png")
    print(f"The images are {folder / 'mix.png'}.")


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="blurlib-"))
    place.mkdir(parents=True, exist_ok=True)
    main(place)
