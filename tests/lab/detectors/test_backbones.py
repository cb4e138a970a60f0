"""Trunks and pyramids: variants of ResNet, batch norms, and torchvision's other classifiers."""
import http.client
import io
import re
import urllib.error
from email.message import Message
from pathlib import Path
from unittest import mock

import pytest
import torch
import torchvision
from click.testing import CliRunner
from torch import nn
from torch.testing import assert_close
from torchvision.models.resnet import Bottleneck
from torchvision.ops import deform_conv2d
from torchvision.ops.misc import FrozenBatchNorm2d

from fgdlab.lab.commands.cli import main
from fgdlab.lab.detectors.backbones import (
    CaffePixels,
    FrozenStatsBatchNorm2d,
    backbone_with_fpn,
    build_trunk,
    freeze,
    replace_norms,
    stride_first,
    trunk_stages,
)
from fgdlab.lab.detectors.deformable import DeformableConv, deform
from fgdlab.lab.detectors.mmdet_modules import ExtraConvs

# ---- Caffe's ResNets ---

def test_caffes_bottleneck_halves_in_its_first_convolution():
    block = stride_first(nn.Sequential(Bottleneck(8, 4, stride=2, downsample=nn.Conv2d(8, 16, 1, stride=2))))[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    assert block(torch.randn(1, 8, 6, 6)).shape == (1, 16, 3, 3)


def test_caffe_pixels_are_blue_first_in_0_to_255_without_their_mean():
    image = torch.rand(1, 3, 4, 4)
    mean, std = (torch.tensor(each)[:, None, None] for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    # what MMDetection subtracts from BGR
    expected = 255 * image.flip(1) - torch.tensor([103.530, 116.280, 123.675])[:, None, None]
    assert_close(CaffePixels()((image - mean) / std), expected, rtol=0, atol=1e-3)


# ---- deformable convolutions ---

def test_a_deformable_convolution_starts_as_an_ordinary_one():
    features = torch.randn(2, 8, 7, 9)
    conv = DeformableConv(8, 12, stride=2, groups=4)
    assert_close(conv(features), nn.functional.conv2d(features, conv.weight, stride=2, padding=1, groups=4))


def test_a_whole_cell_of_offset_reads_the_neighbour():
    conv, features = DeformableConv(4, 4), torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        conv.conv_offset.bias[0::2] = 1.0                            # y of every tap
    assert_close(conv(features)[..., :-2, :], nn.functional.conv2d(features, conv.weight, padding=1)[..., 1:-1, :])


def test_offsets_come_from_the_features():
    conv, features = DeformableConv(4, 6), torch.randn(1, 4, 5, 5)
    nn.init.normal_(conv.conv_offset.weight, std=0.3)
    assert_close(conv(features), deform_conv2d(features, conv.conv_offset(features), conv.weight, padding=1))


def test_stages_3_to_5_become_deformable_and_keep_their_shape():
    resnet = deform(torchvision.models.ResNet(Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=8))
    kinds = {
        stage: [type(block.conv2).__name__ for block in getattr(resnet, stage)]
        for stage in ("layer1", "layer2", "layer3", "layer4")
    }
    assert kinds == {
        "layer1": ["Conv2d"], "layer2": ["DeformableConv"], "layer3": ["DeformableConv"], "layer4": ["DeformableConv"],
    }
    assert resnet(torch.rand(1, 3, 64, 64)).shape == (1, 1000)


# ---- batch norms ---

def test_a_norm_with_frozen_statistics_keeps_its_statistics_and_learns_weight_and_bias():
    norm = FrozenStatsBatchNorm2d(4).train()
    before, features = norm.running_mean.clone(), 3 + torch.randn(8, 4, 5, 5)
    norm(features).square().sum().backward()
    assert torch.equal(norm.running_mean, before) and norm.num_batches_tracked == 0
    assert norm.weight.grad.any() and norm.bias.grad.any()
    assert_close(norm(features), features / (1 + norm.eps) ** 0.5)


@pytest.mark.parametrize("kind", [FrozenStatsBatchNorm2d, FrozenBatchNorm2d])
def test_norms_of_any_trunk_are_replaced_with_their_numbers(kind):
    torch.manual_seed(3)
    trunk = torchvision.models.mobilenet_v3_small().features
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = trunk.eval()(pixels)
        replaced = replace_norms(trunk, kind).train()
        assert not any(type(module) is nn.BatchNorm2d for module in replaced.modules())
        assert_close(replaced(pixels), expected, rtol=1e-4, atol=1e-5)


def test_a_pretrained_trunk_has_its_first_stage_fixed():
    trunk = torchvision.models.resnet18()
    freeze(trunk, until="layer1")
    assert {name.split(".")[0] for name, each in trunk.named_parameters() if not each.requires_grad} == {
        "conv1", "bn1", "layer1",
    }


def test_norms_of_a_caffe_trunk_with_frozen_statistics_are_not_trained():
    maps = backbone_with_fpn(
        "resnet50_caffe", 3, lambda channels: ExtraConvs("input", channels, 256), norms="frozen_stats"
    )
    norms = [
        each for module in maps.body.modules() if isinstance(module, nn.BatchNorm2d) for each in module.parameters()
    ]
    assert norms and not any(each.requires_grad for each in norms) and maps.body.conv1.weight.requires_grad


# ---- stages ---

@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)), ("mobilenet_v2", (24, 32, 96, 1280)),
        ("mobilenet_v3_large", (24, 40, 112, 960)), ("regnet_y_400mf", (48, 104, 208, 440)),
        ("shufflenet_v2_x0_5", (24, 48, 96, 1024)), ("mnasnet0_5", (16, 24, 48, 1280)),
    ],
)
def test_the_last_map_at_each_stride_feeds_the_pyramid(name, channels):
    found = trunk_stages(build_trunk(name, None), name)
    assert tuple(found[stride][1] for stride in (4, 8, 16, 32)) == channels


