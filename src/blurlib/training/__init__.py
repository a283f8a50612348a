"""Fine-tuning on a mix of sharp and blurred images, with checkpoints."""

from ._finetune import finetune
from ._result import FinetuneResult

__all__ = ["FinetuneResult", "finetune"]
