"""Ray Data on a local cluster of one CPU: blurs by the paths of images, whatever the blocks and batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

import blurlib
from blurlib.mixes import index_of

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

pytestmark = pytest.mark.filterwarnings("default")  # its own, of its settings

MIX = blurlib.BlurMixSampler("sharp + D2 + D4 + L7.5@20 + shake", seed=3)
PHOTOS = torch.randint(0, 256, (6, 3, 20, 21), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
NAMES = [f"cat/{number}.png" for number in range(6)]


@pytest.fixture(scope="module")
def _cluster():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cat").mkdir()
    for name, photo in zip(NAMES, PHOTOS, strict=True):
        v2.functional.to_pil_image(photo).save(tmp_path / name)
    return tmp_path


@pytest.mark.usefixtures("_cluster")
def test_blurs_follow_from_names_and_epochs(folder):
    mix, key = MIX, index_of  # values travel to the cluster; this module is not there

    def blurred(batch, epoch):
        images = torch.tensor(batch["image"]).permute(0, 3, 1, 2)
        indices = [key(Path(path).relative_to(folder).as_posix()) for path in batch["path"]]
        return {**batch, "image": mix(images, indices=indices, epoch=epoch).permute(0, 2, 3, 1).numpy()}

    def blurred_row(row, epoch):
        index = key(Path(row["path"]).relative_to(folder).as_posix())
        return {**row, "image": blurlib.blur(row["image"], mix.draw(index, epoch).kernel())}

    photos = ray.data.read_images(str(folder), include_paths=True, mode="RGB", override_num_blocks=2)
    ways = [
        photos.map_batches(blurred, batch_size=4, fn_kwargs={"epoch": 1}),
        photos.random_shuffle(seed=0).map_batches(blurred, batch_size=1, fn_kwargs={"epoch": 1}),
        photos.map(blurred_row, fn_kwargs={"epoch": 1}),
    ]
    expected = MIX(PHOTOS, indices=map(index_of, NAMES), epoch=1).permute(0, 2, 3, 1).numpy()
    for way in ways:
        rows = sorted(way.take_all(), key=lambda row: row["path"])
        assert np.array_equal(np.stack([row["image"] for row in rows]), expected)


def test_a_batch_as_ray_has_it_is_told_its_layout():
    batch = PHOTOS.permute(0, 2, 3, 1)
    with pytest.raises(TypeError, match=r"torch\.from_numpy\(images\)\.permute\(0, 3, 1, 2\) for a batch"):
        MIX(batch.numpy(), indices=range(6))
    with pytest.raises(ValueError, match=r"looks like \(\.\.\., H, W, C\)"):
        MIX(batch, indices=range(6))
