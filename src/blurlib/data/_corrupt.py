"""Blurred copies of a folder of images: a fixed benchmark set, as ImageNet-C is one."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, get_args

from .._common.checks import one_of
from .._common.devices import batches, make_loader, pick_workers
from .._common.files import remove_stale
from .._common.folders import locked
from .._common.interrupts import stop_requests
from .._common.progress import progress_bar
from ..blurs import Blur
from ..notation import parse_list
from ..protocol import Protocol, Resample
from ._copying import Layout, Size, Work
from ._listing import OnError, Skipped
from ._manifest import Copies, holds_files, is_copies
from ._sources import Encoding, find_sources
from ._splits import Split

__all__ = ["corrupt"]


def corrupt(
    root: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    blurs: str | Blur | Iterable[str | Blur],
    layout: Layout = "imagenet-c",
    encoding: Encoding | None = None,
    quality: int | None = None,
    size: Size | None = None,
    split: Split = "val",
    canonical_side: int = 384,
    resample: Resample = "bilinear",
    on_error: OnError = "raise",
    workers: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Path]:
    """Write blurred copies of a folder's images: a fixed benchmark set.

    Each blur has a folder of its own by kind and size, as in ImageNet-C: `disk/4/<class>/<file>` for D4. What
    :func:`blurlib.evaluate` measures on a folder of PNG copies equals what it measures on the sources under
    that blur: an image is copied at the canonical size, so that it is not resized twice. A stopped run goes
    on where it was; a finished one is checked, and what is missing or changed made again.

    In each folder manifest.json has the SHA-256 of every source and copy, the kernel, settings and versions.
    `evaluate` states by it what it measures, and refuses copies that have changed.

    Args:
        root: a folder with images in `val/<class>/*` or `<class>/*`, see :func:`open_images`; or in Pascal
            VOC's layout, of which the images are copied that `ImageSets/Segmentation` or `ImageSets/Main`
            lists; or in COCO's, those that `annotations/*val*.json` name. Of the last two annotations and
            masks are linked (copied where links fail), and the folders of the copies are built as `root`
            is.
        destination: a folder outside of `root`, made if need be.
        blurs: short names or blurs. `shake` gives each image its own kernel, the one that `evaluate` gives
            it.
        layout: "imagenet-c"; or "beside", `<class>/<name>_<blur>` in one folder, the copies of an image
            side by side, sharp among them if `blurs` names it. Folders of classes only, and not for
            `evaluate`.
        encoding: "png", or "jpeg" of a stated quality. None takes PNG, and for annotated images what their
            names say: JPEG for Pascal VOC, for COCO that of each file.
        quality: of JPEG, from 1 to 100; None takes 95. Colours have half the resolution, as Pillow's
            default has it.
        size: "canonical": upright, resized to the side at which blurs are defined. "original": as stored,
            with the EXIF orientation, under a kernel scaled by image side / `canonical_side`; then numbers
            are close to those of the protocol, not equal. None takes "canonical", and "original" for
            annotated images, since annotations count pixels.
        split: "val" or "train".
        canonical_side: side in px at which blurs are defined: the shorter one; for Pascal VOC the geometric
            mean.
        resample: filter of the resizing, see :func:`blurlib.evaluate`.
        on_error: "raise" at a broken image, or "skip" it, warn, and list it in the manifest.
        workers: loader processes; None chooses. No copy depends on it.
        seed: of `shake`, as in `evaluate`.
        progress: show a progress bar.

    Returns:
        The folder of each blur, by its short name.

    Raises:
        FileNotFoundError: if `root`, its split or an image is missing, or it has none of these layouts.
        ValueError: if a value is out of its range, an image is broken (under "raise"), `root` and
            `destination` are inside each other, or `destination` cannot be written to or has files of
            others, or copies of other images, settings or versions.
        OSError: if a copy cannot be written, as on a full disk; those that are there stay.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "photos" / "cat").mkdir(parents=True)
        ...     Image.new("RGB", (64, 48)).save(f"{folder}/photos/cat/7.png")
        ...     found = corrupt(f"{folder}/photos", f"{folder}/bench", blurs="D4, shake", progress=False)
        ...     [(name, sorted(path.name for path in place.glob("*/*.png"))) for name, place in found.items()]
        [('D4', ['7.png']), ('shake', ['7.png'])]
    """
    parsed = parse_list(blurs)
    one_of("layout", layout, get_args(Layout))
    if encoding is not None:
        one_of("encoding", encoding, get_args(Encoding))
    if size is not None:
        one_of("size", size, get_args(Size))
    one_of("split", split, get_args(Split))
    one_of("on_error", on_error, get_args(OnError))
    source, target = Path(root), Path(destination)
    _check_apart(source, target)
    if is_copies(source):
        raise ValueError(
            f"`root` must hold images that are not copies, got {str(source)!r}, which `blurlib corrupt` has "
            "written; pass the folder of their sources"
        )
    sources = find_sources(source, split=split, on_error=on_error)
    protocol = Protocol(measure=sources.measure, canonical_side=canonical_side, resample=resample)
    work = Work.of(sources, parsed, layout, encoding, quality, size, protocol, target, on_error, seed)
    sets = work.sets(split)
    _check_destination(target, sets)
    processes = pick_workers(workers, len(work))
    skipped = _copy(work, sets, target, workers=processes, progress=progress)
    if skipped:
        warnings.warn(
            f"{len(skipped)} of {len(work)} images could not be read and have no copies; the first: "
            f"{skipped[0].reason}",
            stacklevel=2,
        )
    return {str(blur): place for blur, place in zip(parsed, work.places, strict=True)}


def _copy(
    work: Work, sets: Sequence[Copies], destination: Path, *, workers: int, progress: bool
) -> list[Skipped]:
    """Make what is missing, and write the manifests; what could not be read is returned."""
    skipped: list[Skipped] = []
    done = 0
    with ExitStack() as stack:
        stop = stack.enter_context(stop_requests())
        stack.enter_context(locked(destination, name="destination"))
        for each in sets:
            stack.enter_context(closing(each))
            each.check()
        for each in sets:
            each.begin()
            _remove_stale(each.folder)
            for name in work.sources.annotations:
                _link(work.sources.root / name, each.folder / name)
        work.known = [dict(each.entries) for each in sets]
        before = min(map(len, work.known)) // work.several
        if before and progress:
            text = f"corrupt: goes on, with {before} of {len(work)} images copied before"
            print(text, file=sys.stderr)  # noqa: T201  a line of the log
        loader = make_loader(work, workers=workers, batch_size=None, collate_fn=_as_it_is)
        opened = stack.enter_context(closing(batches(loader)))
        try:
            with progress_bar(opened, title="corrupt", unit="image", show=progress, total=len(work)) as bar:
                for position, item in enumerate(stop.interruptible(bar)):
                    if isinstance(item, Exception):
                        raise item
                    if isinstance(item, Skipped):
                        skipped.append(item)
                        continue
                    done += 1
                    for number, entry in item:
                        sets[number // work.several].keep(work.targets[number][position], entry)
        except BaseException:
            if stop:
                kept = f"with {done} of {len(work)} images copied and kept in {destination}"
                raise stop.told(f"{kept}; run the same again to go on") from None
            raise
        if not done:
            raise ValueError(
                f"`root` must hold an image that can be read, all {len(skipped)} were skipped; the first: "
                f"{skipped[0].reason}"
            )
        for number, each in enumerate(sets):
            names = work.targets[number * work.several : (number + 1) * work.several]
            each.finish(itertools.chain(*zip(*names, strict=True)), skipped)
    return skipped


def _as_it_is(item: Any) -> Any:
    return item


def _check_apart(root: Path, destination: Path) -> None:
    source, target = root.resolve(), destination.resolve()
    if source == target or source in target.parents or target in source.parents:
        where = "the same folder" if source == target else "inside each other"
        raise ValueError(
            f"`destination` must be apart from `root`, got {str(destination)!r} and {str(root)!r}, which are "
            f"{where}; name a folder beside it"
        )


def _check_destination(destination: Path, sets: Sequence[Copies]) -> None:
    """Refuse a folder of others: neither empty nor with copies of ours."""
    if not destination.is_dir() or not holds_files(destination):
        return
    if is_copies(destination):
        if sets[0].folder == destination:
            return
        what = "copies of the layout 'beside'"
    elif any(is_copies(each) for each in destination.glob("*/*") if each.is_dir()):
        if sets[0].folder != destination:
            return
        what = "copies by blur and size"
    else:
        what = "files that `blurlib corrupt` has not written"
    raise ValueError(
        "`destination` must be a new or empty folder, or one with copies of this layout, got "
        f"{str(destination)!r} with {what}; name another"
    )


def _remove_stale(folder: Path) -> None:
    """Of a process that was killed."""
    for place in {path.parent for path in folder.rglob(".*.aside*")}:
        remove_stale(place, now=math.inf)


def _link(source: Path, target: Path) -> None:
    """Link a folder of annotations, or copy it where links fail."""
    if target.is_symlink() or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source.resolve(), target_is_directory=True)
    except (NotImplementedError, OSError):
        aside = target.with_name(f".{target.name}.aside")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(source, aside)
        aside.rename(target)
