"""An example without a data set: a small network on photographs that ship inside other packages."""

from ._photographs import crops
from ._run import run
from ._training import DemoSettings, Trained, network, train

__all__ = ["DemoSettings", "Trained", "crops", "network", "run", "train"]
