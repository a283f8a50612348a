"""The parameters of evaluate and finetune: their settings, their commands and their records name the same."""

import dataclasses
import inspect

import pytest
from PIL import Image
from torch import nn

import blurlib
from blurlib._cli.evaluate import evaluate as evaluate_command
from blurlib._cli.finetune import finetune as finetune_command
from blurlib._tasks import EvaluationSettings, TrainingSettings

# What decides how a run goes and not what it measures.
RUNNING = {
    *("workers", "device", "output", "overwrite", "metadata", "distributed", "resume", "progress"),
    *("checkpoint_every", "changes", "examples"),
}
# Of a command alone: which network is meant, a deblurring around it, how the result is printed.
NETWORK = {"arch", "classes", "deblur", "json"}


def parameters(function):
    found = inspect.signature(function).parameters
    return {name: p.default for name, p in found.items() if name not in ("model", "root")}


def test_evaluate_has_its_settings():
    settings = {field.name: field.default for field in dataclasses.fields(EvaluationSettings)}
    own = {k: v for k, v in parameters(blurlib.evaluate).items() if k not in RUNNING | {"task"}}
    assert own == settings


def test_finetune_has_its_settings():
    settings = {field.name for field in dataclasses.fields(TrainingSettings)} - {"protocol"}
    sizes = {"network_side", "network_size", "crop", "canonical_side", "resample", "jitter"}
    own = set(parameters(blurlib.finetune)) - RUNNING - {"task", "trainable", "optimizer", "validation"}
    assert own == settings | sizes


@pytest.mark.parametrize(
    ("function", "command", "absent"),
    [
        (blurlib.evaluate, evaluate_command, {"metadata", "distributed", "columns"}),
        (blurlib.finetune, finetune_command, {"metadata", "columns"}),
    ],
)
def test_commands_take_what_the_functions_take(function, command, absent):
    """Two are found out by the command: the network's name and file, and whether torchrun started it. Folders
    have no columns.
    """
    own, theirs = parameters(function), parameters(command)
    assert set(own) - set(theirs) == absent
    assert set(theirs) - set(own) <= NETWORK
    plain = {name for name, value in own.items() if value is not None and name in theirs}
    assert {name: theirs[name] for name in plain} == {name: own[name] for name in plain}


def test_the_record_has_what_decides_the_numbers():
    images = [(Image.new("RGB", (40, 30), colour), i) for i, colour in enumerate(("red", "blue"))]
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    report = blurlib.evaluate(
        network, images, blurs="sharp", scales=32, crop=32, progress=False, device="cpu"
    )
    foreign = {"network_size", "band", "ignore_index", "reduce_zero_label"}  # a segmentation's
    decides = {field.name for field in dataclasses.fields(EvaluationSettings)} - foreign
    assert decides - set(report.settings) == {"batch_size"}  # which no number depends on
