"""transformers: a callback that tells a data set the epoch of the `Trainer`."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..mixes import BlurredDataset


class TrainerEpochs(TrainerCallback):  # type: ignore[misc]  # transformers is not looked into
    """Tells a data set the epoch: `Trainer(train_dataset=train, callbacks=[TrainerEpochs(train)])`.

    The `Trainer` itself tells data sets the epoch in one process, but not in several, nor in the epoch in the
    middle of which it resumes.

    Args:
        dataset: a :class:`blurlib.mixes.BlurredDataset`.

    Raises:
        TypeError: if it is none, as where it stands inside another data set.

    Example:
        >>> import torch
        >>> train = BlurredDataset([{"pixel_values": torch.rand(3, 32, 32), "labels": 0}], "sharp + D4")
        >>> callback = TrainerEpochs(train)
    """

    def __init__(self, dataset: BlurredDataset) -> None:
        if not isinstance(dataset, BlurredDataset):
            raise TypeError(
                f"`dataset` must be a BlurredDataset, got {type(dataset).__name__}; wrap it: "
                'blurlib.mixes.BlurredDataset(dataset, "sharp + D4")'
            )
        self.dataset = dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the epoch (the `Trainer`'s hook)."""
        del args, control, kwargs
        self.dataset.set_epoch(int(state.epoch or 0))  # a resumed one may be 1.5 epochs old
