"""In what numbers a step computes: float32, bfloat16, or float16 with a loss scale. The distillation's sums are float32 in all three.

Weights, gradients and the optimiser stay float32; only what the networks compute in the forward pass is rounded. fgdlab/distill.py takes the
loss out of the autocast, where a plain sum of squares of two maps overflows float16.
"""
import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}       # fp32 names a type that autocast takes, and leaves it off


class Precision:
    """Autocast, and the factor on the loss that keeps float16's small gradients from becoming 0.

    Args:
        name: "fp32", "bf16" or "fp16".
        device: "cpu" or "cuda".
    """

    def __init__(self, name: str, device: str):
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device, enabled=name == "fp16")

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, DTYPES[self.name], enabled=self.name != "fp32")

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def clipped(self, optimizer: torch.optim.Optimizer, parameters: list, largest: float) -> Tensor:
        """Bound the L2 norm of the true gradient; the norm that it had, a scalar tensor."""
        self.scaler.unscale_(optimizer)
        return nn.utils.clip_grad_norm_(parameters, largest)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimiser's step. In float16 one whose gradient overflowed is left out, and the next has half the scale."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def seen(self, norm: Tensor) -> Tensor:
        """The norm as the watch for NaN and infinity shall see it: in float16 an overflow is answered by :meth:`step`, and is no error yet."""
        return norm if not self.scaler.is_enabled() else torch.where(norm.isfinite(), norm, torch.zeros_like(norm))

    def check(self, step: int) -> None:
        """Raises:
            FloatingPointError: the gradient overflows float16 even when it is made smaller than it is.
        """
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:
            raise FloatingPointError(f"the gradient must fit into float16, but overflows at a scale of {self.scaler.get_scale():g} at step {step}; use precision=bf16 or a lower lr")
