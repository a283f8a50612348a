"""What share of a folder is blurred beyond a tolerance."""

import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from blurlib import KindTolerance, Tolerance
from blurlib.functional import apply


def stands(kinds, **settings):
    """A tolerance of these sizes; None is more than 16 px."""
    sizes, values, bands = (0.0, 16.0), (0.9, 0.9), ((0.9, 0.9), (0.9, 0.9))
    made = [
        KindTolerance(kind=kind, size=size, interval=(size, size), sizes=sizes, values=values, bands=bands)
        for kind, size in kinds.items()
    ]
    return Tolerance(kinds=tuple(made), target=0.95, sharp=0.9, count=50, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    photograph = Image.fromarray(load_sample_image("china.jpg")).resize((480, 320))
    (root / "deeper").mkdir()
    photograph.save(root / "sharp.bmp")
    apply(photograph, "D3a").save(root / "deeper" / "D3.bmp")
    apply(photograph, "D8a").save(root / "D8.bmp")
    apply(photograph, "L14@20").save(root / "L14.bmp")
    Image.new("L", (99, 99)).save(root / "flat.bmp")
    (root / "text.jpg").write_text("no image")
    return root


def names(paths):
    return {path.rsplit("/", 1)[-1] for path in paths}


def test_share_of_a_folder(folder):
    found = stands({"defocus": 5.0, "motion": 20.0}).share(folder)
    assert names(found.beyond) == {"D8.bmp"}
    assert names(found.within) == {"sharp.bmp", "D3.bmp", "L14.bmp"}
    assert names(found.unknown) == {"flat.bmp", "text.jpg"}
    assert found.share == 0.25
    assert str(found) == "1 of 4 pictures beyond the tolerance, 2 unknown"


def test_kinds_that_were_not_measured_are_unknown(folder):
    found = stands({"motion": 5.0}).share(folder)
    assert names(found.beyond) == {"L14.bmp"} and names(found.within) == {"sharp.bmp"}
    assert names(found.unknown) == {"D3.bmp", "D8.bmp", "flat.bmp", "text.jpg"}


def test_at_least_is_the_largest_size_measured(folder):
    assert not stands({"defocus": None, "motion": None}).share(folder).beyond


def test_sizes_are_at_the_canonical_side(folder):
    """8 px of 320 are 4.8 px of 192, or 3.9 px where the mean of both sides, 392 px, becomes 192."""
    kinds, settings = {"defocus": 4.4, "motion": 20.0}, {"settings": {"canonical_side": 192}}
    assert names(stands(kinds, **settings).share(folder).beyond) == {"D8.bmp"}
    assert not stands(kinds, task="segmentation", **settings).share(folder).beyond


def test_nothing_known(tmp_path):
    Image.new("L", (99, 99)).save(tmp_path / "flat.bmp")
    assert stands({"defocus": 5.0}).share(str(tmp_path)).share is None


def test_refusals(tmp_path):
    tolerance = stands({"defocus": 5.0})
    with pytest.raises(FileNotFoundError, match="`folder` must be a folder of pictures"):
        tolerance.share(tmp_path / "nothing")
    with pytest.raises(ValueError, match="`folder` must hold pictures, got none"):
        tolerance.share(tmp_path)
