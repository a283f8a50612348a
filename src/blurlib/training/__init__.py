"""Fine-tuning on a mix of sharp and blurred images, with checkpoints."""

from ._finetune import FinetuneResult, finetune

# isort: split
# For other wings, not for users.
from .._tasks import BatchNorm

__all__ = ["FinetuneResult", "finetune"]
