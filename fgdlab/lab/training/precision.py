"""The number format of a step: float32, bfloat16, or float16 with a loss scale.

Weights, gradients and the optimiser stay float32; only the networks' forward pass is rounded. fgdlab/distill.py takes
the distillation loss out of autocast, since a sum of squares of two maps overflows float16.
"""
import torch
from torch import Tensor, nn

DTYPES = {"fp32": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}  # for fp32 autocast is off


class Precision:
    """Autocast, and the loss scale that keeps float16's small gradients from becoming 0.

    name: "fp32", "bf16" or "fp16". device: "cpu" or "cuda".
    """

    def __init__(self, name: str, device: str):
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device, enabled=name == "fp16")

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, DTYPES[self.name], enabled=self.name != "fp32")

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def clipped(self, optimizer: torch.optim.Optimizer, parameters: list, largest: float) -> Tensor:
        """Clip the unscaled gradient to an L2 norm of ``largest``; the norm before clipping, a scalar tensor."""
        self.scaler.unscale_(optimizer)
        return nn.utils.clip_grad_norm_(parameters, largest)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """In float16 a step whose gradient overflows is skipped, and the scale is halved."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def guarded(self, norm: Tensor) -> Tensor:
        """The norm for the NaN guard: 0 where float16 overflowed, since :meth:`step` skips that step."""
        return norm.nan_to_num(0.0, 0.0, 0.0) if self.scaler.is_enabled() else norm

    def check(self, step: int) -> None:
        """FloatingPointError where the gradient overflows float16 at a loss scale below 1."""
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:
            problem = f"but overflows at a scale of {self.scaler.get_scale():g} at step {step}"
            raise FloatingPointError(f"the gradient must fit into float16, {problem}; use precision=bf16 or a lower lr")
