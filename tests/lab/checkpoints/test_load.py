"""Teachers from torchvision's weights, MMDetection's checkpoints, plain state dicts and files of this project."""

import hashlib
import http.client
import io
import os
import urllib.error
from email.message import Message

import pytest
import torch
import torchvision
from torch.testing import assert_close

from fgdlab.lab.checkpoints.classes import coco_rows, narrow
from fgdlab.lab.checkpoints.download import download
from fgdlab.lab.checkpoints.export import export_mmdet
from fgdlab.lab.checkpoints.load import detection_models, from_file, head_is_loaded, teacher_from_checkpoint
from fgdlab.lab.checkpoints.safetensors_io import save_weights
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.run import open_data
from fgdlab.lab.teachers.teachers import get_teacher, load_teacher, weights_and_size_hash

PETS = ["dog", "cat"]                                                # COCO's ids 18 and 17


def settings(path, **changes) -> RunConfig:
    return RunConfig.of({"teacher": "resnet18", "teacher_checkpoint": str(path), "device": "cpu", **changes})


def seen(detector, seed=3):
    """What the detector finds in two random images, with weights that find something."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return detector.eval()([torch.rand(3, 64, 64), torch.rand(3, 96, 64)])


def lively(detector):
    """Class scores that spread over the threshold, boxes and masks that differ from class to class."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, each in detector.named_parameters():
            if any(part in name for part in ("cls_logits", "cls_score", "bbox_pred", "mask_fcn_logits")):
                each.copy_(0.05 * torch.randn_like(each))
    return detector


# ---- classes ---------------------------------------------------------------------------------------------------------

def test_coco_rows_are_its_sparse_ids_in_the_order_of_the_data():
    assert coco_rows(PETS) == [0, 18, 17] and coco_rows(["person", "toothbrush"]) == [0, 1, 90]
    assert coco_rows([*PETS, "blood cell"]) is None


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_a_narrowed_one_stage_head_gives_the_kept_classes_the_same_scores_and_boxes(name):
    detector = lively(
        build(name, "resnet18", 6, score_thresh=0.0, topk_candidates=10**6, detections_per_img=10**6, nms_thresh=1.0)
    )
    before = seen(detector)
    narrow(detector, [0, 5, 2])
    for old, new in zip(before, seen(detector), strict=True):
        for label, was in ((1, 5), (2, 2)):
            ours, theirs = new["labels"] == label, old["labels"] == was
            order, order_before = new["scores"][ours].sort(), old["scores"][theirs].sort()
            assert len(order.values) > 20
            assert_close(order.values, order_before.values)
            assert_close(new["boxes"][ours].sum(dim=0), old["boxes"][theirs].sum(dim=0), rtol=1e-4, atol=1e-3)
        assert set(new["labels"].tolist()) <= {0, 1, 2}


def test_a_narrowed_mask_rcnn_keeps_logits_boxes_and_masks_of_its_classes():
    detector = lively(build("mask_rcnn", "resnet18", 6))
    heads, features, maps = detector.roi_heads, torch.randn(5, 1024), torch.randn(2, 256, 14, 14)
    rows = [0, 5, 2]
    scores, deltas = heads.box_predictor(features)
    masks = heads.mask_predictor(maps)
    narrow(detector, rows)
    new_scores, new_deltas = heads.box_predictor(features)
    assert_close(new_scores, scores[:, rows])
    assert_close(new_deltas, deltas.view(5, 7, 4)[:, rows].flatten(1))
    assert_close(heads.mask_predictor(maps), masks[:, rows])
    assert heads.box_predictor.cls_score.out_features == 3 and heads.mask_predictor.mask_fcn_logits.out_channels == 3


# ---- torchvision's published weights ---------------------------------------------------------------------------------

@pytest.fixture
def zoo(monkeypatch, retinanet):
    """A small RetinaNet of 91 classes in place of whatever torchvision would download; notes what was asked for."""
    asked = []

    def pretend(model, weights):
        asked.append((model, str(weights)))
        return retinanet(classes=91)

    monkeypatch.setattr(torchvision.models, "get_model", pretend)
    return asked


def test_a_published_detector_is_taken_by_the_name_of_its_weights_with_the_heads_of_the_datas_classes(zoo):
    name = "RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1"
    config = settings(f"torchvision:{name}", min_size=64, max_size=96)
    detector, path = teacher_from_checkpoint(config, PETS)
    assert (
        zoo == [("retinanet_resnet50_fpn_v2", name)]
        and path.name.startswith("retinanet_resnet50_fpn_v2_coco")
        and path.suffix == ".pth"
    )
    assert (
        head_is_loaded(detector)
        and detector.levels == ("P3", "P4", "P5", "P6", "P7")
        and detector.flavour == "torchvision"
    )
    assert detector.transform.min_size == (64,) and detector.head.classification_head.num_classes == 3
    for classes, parts in (
        ([*PETS, "blood cell"], "all"),
        (PETS, "backbone+neck"),
    ):  # not COCO's classes, or no head wanted: the pyramid alone
        other = teacher_from_checkpoint(config.but(teacher_parts=parts), classes)[0]
        assert not head_is_loaded(other) and other.head.classification_head.num_classes == 91
        assert other.not_loaded and all(not each.startswith("backbone.") for each in other.not_loaded)


