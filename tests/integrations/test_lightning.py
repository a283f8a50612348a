"""The callback for Lightning in real runs: keys, epochs, resumed runs, other hooks, two processes."""

import contextlib
import importlib

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from blurlib import BlurMixSampler
from blurlib.mixes import index_of

lightning = pytest.importorskip("lightning.pytorch")

from blurlib.integrations import LightningBlur  # noqa: E402  after the skip

pytestmark = pytest.mark.filterwarnings("default")  # Lightning's, of what torch deprecates

MIX = BlurMixSampler("sharp + D2 + D4 + L7.5@20 + shake", seed=3)
PHOTOS = torch.randint(0, 256, (6, 3, 20, 21), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Photos(Dataset):
    def __init__(self, kind="numbers"):
        self.kind = kind

    def __len__(self):
        return len(PHOTOS)

    def __getitem__(self, index):
        image = PHOTOS[index]
        if self.kind == "mapping":
            return {"label": index % 2, "x": image / 255, "name": f"photo-{index}"}
        return (image, index % 2) if self.kind == "unkeyed" else (image, index % 2, index)


def loader(kind="numbers", **settings):
    return DataLoader(Photos(kind), **({"batch_size": 4, "shuffle": True} | settings))


def make_classes(package):
    """A module that keeps its batches, and data modules with and without a hook."""

    class Module(package.LightningModule):
        def __init__(self, fails_at=-1):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen, self.others, self.fails_at = [], [], fails_at

        def training_step(self, batch, batch_idx):
            self.seen.append((self.current_epoch, batch))
            if len(self.seen) == self.fails_at:
                raise FloatingPointError
            return self.weight**2

        def validation_step(self, batch, batch_idx):
            self.others.append(batch)

        test_step = predict_step = validation_step

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    class Data(package.LightningDataModule):
        def train_dataloader(self):
            return loader()

        def val_dataloader(self):
            return loader(shuffle=False)

    class HookedData(Data):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            images, *rest = batch
            return images.flip(-1), *rest

    return Module, Data, HookedData


Module, Data, HookedData = make_classes(lightning)


def trainer(*callbacks, package=lightning, **settings):
    usual = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return package.Trainer(callbacks=list(callbacks), **(usual | quiet | settings))


def assert_keyed(seen, photos=PHOTOS):
    assert seen
    for epoch, (images, _, indices) in seen:
        assert torch.equal(images, MIX(photos[indices], indices=indices, epoch=epoch))


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
@pytest.mark.parametrize("kind", ["loaders", "data", "hooked"])
def test_training_batches_are_blurred_by_their_keys(package, kind):
    package = importlib.import_module(package)
    module_class, data, hooked = make_classes(package)
    module = module_class()
    run = trainer(LightningBlur(MIX, indices=2), package=package)
    if kind == "loaders":
        run.fit(module, loader(), loader(shuffle=False))
    else:
        run.fit(module, datamodule={"data": data, "hooked": hooked}[kind]())
    photos = PHOTOS.flip(-1) if kind == "hooked" else PHOTOS
    assert [epoch for epoch, _ in module.seen] == [0, 0, 1, 1]
    assert_keyed(module.seen, photos)
    run.test(module, loader(shuffle=False))
    run.predict(module, loader(shuffle=False))
    plain = (photos, PHOTOS)
    assert len(module.others) == 10  # one in the check before training
    for images, _, indices in module.others:
        assert any(torch.equal(images, each[indices]) for each in plain)


@pytest.mark.parametrize("fails", [False, True])
def test_the_hook_is_left_as_it_was(fails):
    module, callback = Module(fails_at=2 if fails else -1), LightningBlur(MIX, indices=2)
    with pytest.raises(FloatingPointError) if fails else contextlib.nullcontext():
        trainer(callback).fit(module, loader())
    assert "on_after_batch_transfer" not in vars(module)
    module.seen, module.fails_at = [], -1
    trainer(max_epochs=1).fit(module, loader())
    assert all(torch.equal(images, PHOTOS[indices]) for _, (images, _, indices) in module.seen)
    module.seen.clear()
    trainer(callback, max_epochs=1).fit(module, loader())
    assert_keyed(module.seen)


def test_names_in_a_mapping_and_images_elsewhere():
    module = Module()
    trainer(LightningBlur(MIX, image="x", indices="name")).fit(module, loader("mapping"))
    assert len(module.seen) == 4
    for epoch, batch in module.seen:
        numbers = [int(name.removeprefix("photo-")) for name in batch["name"]]
        indices = [index_of(name) for name in batch["name"]]
        assert torch.equal(batch["x"], MIX(PHOTOS[numbers] / 255, indices=indices, epoch=epoch))
        assert batch["label"].tolist() == [number % 2 for number in numbers]


def test_without_indices_torchs_generator_draws():
    first, again, other = Module(), Module(), Module()
    for module, seed in ((first, 0), (again, 0), (other, 1)):
        torch.manual_seed(seed)
        trainer(LightningBlur("D2 + D4 + D6"), max_epochs=1).fit(module, loader("unkeyed", shuffle=False))
    batches = [torch.cat([batch[0] for _, batch in module.seen]) for module in (first, again, other)]
    assert torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])


