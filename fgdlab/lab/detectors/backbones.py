"""Backbones by name, with a feature pyramid.

A trunk is a ResNet or ResNeXt of torchvision, one of the variants below, or another classifier of torchvision whose
children run in order. Its last map at each stride feeds the pyramid.
"""
import http.client
import os
import pickle
import re
import urllib.error
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import WeightsEnum
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import Bottleneck
from torchvision.ops.misc import FrozenBatchNorm2d

from ..errors import UserError, reason
from .darknet import DarknetPixels
from .deformable import deform

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
RESNEXTS = ("resnext101_64x4d", "resnext101_32x4d", "resnext101_32x4d_dconv")
CAFFE = ("resnet50_caffe", "resnet101_caffe")
MOBILE = ("mobilenet_v2", "mobilenet_v3_large")

PYRAMID_CHANNELS = 256


class FrozenStatsBatchNorm2d(nn.BatchNorm2d):
    """Fixed statistics; weight and bias are trained. MMDetection's ``norm_eval=True``."""

    def train(self, mode: bool = True) -> "FrozenStatsBatchNorm2d":
        return super().train(False)


class CaffePixels(DarknetPixels):
    """torchvision's normalised pixels -> those of Caffe's ResNets, so that both serve a teacher and a student.

    (N, 3, H, W) RGB, (x - mean) / std  ->  (N, 3, H, W) BGR, 255 (x - mean). Both means are equal.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flip(1) * self.std


def build_trunk(name: str, weights: str | None) -> nn.Module:
    """A classifier whose stages feed the pyramid. weights: of torchvision's enum, such as "DEFAULT"; None: random."""
    if name in CAFFE:
        resnet = stride_first(torchvision.models.get_model(name.removesuffix("_caffe")))
        return nn.Sequential(OrderedDict([("pixels", CaffePixels()), *resnet.named_children()]))
    if name.startswith("resnext101_32x4d"):
        resnext = torchvision.models.resnet101(groups=32, width_per_group=4)
        return deform(resnext) if name.endswith("_dconv") else resnext
    with from_torchvision(torchvision.models.get_model_weights(name)[weights]) if weights else nullcontext():
        model = torchvision.models.get_model(name, weights=weights)
    if hasattr(model, "trunk_output"):  # RegNet has its four stages in one child
        return nn.Sequential(OrderedDict([("stem", model.stem), *model.trunk_output.named_children()]))
    return getattr(model, "features", getattr(model, "layers", model))


def stride_first(resnet: nn.Module) -> nn.Module:
    """Move the strides of its bottlenecks from the 3x3 convolutions to the first 1x1, in place."""
    for block in resnet.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    return resnet


@contextmanager
def from_torchvision(weights: WeightsEnum) -> Iterator[Path]:
    """Within, torchvision downloads its weights and reads them, but no code. Yields their place on this disk."""
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        with mock.patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"):
            yield place
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        got = f"got: {getattr(error, 'reason', error)}; check the network, or put the file at {place}"
        raise UserError(f"{weights.url} must be within reach, {got}") from error
    except (pickle.UnpicklingError, EOFError, KeyError, RuntimeError, ValueError) as error:  # of broken bytes
        got = f"got: {re.split('[.:] ', reason(error))[0]}; delete {place} if it is there, and try again"
        raise UserError(f"{weights.url} must give weights, {got}") from error


def backbone_with_fpn(
    name: str, first: int, extra: nn.Module | Callable[[int], nn.Module], *, pretrained: bool = False,
    norms: str = "learned", fpn_norm: Callable[..., nn.Module] | None = None,
) -> BackboneWithFPN:
    """A trunk with torchvision's FPN; parameters are named as in ``resnet_fpn_backbone``.

    first: the finest level of the FPN, 2 or 3; its stride is 2 ** first.
    extra: the block that makes the levels after P5, or a function: channels of C5 -> that block.
    pretrained: ImageNet weights; stem and first stage are then fixed.
    norms: of the trunk: "learned", "frozen" (FrozenBatchNorm2d), "frozen_stats" (weight and bias are trained).
    fpn_norm: after every convolution of the FPN, which then has no bias.
    """
    norm = {"learned": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d, "frozen_stats": FrozenStatsBatchNorm2d}[norms]
    weights = "DEFAULT" if pretrained else None
    trunk = replace_norms(build_trunk(name, weights), norm)
    stages = trunk_stages(trunk, name)
    if pretrained:
        freeze(trunk, until=stages[4][0])
    if name in CAFFE:
        for module in trunk.modules():
            if isinstance(module, FrozenStatsBatchNorm2d):
                module.requires_grad_(False)  # MMDetection also fixes weight and bias here
    used = [stages[2 ** level] for level in range(first, 6)]
    return_layers = {child: str(i) for i, (child, _) in enumerate(used)}
    channels = [count for _, count in used]
    block = extra if isinstance(extra, nn.Module) else extra(channels[-1])
    return BackboneWithFPN(trunk, return_layers, channels, PYRAMID_CHANNELS, block, fpn_norm)


def replace_norms(trunk: nn.Module, norm: type[nn.Module]) -> nn.Module:
    if norm is nn.BatchNorm2d:
        return trunk
    for name, child in trunk.named_children():
        if type(child) is nn.BatchNorm2d:  # momentum does not matter for fixed statistics
            other = norm(child.num_features, eps=child.eps)
            other.load_state_dict(child.state_dict(), strict=False)  # FrozenBatchNorm2d counts no batches
            setattr(trunk, name, other)
        else:
            replace_norms(child, norm)
    return trunk


def freeze(trunk: nn.Module, until: str) -> None:
    for name, child in trunk.named_children():
        child.requires_grad_(False)
        if name == until:
            break


@torch.no_grad()
def trunk_stages(trunk: nn.Module, name: str) -> dict[int, tuple[str, int]]:
    """{stride: (name of the last child at that stride, its channels)}, found by running the children."""
    stages, maps, training = {}, torch.zeros(1, 3, 64, 64), trunk.training
    trunk.eval()
    try:
        for child_name, child in trunk.named_children():
            maps = child(maps)
            height, width = maps.shape[2:]
            if height != width or height < 2:
                break
            stages[64 / height] = (child_name, maps.shape[1])
    except (AttributeError, RuntimeError, TypeError, ValueError):
        pass  # a classifier after the stages needs another shape
    trunk.train(training)
    if not {4, 8, 16, 32} <= stages.keys():
        raise UserError(
            "backbone must give maps (N, C, H, W) at strides 4, 8, 16 and 32 from children that run in order, got "
            f"{name!r}, which does not; choose one of {', '.join((*RESNETS, *MOBILE))}")
    return stages