def test_torchvision_reads_its_files_as_numbers_alone_and_a_missing_network_is_one_line(monkeypatch, refusal, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config, file = (
        settings("torchvision:FCOS_ResNet50_FPN_Weights.COCO_V1"),
        tmp_path / "hub/checkpoints/fcos_resnet50_fpn_coco-99b0c9b7.pth",
    )
    file.parent.mkdir(parents=True)
    torch.save({"w": Code()}, file)                                  # where torchvision would look for its download
    text = refusal(teacher_from_checkpoint, config, PETS)
    assert text.endswith(f"got: Weights only load failed; delete {file} if it is there, and try again")

    def offline(model, weights):
        assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    assert "no route; check the network, or put the file at" in refusal(teacher_from_checkpoint, config, PETS)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


class Code:
    """Unpickled, it would call a function."""

    def __reduce__(self):
        return os.getcwd, ()


def test_torchvision_has_the_detectors_that_are_offered():
    assert {
        "retinanet_resnet50_fpn_v2",
        "fcos_resnet50_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "maskrcnn_resnet50_fpn_v2",
    } <= set(detection_models())
    assert not [name for name in detection_models() if name.startswith(("ssd", "keypoint"))]


def test_an_unknown_name_of_weights_is_refused_before_anything_is_built(zoo, refusal):
    text = refusal(teacher_from_checkpoint, settings("torchvision:RetinaNet_ResNet50_FPN_V3_Weights.COCO_V1"), PETS)
    assert "did you mean 'RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1'?" in text and "SSD" not in text and zoo == []


# ---- files -----------------------------------------------------------------------------------------------------------

def test_a_checkpoint_in_mmdetections_names_becomes_a_detector_of_its_flavour(tmp_path, same_bits):
    torch.manual_seed(1)
    made = build("fcos", "resnet18", 2, flavour="mmdet", conv_bias=False, norm_on_bbox=False)
    torch.save({"meta": {"epoch": 24}, "state_dict": export_mmdet(made)}, tmp_path / "fcos.pth")
    detector = from_file(tmp_path / "fcos.pth", settings(tmp_path / "fcos.pth", detector="fcos"), PETS)
    same_bits(detector, made)
    assert detector.flavour == "mmdet" and head_is_loaded(detector) and not detector.head.norm_on_bbox


def test_backbone_and_neck_of_a_cascade_serve_without_its_heads(tmp_path, refusal):
    made = build("faster_rcnn", "resnet18", 2, flavour="mmdet")
    state = {name: each for name, each in export_mmdet(made).items() if not name.startswith("roi_head.")}
    torch.save(state | {"roi_head.bbox_head.0.fc_cls.bias": torch.zeros(81)}, tmp_path / "c.pth")
    config = settings(tmp_path / "c.pth", detector="faster_rcnn", flavour="mmdet", teacher_parts="backbone+neck")
    detector = from_file(tmp_path / "c.pth", config, PETS)
    assert not head_is_loaded(detector)
    assert torch.equal(detector.backbone.fpn.layer_blocks[0][0].weight, made.backbone.fpn.layer_blocks[0][0].weight)
    assert "a cascade" in refusal(from_file, tmp_path / "c.pth", config.but(teacher_parts="all"), PETS)


def test_a_plain_state_dict_of_torchvision_is_loaded_and_its_91_classes_are_narrowed(tmp_path, same_bits, refusal):
    torch.manual_seed(2)
    small, coco = build("retinanet", "compact_s", 2), build("retinanet", "compact_s", 90)
    torch.save(small.state_dict(), tmp_path / "small.pth")
    torch.save({"model": coco.state_dict()}, tmp_path / "coco.pth")
    config = settings(tmp_path / "coco.pth", teacher="compact_s")
    same_bits(from_file(tmp_path / "small.pth", config, PETS), small)
    narrowed = from_file(tmp_path / "coco.pth", config, PETS)
    narrow(coco, [0, 18, 17])
    same_bits(narrowed, coco)
    text = refusal(from_file, tmp_path / "coco.pth", config, ["blood cell"])
    assert "tensors that differ, the first 'head.classification_head.cls_logits" in text and "backbone+neck" in text
    pyramid = from_file(tmp_path / "coco.pth", config.but(teacher_parts="backbone+neck"), ["blood cell"])
    assert not head_is_loaded(pyramid) and torch.equal(pyramid.backbone.stem[0].weight, coco.backbone.stem[0].weight)


def test_an_imported_file_is_built_as_its_header_says(tmp_path, same_bits, refusal):
    made = build("retinanet", "resnet18", 2, flavour="mmdet")
    facts = {"name": "retinanet", "backbone": "resnet18", "classes": 2, "flavour": "mmdet"}
    save_weights(made, tmp_path / "t.safetensors", build=facts, missing=[])
    config = settings(tmp_path / "t.safetensors", teacher="resnet50", min_size=32)
    detector = from_file(tmp_path / "t.safetensors", config, PETS)
    same_bits(detector, made)
    assert detector.flavour == "mmdet" and detector.transform.min_size == (32,)
    assert "the data's 1 classes, got one of 2" in refusal(from_file, tmp_path / "t.safetensors", config, ["cat"])


# ---- as a run's teacher ----------------------------------------------------------------------------------------------

def test_a_teacher_without_a_head_has_no_ap_and_no_floor(lab_home, tiny_config, tmp_path, refusal):
    made = build(
        "retinanet", "resnet18", 10, frozen_norms=True
    )  # as torchvision publishes them: without num_batches_tracked
    torch.save(
        {name: each for name, each in made.state_dict().items() if name.startswith("backbone.")}, tmp_path / "b.pth"
    )
    config = tiny_config(teacher="resnet18", teacher_checkpoint=str(tmp_path / "b.pth"), teacher_parts="backbone+neck")
    data = open_data(config, progress=False)
    teacher = get_teacher(config, *data, progress=False)
    assert teacher.AP is None and teacher.origin == "given" and not teacher.detector.training
    assert "teacher_floor must be 0" in refusal(get_teacher, config.but(teacher_floor=20), *data, progress=False)
    other_pixels = weights_and_size_hash(config.but(min_size=96), teacher.path)
    assert weights_and_size_hash(config, teacher.path) == teacher.hash != other_pixels


def test_flavour_and_sizes_reach_a_teacher(lab_home, tiny_config, tmp_path):
    save_weights(build("retinanet", "resnet18", 10, flavour="mmdet"), tmp_path / "m.safetensors")
    config = tiny_config(
        teacher="resnet18",
        teacher_checkpoint=str(tmp_path / "m.safetensors"),
        flavour="mmdet",
        min_size=48,
        max_size=60,
    )
    detector, *_ = load_teacher(config, *open_data(config, progress=False), progress=False)
    assert (detector.flavour, detector.transform.min_size, detector.transform.max_size) == ("mmdet", (48,), 60)


# ---- addresses -------------------------------------------------------------------------------------------------------

class Reply(io.BytesIO):
    """An answer of urlopen."""

    def info(self) -> Message:
        headers = Message()
        headers["Content-Length"] = str(len(self.getvalue()))
        return headers


@pytest.fixture
def server(monkeypatch):
    """server(content, error) -> the list of addresses that were asked for; every address answers so."""

    def answers(content: bytes = b"weights", error: Exception | None = None) -> list[str]:
        asked = []

        def urlopen(request):
            asked.append(request.full_url)
            if error:
                raise error
            return Reply(content)

        monkeypatch.setattr(torch.hub, "urlopen", urlopen)
        return asked

    return answers


def left(home) -> list:
    return [path for path in (home / "checkpoints").iterdir() if path.suffix != ".lock"]


def test_an_address_is_downloaded_once_with_the_hash_in_its_name(lab_home, server):
    asked = server()
    sha256 = hashlib.sha256(b"weights").hexdigest()[:8]
    for name in (f"a-{sha256}.pth", "b.pth"):
        address = f"https://example.org/x/{name}"
        paths = {download(address, progress=False) for _ in range(2)}
        assert len(paths) == 1 and asked == [address]
        assert asked.pop() and next(iter(paths)).name.endswith(name) and paths.pop().read_bytes() == b"weights"


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), TimeoutError("no route"), http.client.InvalidURL("no route")]
)
def test_a_network_error_is_one_line_and_leaves_nothing(lab_home, server, refusal, error):
    server(error=error)
    text = refusal(download, "https://example.org/a.pth", progress=False)
    assert "a.pth must give its file, got: no route; check the network" in text and left(lab_home) == []


def test_bytes_with_another_hash_are_refused_and_leave_nothing(lab_home, server, refusal):
    server()
    text = refusal(download, "https://example.org/a-00000000.pth", progress=False)
    assert 'got: invalid hash value (expected "00000000"' in text and left(lab_home) == []


@pytest.mark.parametrize(
    "address", ["http://example.org/a.pth", "https://example.org/", "file:///etc/passwd", "https://[example.org/a.pth"]
)
def test_other_addresses_are_refused(lab_home, refusal, address):
    assert "must begin with https:// and end in a file" in refusal(download, address, progress=False)
