"""One epoch of training."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from .._common.devices import batches
from .._common.distributed import ProcessGroup
from .._common.progress import progress_bar
from .._tasks import TrainingTask, running_statistics
from ..data import warn_of_void

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def _epoch(
    parallel: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[Any],
    task: TrainingTask,
    epoch: int,
    team: ProcessGroup,
    *,
    progress: bool,
) -> tuple[dict[str, float], dict[str, str]]:
    """Train for one epoch; return its row of the history and the broken images."""
    started = time.perf_counter()
    settings = task.settings
    rate, rates = settings.rates[epoch], len(settings.rates)
    # Pixels are counted too, beyond what float32 holds exactly; Apple's devices have nothing more.
    exact = torch.float32 if team.device.type == "mps" else torch.float64
    for group in optimizer.param_groups:
        group["lr"] = rate
    parallel.train()
    if settings.batch_norm == "eval":
        for module in parallel.modules():
            if isinstance(module, _BATCH_NORMS):
                module.eval()
    total_loss = total_correct = 0.0
    total = {"counted": 0.0, "images": 0.0, "void": 0.0, "single": 0.0}
    broken: dict[str, str] = {}
    title = f"epoch {epoch + 1}/{rates}"
    shown = progress and team.rank == 0
    with progress_bar(batches(loader), total=len(loader), title=title, unit="batch", show=shown) as bar:
        for step, batch in enumerate(bar):
            broken.update((item.name, item.reason) for item in batch.skipped)
            # The backward pass too: a network that saves memory runs forward again in it.
            with running_statistics(parallel, when=task.needs_several and batch.single) as switched:
                loss, correct, counted = task.forward(parallel, batch, team)
                known = [counted, batch.size, batch.void, switched]
                numbers = torch.tensor([0.0, 0.0, *known], dtype=exact, device=team.device)
                numbers[0], numbers[1] = loss.detach(), correct
                batch_loss, batch_correct, *sums = team.sum(numbers).tolist()
                total = {name: total[name] + value for name, value in zip(total, sums, strict=True)}
                if not math.isfinite(batch_loss):
                    raise ValueError(
                        f"`lr` must keep the loss finite, got a loss of {batch_loss} in epoch {epoch + 1} of "
                        f"{rates}, step {step + 1} of {len(loader)} at lr {rate:g}; lower `lr`, or look for "
                        "values in the model that are not finite. What earlier epochs wrote is kept"
                    )
                if sums[0] == 0:  # every image of the batch is broken, or without a label
                    continue
                optimizer.zero_grad(set_to_none=True)
                # DistributedDataParallel averages over processes: this makes it the mean over the global
                # batch, also where shares differ by an image.
                (loss * (team.world / sums[0])).backward()
            optimizer.step()
            total_loss += batch_loss
            total_correct += batch_correct
            score = f"{total_correct / total['counted']:.3f}"
            bar.set_postfix({"loss": f"{total_loss / total['counted']:.3f}", task.score: score})
    broken = team.merge(broken)
    if total["images"] == 0:
        raise ValueError(
            f"`root` must hold images that can be read, got {len(broken)} that all cannot, such as "
            f"{next(iter(broken.values()))!r}; repair them"
        )
    if total["counted"] == 0:
        raise ValueError(
            f"`root` must hold masks with a labelled pixel, got {int(total['images'])} of void alone; "
            "look at their values"
        )
    if epoch == 0 and team.rank == 0:
        if total["single"] == team.world * len(loader):
            warnings.warn(
                "every batch held a single image of its size for some process, and batch norm used its "
                "running statistics throughout; a larger `batch_size` or one size for all would train them",
                stacklevel=2,
            )
        warn_of_void(task.listing, total["void"] / (total["void"] + total["counted"]))
    row = {
        "epoch": epoch + 1,
        "lr": rate,
        "loss": total_loss / total["counted"],
        task.score: total_correct / total["counted"],
        "images": int(total["images"]),
        "skipped": len(broken),
        "single_image_batches": int(total["single"]),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return row, broken
