"""WebDataset: blurs by the names of samples, whatever the shards, their order, workers and batches."""

import gc

import pytest
import torch
from torchvision.transforms import v2

import blurlib
from blurlib.data import TarShards
from blurlib.functional import apply
from blurlib.mixes import index_of

wds = pytest.importorskip("webdataset")

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves files open

MIX = blurlib.BlurMixSampler("sharp + D2 + D4 + L7.5@20 + shake", seed=3)
PHOTOS = torch.randint(0, 256, (6, 3, 20, 21), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
NAMES = [f"cat/photo-{number}" for number in range(6)]


@pytest.fixture(autouse=True)
def _closed():
    yield
    gc.collect()  # here, where that is ignored


def write(folder, order, maxcount):
    with wds.ShardWriter(f"{folder}/photos-%03d.tar", maxcount=maxcount, verbose=0) as shards:
        for number in order:
            image = v2.functional.to_pil_image(PHOTOS[number])
            shards.write({"__key__": NAMES[number], "png": image, "cls": number})
    return sorted(map(str, folder.glob("*.tar")))


def expected(epoch):
    return MIX(PHOTOS, indices=map(index_of, NAMES), epoch=epoch)


@pytest.mark.parametrize(("order", "maxcount"), [(range(6), 2), ((5, 3, 1, 0, 2, 4), 4)])
@pytest.mark.parametrize("workers", [0, 2])
def test_blurs_follow_from_names_and_epochs(order, maxcount, workers, tmp_path):
    epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def blurred(sample):
        return {**sample, "png": apply(sample["png"], MIX.draw(index_of(sample["__key__"]), int(epoch)))}

    stream = (
        wds.WebDataset(write(tmp_path, order, maxcount), shardshuffle=2).decode("pil").shuffle(3).map(blurred)
    )
    stream = stream.map_dict(png=v2.functional.pil_to_tensor).to_tuple("png", "cls").batched(2)
    loader = wds.WebLoader(stream, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    for number in (0, 1, 5):
        epoch.fill_(number)
        images, labels = (
            torch.cat([torch.as_tensor(part) for part in parts]) for parts in zip(*loader, strict=True)
        )
        assert sorted(labels.tolist()) == [*range(6)]
        assert torch.equal(images, expected(number)[labels])


def test_batches_by_their_names(tmp_path):
    stream = wds.WebDataset(write(tmp_path, range(6), 4), shardshuffle=False).decode("pil")
    stream = stream.map_dict(png=v2.PILToTensor()).to_tuple("png", "__key__").batched(4)
    found = [MIX(images, indices=map(index_of, names), epoch=2) for images, names in stream]
    assert [len(images) for images in found] == [4, 2]
    assert torch.equal(torch.cat(found), expected(2))


def test_shards_that_blurlib_reads_have_the_same_names(tmp_path):
    shards = TarShards(write(tmp_path, (5, 3, 1, 0, 2, 4), 4))
    assert [shards.name(position) for position in range(6)] == NAMES


def test_a_sample_without_a_name_is_an_error():
    for sample, error in (({"__key__": ""}, ValueError), ({"__key__": None}, TypeError)):
        with pytest.raises(error, match="`name` must"):
            index_of(sample["__key__"])
