"""Backbones by name, each under a feature pyramid.

    pixels (N, 3, H, W) --body--> C3, C4, C5 (two-stage detectors: C2 as well) --FeaturePyramidNetwork--> P3, ..., P7 of 256 channels

A body is a ResNet or ResNeXt of torchvision, one of the variants below, or any other classifier of torchvision whose children run in order.
Its last map at each stride feeds the pyramid.
"""
import difflib
from collections import OrderedDict
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops.misc import FrozenBatchNorm2d

from ..errors import UserError, unknown_name
from .deformable import deform

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
RESNEXTS = ("resnext101_64x4d", "resnext101_32x4d", "resnext101_32x4d_dconv", "resnext101_32x4d_mdconv")
CAFFE = ("resnet50_caffe", "resnet101_caffe")
MOBILE = ("mobilenet_v2", "mobilenet_v3_large")

PYRAMID_CHANNELS = 256
DEPTHS = {"50": [3, 4, 6, 3], "101": [3, 4, 23, 3]}                  # bottleneck blocks a stage


class FrozenStatsBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that keeps its running statistics also in train mode; weight and bias learn. MMDetection's ``norm_eval=True``."""

    def train(self, mode: bool = True) -> "FrozenStatsBatchNorm2d":
        return super().train(False)


# --- bodies -------------------------------------------------------------------------------------------------------------------------

class CaffeBottleneck(Bottleneck):
    """A bottleneck with its stride in the first 1x1 convolution, as in Caffe's ResNets; torchvision has it in the 3x3."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


class CaffePixels(nn.Module):
    """Pixels normalised as torchvision does -> as Caffe's ResNets read them: blue first, 0..255, means subtracted, undivided.

    (N, 3, H, W) RGB, (x - mean) / std  ->  (N, 3, H, W) BGR, 255 (x - mean). Both means are the same numbers, so only std and order change, and
    every detector reads the same pixels: a Caffe teacher may learn from a torchvision student's batch.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", 255 * torch.tensor([0.225, 0.224, 0.229])[:, None, None], persistent=False)       # of B, G, R

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flip(1) * self.scale


def build_trunk(name: str, weights: str | None, norm: Callable[..., nn.Module] | None) -> nn.Module:
    """The classifier whose stages feed the pyramid. ``weights``: a name of torchvision's weights enum, such as "DEFAULT"; None for random ones."""
    settings = {"norm_layer": norm} if norm is not None else {}
    if name in CAFFE:
        resnet = ResNet(CaffeBottleneck, DEPTHS[name.removeprefix("resnet").removesuffix("_caffe")], **settings)
        return nn.Sequential(OrderedDict([("pixels", CaffePixels()), *resnet.named_children()]))
    if name.startswith("resnext101_32x4d"):
        resnext = ResNet(Bottleneck, DEPTHS["101"], groups=32, width_per_group=4, **settings)
        if name != "resnext101_32x4d":
            deform(resnext, modulated=name.endswith("_mdconv"))
        return resnext
    model = torchvision.models.get_model(name, weights=weights, **settings)
    if hasattr(model, "trunk_output"):                               # RegNet keeps its four stages in one child
        return nn.Sequential(OrderedDict([("stem", model.stem), *model.trunk_output.named_children()]))
    return getattr(model, "features", getattr(model, "layers", model))


def check_backbone(name: str, pretrained: bool, others: tuple[str, ...] = ()) -> None:
    """Refuse a backbone that does not exist, and ImageNet weights that do not. ``others``: names that the caller knows besides."""
    ours, theirs = (*CAFFE, *RESNEXTS), torchvision.models.list_models(module=torchvision.models)
    if name not in ours and name not in theirs:
        near = difflib.get_close_matches(name, theirs, n=2)
        known = dict.fromkeys((*others, *RESNETS, *CAFFE, *RESNEXTS, *MOBILE, *near))
        raise unknown_name("backbone", name, known, hint="other classifiers of torchvision will do as well")
    if pretrained and name not in theirs:
        raise UserError(f"pretrained must be off for {name!r}: torchvision has no ImageNet weights for it; load an MMDetection checkpoint, or choose another")


