"""Fine-tuning on a mix of sharp and blurred images, in a folder that survives a stop."""

from ._finetune import FinetuneResult, finetune

# isort: split
# For other wings, not for users.
from .._tasks import BatchNorm

__all__ = ["FinetuneResult", "finetune"]