def test_workers_and_batches_of_one_change_nothing():
    module = Module()
    trainer(LightningBlur(MIX, indices=2), max_epochs=1).fit(
        module, loader(batch_size=1, num_workers=1, persistent_workers=True)
    )
    assert len(module.seen) == 6
    assert_keyed(module.seen)


@pytest.mark.parametrize("step", [2, 3], ids=["between epochs", "within one"])
def test_a_resumed_run_has_the_blurs_of_its_epoch(step, tmp_path):
    saved = lightning.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=step, save_top_k=-1)
    trainer(LightningBlur(MIX, indices=2), saved, enable_checkpointing=True, max_steps=step).fit(
        Module(), loader()
    )
    module = Module()
    path = next(tmp_path.glob(f"*step={step}.ckpt"))
    trainer(LightningBlur(MIX, indices=2), max_epochs=3).fit(module, loader(), ckpt_path=path)
    assert {epoch for epoch, _ in module.seen} == {1, 2}
    assert_keyed(module.seen)


class Writing(Module):
    def on_train_end(self):
        torch.save(self.seen, f"seen-{self.global_rank}.pt")


def test_two_processes_have_the_blurs_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = trainer(LightningBlur(MIX, indices=2), strategy="ddp_fork", devices=2)
    run.fit(Writing(), loader(batch_size=2))
    parts = [torch.load(f"seen-{rank}.pt") for rank in range(2)]
    for seen in parts:
        assert_keyed(seen)
    indices = [{i for e, (_, _, each) in seen if e == 1 for i in each.tolist()} for seen in parts]
    assert indices[0] != indices[1] and indices[0] | indices[1] == {*range(6)}


BATCHES = {
    "no index": (
        (PHOTOS, 0),
        {"indices": 2},
        ValueError,
        "`indices` must say .* got 2, where it holds nothing",
    ),
    "no key": ({"image": PHOTOS}, {"indices": "name"}, ValueError, "`indices` must say .* got 'name'"),
    "a text": ((PHOTOS, "ab"), {"indices": 1}, TypeError, "a number or name for each image, got 1"),
    "too few": ((PHOTOS, [1]), {"indices": 1}, ValueError, "`indices` must name each of the 6 images, got 1"),
    "no numbers": ((PHOTOS, torch.zeros(6)), {"indices": 1}, TypeError, "`indices` must be a whole number"),
    "nameless": ((PHOTOS, ["a", ""] * 3), {"indices": 1}, ValueError, "`name` must not be empty"),
    "None": (
        (PHOTOS, [None] * 6),
        {"indices": 1},
        TypeError,
        "`indices` must be a whole number, got NoneType",
    ),
    "no batch": ((PHOTOS[0], 0), {}, ValueError, r"`images` must be a batch \(B, C, H, W\)"),
    "no image": ((torch.zeros(6), 0), {}, ValueError, r"`image` must say where .* shape \(6,\)"),
    "channels last": ((torch.zeros(2, 20, 21, 3), 0), {}, ValueError, "looks like .*H, W, C"),
    "an array": ((PHOTOS.numpy(), 0), {}, TypeError, "NumPy array"),
    "other keys": ({"img": PHOTOS}, {}, ValueError, "`image` must say where .* keys img"),
}


@pytest.mark.parametrize("name", BATCHES)
def test_batches_that_cannot_be_blurred(name):
    batch, settings, error, text = BATCHES[name]
    with pytest.raises(error, match=text):
        LightningBlur(MIX, **settings).blur(batch, 0)