# --- pyramid ------------------------------------------------------------------------------------------------------------------------

def backbone_with_fpn(
    backbone: str, first: int, extra: nn.Module | Callable[[int], nn.Module], *, pretrained: bool = False, norms: str = "learned", fpn_norm: Callable[..., nn.Module] | None = None,
) -> BackboneWithFPN:
    """A body under torchvision's FPN, under the names of torchvision's ``resnet_fpn_backbone`` (``body.*``, ``fpn.*``).

    Args:
        first: the finest level that the FPN makes, 2 or 3; its stride is 2 ** first.
        extra: the block that makes the levels after P5, or what makes that block from the channels of C5.
        pretrained: ImageNet weights; stem and first stage are fixed then.
        norms: batch norms of the body: "learned", "frozen" (FrozenBatchNorm2d), or "still" (fixed statistics, learned weight and bias).
        fpn_norm: a norm after every convolution of the FPN, in place of its bias.
    """
    norm = {"learned": nn.BatchNorm2d, "frozen": FrozenBatchNorm2d, "still": FrozenStatsBatchNorm2d}[norms]
    by_argument = norm if backbone.startswith(("resne", "wide_resne")) else None       # other families choose their own eps and momentum
    body = build_trunk(backbone, "DEFAULT" if pretrained else None, by_argument)
    if by_argument is None:
        body = replace_norms(body, norm)
    stages = trunk_stages(body, backbone)
    if pretrained:
        freeze(body, until=stages[4][0])
    if backbone in CAFFE and norms == "still":                       # MMDetection fixes weight and bias as well in these
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
    used = [stages[2 ** level] for level in range(first, 6)]
    names = {name: str(i) for i, (name, _) in enumerate(used)}
    channels = [each for _, each in used]
    return BackboneWithFPN(body, names, channels, PYRAMID_CHANNELS, extra if isinstance(extra, nn.Module) else extra(channels[-1]), fpn_norm)


def replace_norms(body: nn.Module, norm: type[nn.Module]) -> nn.Module:
    """The same body with every batch norm replaced by one of kind ``norm`` with its numbers, eps and momentum."""
    if norm is nn.BatchNorm2d:
        return body
    for name, child in body.named_children():
        if type(child) is nn.BatchNorm2d:
            settings = {"eps": child.eps} if norm is FrozenBatchNorm2d else {"eps": child.eps, "momentum": child.momentum}
            other = norm(child.num_features, **settings)
            other.load_state_dict(child.state_dict(), strict=norm is not FrozenBatchNorm2d)
            setattr(body, name, other)
        else:
            replace_norms(child, norm)
    return body


def freeze(body: nn.Module, until: str) -> None:
    """Fix stem and first stage, up to the child ``until``, as torchvision and MMDetection do to a pretrained body."""
    for name, child in body.named_children():
        child.requires_grad_(False)
        if name == until:
            break


@torch.no_grad()
def trunk_stages(body: nn.Module, name: str, side: int = 64) -> dict[int, tuple[str, int]]:
    """{stride: (name of the last child at that stride, its channels)} for strides 4, 8, 16 and 32, found by running the children in order.

    Raises:
        UserError: a body whose children do not run one after another, or that does not halve its maps down to stride 32.
    """
    found, maps, training = {}, torch.zeros(1, 3, side, side), body.training
    body.eval()
    try:
        for child_name, child in body.named_children():
            maps = child(maps)
            height, width = maps.shape[2:]
            if height != width or height < side // 32:
                break
            found[side / height] = (child_name, maps.shape[1])
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        pass                                                         # what follows the last stage, a classifier say, wants another shape
    body.train(training)
    if not {4, 8, 16, 32} <= found.keys():
        raise UserError(
            f"backbone must give maps (N, C, H, W) at strides 4, 8, 16 and 32 from children that run in order, got {name!r}, which does not; "
            f"choose one of {', '.join((*RESNETS, *MOBILE))}"
        )
    return found
