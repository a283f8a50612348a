"""Weights between the original network's and the tuned one's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .._common.model_config import load_plain_state, plain_state
from .._tasks import TrainingTask
from ._norm import recalibrate
from ._shares import Shares
from ._validation import Validation


def interpolate(
    network: nn.Module,
    original: nn.Module,
    task: TrainingTask,
    shares: Shares,
    validation: Validation | None,
    *,
    workers: int,
) -> list[dict[str, Any]] | None:
    """Give a tuned network the weights at the best of the places between the original ones (0) and its own.

    At each, the statistics of batch norm are computed anew, but for those that training kept as they were.

    Returns:
        A row for each place: "place", the name of the validation's score with its value (None without), and
        whether it was "chosen". None at a request to stop: then the weights are of no use.
    """
    settings = task.settings
    first = dict(original.named_parameters())
    tuned = {name: each.detach().clone() for name, each in network.named_parameters()}
    rows: list[dict[str, Any]] = []
    best: dict[str, Any] | None = None
    for place in settings.interpolate or ():
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(torch.lerp(first[name].to(parameter), tuned[name], place))
        if settings.batch_norm != "eval" and not recalibrate(network, task, shares, workers=workers):
            return None
        row: dict[str, Any] = {"place": place, "chosen": True}
        if validation is not None:
            score = validation.score(shares)
            if score is None:
                return None
            row[validation.name] = score
            row["chosen"] = not rows or score > max(each[validation.name] for each in rows)
        if row["chosen"]:
            rows = [{**each, "chosen": False} for each in rows]
            best = {name: each.clone() for name, each in plain_state(network).items()}
        rows.append(row)
    assert best is not None
    load_plain_state(network, best)
    return rows