@pytest.mark.parametrize("name", ["mobilenet_v2", "regnet_y_400mf", "mnasnet0_5"])
def test_the_last_stage_is_what_the_classifier_itself_makes(name):
    """The children run in order are the network: the map before pooling agrees with the model's own forward."""
    torch.manual_seed(1)
    model, seen, pixels = torchvision.models.get_model(name).eval(), [], torch.rand(1, 3, 64, 64)
    torch.manual_seed(1)
    maps = backbone_with_fpn(name, 3, lambda channels: ExtraConvs("input", channels, 256)).eval()
    maps.body.load_state_dict({
        own: model.state_dict()[theirs]
        for own, theirs in zip(maps.body.state_dict(), model.state_dict(), strict=False)
    })
    last = {"mobilenet_v2": "features", "regnet_y_400mf": "trunk_output", "mnasnet0_5": "layers"}[name]
    getattr(model, last).register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        model(pixels)
        assert_close(maps.body(pixels)["2"], seen[0])


@pytest.mark.parametrize("name", ["alexnet", "swin_t"])
def test_a_trunk_without_a_pyramid_is_refused(name, refusal):
    assert f"strides 4, 8, 16 and 32 from children that run in order, got '{name}'" in refusal(
        trunk_stages, build_trunk(name, None), name
    )


# ---- weights that torchvision downloads ------------------------------------------------------------------------------

class CallsAFunction:
    def __reduce__(self):
        return Path.touch, (Path("touched"),)


def saved(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


UNREACHABLE = urllib.error.URLError(OSError(101, "Network is unreachable"))
TINY = ("--image-size", "64", "--train-images", "12", "--eval-images", "8")


@pytest.mark.parametrize("command", [
    ("run", "--method", "none", "--init", "pretrained", "--student", "resnet18"),
    ("doctor", "--method", "none", "--init", "pretrained", "--student", "resnet18"),
    ("run", "--method", "fgd", "--teacher-init", "pretrained", "--teacher", "resnet18"),
    ("run", "--method", "fgd", "--teacher-checkpoint", "torchvision:RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1"),
], ids=["run", "doctor", "teacher", "published detector"])
def test_pretrained_weights_without_a_network_are_one_line(command, lab_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with mock.patch.object(torch.hub, "urlopen", side_effect=UNREACHABLE):
        done = CliRunner().invoke(main, [*command, *TINY])
    said = " ".join((done.output if command[0] == "doctor" else done.stderr).split())
    line = re.search(r"https://download.pytorch.org/models/(\S+) must be within reach, got: (.+?); (.+)", said)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit) and "Network is unreachable" in line[2]
    assert line[3].startswith(f"check the network, or put the file at {tmp_path / 'hub/checkpoints' / line[1]}")


@pytest.mark.parametrize("error", [
    TimeoutError("timed out"), http.client.RemoteDisconnected("it hung up"), http.client.BadStatusLine("a proxy"),
    urllib.error.HTTPError("https://x", 403, "Forbidden", None, None),
])
def test_whatever_the_network_says_is_one_line(error, tmp_path, monkeypatch, refusal):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with mock.patch.object(torch.hub, "urlopen", side_effect=error):
        text = refusal(build_trunk, "resnet18", "DEFAULT")
    assert "must be within reach, got: " in text and getattr(error, "reason", str(error)) in text


@pytest.mark.parametrize("content", [
    b"<html>sign in</html>", saved({"w": torch.zeros(999)})[:700], b"", saved(CallsAFunction()), saved({"w": 1}),
], ids=["a page", "cut off", "empty", "code", "other weights"])
def test_a_broken_file_of_pretrained_weights_is_one_line_and_runs_no_code(content, tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    place = tmp_path / "checkpoints" / Path(torchvision.models.ResNet18_Weights.DEFAULT.url).name
    place.parent.mkdir()
    place.write_bytes(content)
    text = refusal(build_trunk, "resnet18", "DEFAULT")
    assert text.endswith(f"delete {place} if it is there, and try again") and not Path("touched").exists()


def test_a_download_that_is_another_file_is_one_line(tmp_path, monkeypatch, refusal):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    page = io.BytesIO(b"<html>sign in</html>")
    page.info = Message
    with mock.patch.object(torch.hub, "urlopen", lambda request: page):
        text = refusal(build_trunk, "resnet18", "DEFAULT")
    assert "must give weights, got: invalid hash value" in text
