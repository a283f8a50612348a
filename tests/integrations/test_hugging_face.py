"""The Trainer of transformers in real runs, and data sets of `datasets`: keys, epochs, workers, resuming."""

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from blurlib import BlurMixSampler, blur
from blurlib.functional import apply
from blurlib.mixes import BlurredDataset, index_of
from processes import in_processes

datasets = pytest.importorskip("datasets")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from blurlib.integrations import TrainerEpochs  # noqa: E402  after the skips

pytestmark = pytest.mark.filterwarnings("default")  # the neighbours', of torch and of each other

MIX = BlurMixSampler("sharp + D2 + D4 + L7.5@20 + shake", seed=3)
PHOTOS = torch.randint(0, 256, (6, 3, 32, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def data(prepared=True):
    images = [v2.functional.to_pil_image(photo) for photo in PHOTOS]
    made = datasets.Dataset.from_dict({"image": images, "label": [0, 1] * 3, "number": [*range(6)]})
    return made.with_transform(prepare) if prepared else made


def prepare(batch):
    pixels = [v2.functional.pil_to_tensor(image) for image in batch["image"]]
    return {"pixel_values": pixels, "labels": batch["label"], "number": batch["number"]}


class Network(torch.nn.Module):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.others = [], []

    def forward(self, pixel_values, labels, number):
        (self.seen if self.training else self.others).append((number.clone(), pixel_values.clone()))
        return {"loss": self.weight**2, "logits": torch.zeros(len(labels), 2)}


class StopAt(transformers.TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def trained(folder, *callbacks, train=None, resume=None, told=True, **settings):
    """What a network saw in training, and in evaluation, in batches."""
    train = BlurredDataset(data(), MIX) if train is None else train
    usual = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 4,
        "save_steps": 1,
        "save_strategy": "steps",
    }
    quiet = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "remove_unused_columns": False}
    arguments = transformers.TrainingArguments(str(folder), **(usual | quiet | settings))
    network = Network()
    run = transformers.Trainer(
        network,
        arguments,
        train_dataset=train,
        eval_dataset=data(),
        callbacks=[*callbacks, *([TrainerEpochs(train)] if told else [])],
    )
    run.train(resume_from_checkpoint=None if resume is None else str(resume))
    run.evaluate()
    return network.seen, network.others


def assert_keyed(seen, first=0):
    """That batches of one process have the blurs of epochs of two batches, from one batch on."""
    for step, (numbers, images) in enumerate(seen, first):
        assert torch.equal(images, MIX(PHOTOS[numbers], indices=numbers, epoch=step // 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_the_trainer_trains_on_blurs_and_evaluates_sharp(workers, tmp_path):
    persistent = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True} if workers else {}
    seen, others = trained(tmp_path, save_strategy="no", **persistent)
    assert [len(numbers) for numbers, _ in seen] == [4, 2] * 3
    assert_keyed(seen)
    assert torch.equal(torch.cat([images for _, images in others]), PHOTOS)


@pytest.mark.parametrize("step", [2, 3], ids=["between epochs", "within one"])
def test_a_resumed_run_has_the_blurs_of_its_epoch(step, tmp_path):
    seen, _ = trained(tmp_path, StopAt(step))
    assert len(seen) == step
    rest, _ = trained(tmp_path, resume=tmp_path / f"checkpoint-{step}")
    assert len(rest) == 6 - step
    assert_keyed(seen + rest)


def test_an_epoch_that_the_trainer_does_not_tell_is_an_error(tmp_path):
    assert_keyed(trained(tmp_path, StopAt(3), told=False)[0])  # in one process it does
    with pytest.raises(ValueError, match=r"`epoch` must be known before the first item"):
        trained(tmp_path, resume=tmp_path / "checkpoint-3", told=False)


def train_one_of_two(folder):
    return trained(folder, save_strategy="no", num_train_epochs=2, per_device_train_batch_size=2)[0]


def test_two_processes_have_the_blurs_of_one(tmp_path):
    parts = in_processes(train_one_of_two, tmp_path, world=2)
    for seen in parts:
        for step, (numbers, images) in enumerate(seen):
            assert torch.equal(images, MIX(PHOTOS[numbers], indices=numbers, epoch=step // 2))
    numbers = [torch.cat([numbers for numbers, _ in seen[:2]]).tolist() for seen in parts]
    assert {*numbers[0], *numbers[1]} == {*range(6)} and numbers[0] != numbers[1]


def test_the_trainer_takes_no_other_data_set():
    with pytest.raises(TypeError, match=r"`dataset` must be a BlurredDataset, got Dataset; wrap it: "):
        TrainerEpochs(data())


def test_pixels_after_a_processor_have_the_blurs_of_those_before():
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 36})
    images = [image["image"] for image in data(prepared=False)]

    def processed(images):
        return processor(images, return_tensors="pt")["pixel_values"]

    after = BlurredDataset([{"pixel_values": each} for each in processed(images)], "D4", epoch=0)
    before = processed([apply(image, "D4") for image in images])
    assert (
        torch.stack([item["pixel_values"] for item in after]).sub(before).abs().max() < 1.01 / 255
    )  # 8 bits


@pytest.mark.parametrize("form", [None, "torch", "numpy"])
def test_each_format_has_the_same_blurs(form):
    kept = data(prepared=False).with_format(form)
    expected = MIX(PHOTOS, indices=range(6), epoch=1)
    blurred = BlurredDataset(kept, MIX, epoch=1)
    for position in range(6):
        if form == "numpy":
            with pytest.raises(TypeError, match=r"use blurlib\.blur\(image, kernel\) for an array"):
                blurred[position]
            kernel = MIX.draw(position, epoch=1).kernel()
            found = v2.functional.to_image(blur(kept[position]["image"], kernel))
        else:
            found = v2.functional.to_image(blurred[position]["image"])
        assert torch.equal(found, expected[position])


def test_map_stores_the_blurs_of_positions(tmp_path):
    def blurred(example, index):
        return {"image": apply(example["image"], MIX.draw(index))}

    stored = data(prepared=False).map(
        blurred, with_indices=True, cache_file_name=str(tmp_path / "stored.arrow")
    )
    found = torch.stack([v2.functional.pil_to_tensor(item["image"]) for item in stored])
    assert torch.equal(found, MIX(PHOTOS, indices=range(6)))


def test_the_cache_of_map_knows_mix_and_seed():
    def hashed(*arguments, **settings):
        mix = BlurMixSampler(*arguments, **settings)
        return datasets.fingerprint.Hasher.hash(
            lambda example, index: apply(example["image"], mix.draw(index))
        )

    assert hashed("sharp + D4") == hashed("sharp + D4")
    assert len({hashed("sharp + D4"), hashed("sharp + D4", seed=1), hashed("sharp + D5")}) == 3


def named(example, epoch):
    return {
        "image": apply(example["image"], MIX.draw(index_of(example["name"]), epoch)),
        "number": example["number"],
    }


def as_tensors(examples):
    return [(example["number"], v2.functional.pil_to_tensor(example["image"])) for example in examples]


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_are_keyed_by_name(workers):
    rows = data(prepared=False).add_column("name", [f"photo-{number}" for number in range(6)])
    stream = rows.to_iterable_dataset(num_shards=2).shuffle(seed=1, buffer_size=3)
    orders = []
    for epoch in range(2):
        part = stream.map(named, fn_kwargs={"epoch": epoch})
        part.set_epoch(epoch)
        loader = DataLoader(part, batch_size=2, num_workers=workers, collate_fn=as_tensors)
        found = [each for batch in loader for each in batch]
        for number, image in found:
            assert torch.equal(
                image, MIX(PHOTOS[number][None], indices=[index_of(f"photo-{number}")], epoch=epoch)[0]
            )
        orders.append([number for number, _ in found])
        assert sorted(orders[-1]) == [*range(6)]
    assert orders[0] != orders[1]


def test_numbers_of_a_stream_are_no_keys():
    """What the page warns of; by `with_indices` alone images would change their blurs with the workers."""
    stream = data(prepared=False).select_columns("number").to_iterable_dataset(num_shards=2)
    counted = stream.map(lambda _, index: {"index": index}, with_indices=True)
    in_workers = DataLoader(counted.with_format("torch"), batch_size=None, num_workers=2)
    assert any(item["index"] != item["number"] for item in in_workers)


def test_a_wrong_layout_is_told():
    arrays = [np.asarray(image["image"]) for image in data(prepared=False)]
    with pytest.raises(ValueError, match=r"looks like \(\.\.\., H, W, C\)"):
        BlurredDataset([{"image": torch.tensor(array)} for array in arrays], MIX, epoch=0)[0]
    grey = PIL.Image.new("P", (8, 8))
    with pytest.raises(ValueError, match="convert it first"):
        BlurredDataset([{"image": grey}], "D2", epoch=0)[0]
