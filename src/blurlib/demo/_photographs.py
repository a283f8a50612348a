"""The photographs of the embedded example and labelled crops of them; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from PIL import Image
from torch.utils.data import Dataset

from .._common import rng
from .._common.checks import check_integer, one_of
from .._common.pictures import open_image

_CROPS = 51  # purpose that keeps these draws apart from those of other modules

# name: package, file, credit as its package states it
_SOURCES = {
    "astronaut": ("skimage", "astronaut.png", "NASA, public domain"),
    "bricks": ("skimage", "brick.png", "CC0 Textures"),
    "cat": ("skimage", "chelsea.png", "Stéfan van der Walt, CC0"),
    "coffee": ("skimage", "coffee.png", "Rachel Michetti, CC0"),
    "coins": ("skimage", "coins.png", "Brooklyn Museum, no known restrictions"),
    "flower": ("sklearn", "flower.jpg", "vultilion, CC BY 2.0"),
    "galaxies": ("skimage", "hubble_deep_field.jpg", "NASA, public domain"),
    "grass": ("skimage", "grass.png", "linolafett, CC0"),
    "gravel": ("skimage", "gravel.png", "CC0 Textures"),
    "motorcycle": ("skimage", "motorcycle_left.png", "Middlebury stereo benchmark 2014, Scharstein et al."),
    "page": ("skimage", "page.png", "from scikit-image's test images"),
    "photographer": ("skimage", "camera.png", "Lav Varshney, CC0"),
    "retina": ("skimage", "retina.jpg", "Mikael Häggström, CC0"),
    "rocket": ("skimage", "rocket.jpg", "SpaceX, public domain"),
    "temple": ("sklearn", "china.jpg", "danielbuechele, CC BY 2.0"),
    "tissue": ("skimage", "ihc.png", "Center for Microscopy and Molecular Imaging, no known restrictions"),
}
_FOLDERS = {"skimage": ("skimage", "data"), "sklearn": ("sklearn.datasets", "images")}


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """A photograph that ships inside a package: RGB, shorter side 400 px; it names the class of its crops."""

    name: str
    image: Image.Image = field(repr=False)
    credit: str


def photographs() -> list[Photograph]:
    """The sixteen photographs of the example, from the files of scikit-image and scikit-learn.

    Raises:
        ImportError: if one of the packages is missing, with the remedy.
    """
    found = []
    for name, (package, file, credit) in _SOURCES.items():
        module, folder = _FOLDERS[package]
        try:
            content = files(module).joinpath(folder, file)
        except ModuleNotFoundError as error:
            raise ImportError(
                f'the example needs the photographs inside {module}; pip install "blurlib[demo]"'
            ) from error
        with content.open("rb") as stream:
            image = open_image(stream).convert("RGB")
        scale = 400 / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        found.append(Photograph(name=name, image=image.resize(size, Image.Resampling.BICUBIC), credit=credit))
    return found


class Crops(Dataset[tuple[Image.Image, int]]):
    """Labelled crops of photographs, (PIL image, label), each cut out when it is asked for.

    Crop i is of photograph i modulo their number; boxes are left, top, right and bottom.
    """

    def __init__(self, sources: Sequence[Photograph], boxes: Sequence[tuple[int, int, int, int]]) -> None:
        self.sources, self.boxes = list(sources), list(boxes)
        self.classes = [source.name for source in sources]
        self.targets = [index % len(sources) for index in range(len(boxes))]

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        label = self.targets[index]
        return self.sources[label].image.crop(self.boxes[index]), label


def crops(split: str, count: int, *, sides: tuple[int, int] = (96, 160), seed: int = 0) -> Crops:
    """Random crops of the photographs, as many of each.

    The training crops lie in the upper left and the lower right quarter of each photograph, the validation
    crops in the other two, so that no pixel is in both.

    Args:
        split: "train" or "val".
        count: how many; whole rounds of the photographs are even.
        sides: smallest and largest side in px.
        seed: another seed cuts other crops.

    Returns:
        A dataset of (PIL image, label) with `classes` and `targets`.

    Raises:
        ValueError: if `split` is unknown, or `count` is not above 0.

    Example:
        >>> len(crops("train", 160))
        160
    """
    one_of("split", split, ("train", "val"))
    check_integer("count", count, low=1, high=1_000_000)
    sources = photographs()
    boxes = []
    for index in range(count):
        width, height = sources[index % len(sources)].image.size
        size, along, down, quarter = rng.uniform(4, seed=seed, key=(split == "val", index, _CROPS))
        side = int(sides[0] + size * (sides[1] - sides[0] + 1))
        right = quarter < 0.5
        lower = right if split == "train" else not right
        left = int(along * (width // 2 - side + 1)) + right * (width - width // 2)
        top = int(down * (height // 2 - side + 1)) + lower * (height - height // 2)
        boxes.append((left, top, left + side, top + side))
    return Crops(sources, boxes)
