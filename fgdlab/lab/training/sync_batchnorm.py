"""Batch norms whose statistics are those of the whole batch, not of one process's share of it.

The paper's detectors need none of this: their batch norms are frozen, their group norms see one image at a time. The compact family
and backbones trained from scratch learn theirs, and a share of two images is too few to learn from.
"""
import torch
import torch.distributed as dist
from torch import Tensor, nn

from .distributed import ProcessGroup


def sync_batchnorm(module: nn.Module, team: ProcessGroup, device: str) -> None:
    """Make every learned batch norm of a module, in place, one over all processes. Names, weights and statistics stay.

    On CUDA it is torch's SyncBatchNorm, which has no kernels for the CPU. Kinds derived from BatchNorm2d stay as they are: those of this
    project keep their statistics.
    """
    if team.world == 1:
        return
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d and child.track_running_stats:
                if device == "cuda":
                    setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
                else:
                    child.__class__, child.group = CrossProcessBatchNorm2d, team.patient


class CrossProcessBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d of the maps of all processes together: (N_r, C, H_r, W_r) on each -> the same, as if they were one batch (N, C, H, W)."""

    group: dist.ProcessGroup

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
            return super().forward(maps)
        values, over = maps.float(), (0, 2, 3)
        own = torch.full((1,), float(maps.numel() // maps.shape[1]))
        sums = AllReduceSum.apply(torch.cat([values.sum(over), own]), self.group)
        count = sums[-1].detach()
        if count < 2:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(maps.shape)}")
        mean = sums[:-1] / count                                                                   # (C,)
        centred = values - mean[:, None, None]
        variance = AllReduceSum.apply(centred.square().sum(over), self.group) / count                  # (C,)
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / (count - 1), momentum)
        normal = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return normal.to(maps.dtype)


class AllReduceSum(torch.autograd.Function):
    """The sum of a tensor over all processes. Each process's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, values: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        values = values.clone()
        dist.all_reduce(values, group=group)
        return values

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None
