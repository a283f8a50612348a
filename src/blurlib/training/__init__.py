"""Fine-tuning on a mix of sharp and blurred images, with checkpoints."""

from ._finetune import FinetuneResult, finetune

__all__ = ["FinetuneResult", "finetune"]
