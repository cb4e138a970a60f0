"""`fgdlab predict` and `fgdlab export` to ONNX, as their user calls them."""
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from fgdlab.lab.checkpoints.safetensors_io import save_weights
from fgdlab.lab.commands.cli import main
from fgdlab.lab.detectors.builder import build
from tests.lab.checkpoints.test_onnx_export import confident
from tests.robustness.bad_inputs.images import png_of


@pytest.fixture
def student(tmp_path, tiny_config):
    """A weights file of a run's student with scores that are spread; images of 64 px."""
    torch.manual_seed(0)
    detector = build("retinanet", "compact_s", 2)
    nn.init.normal_(detector.head.classification_head.cls_logits.weight, std=0.1)
    path = tmp_path / "student.safetensors"
    save_weights(detector, path, settings=tiny_config(data=str(tmp_path)).dict(), classes=["cat", "dog"])
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for n, name in enumerate(["b.png", "a.JPG", "more/c.jpg"]):
        pixels = np.random.default_rng(n).integers(0, 255, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def call(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_boxes_are_in_pixels_of_the_file_with_names_of_classes_and_a_picture_each(student, photos, tmp_path):
    done = call("predict", student, photos, "--out", tmp_path / "out", "--threshold", 0.02)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    assert {each["class"] for each in found} <= {"cat", "dog"} and min(each["score"] for each in found) >= 0.02
    assert {each["file_name"] for each in found} == {str(photos / name) for name in ("a.JPG", "b.png", "more/c.jpg")}
    right = max(each["bbox"][0] + each["bbox"][2] for each in found)
    assert 64 < right <= 128.01 and len(list((tmp_path / "out").glob("*.jpg"))) == 3
    assert f"{len(found)} detections" in done.output


def test_detections_are_the_students_on_the_image_as_it_was_trained(student, photos, tmp_path):
    from fgdlab.lab.checkpoints import detector_of

    call("predict", student, photos / "b.png", "--out", tmp_path / "out", "--threshold", 0, "--no-pictures")
    image = Image.open(photos / "b.png").resize((64, 48), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).contiguous() / 255
    with torch.no_grad():
        expected = detector_of(student)[0]([pixels])[0]
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    objects = expected["labels"] > 0  # an untrained head may say background
    assert [each["score"] for each in found] == pytest.approx(expected["scores"][objects].tolist())
    x, y, width, height = found[0]["bbox"]
    first = (expected["boxes"][objects][0] * 2).tolist()
    assert [x, y, x + width, y + height] == pytest.approx(first, rel=1e-5, abs=1e-3)
    assert not list((tmp_path / "out").glob("*.jpg"))


@pytest.mark.parametrize("name", ["retinanet", "fcos", "faster_rcnn", "mask_rcnn", "reppoints", "gfl", "yolox"])
def test_every_detector_is_predicted_with_its_own_boxes_and_scores(name, photos, tmp_path):
    detector = confident(name, "small_s", tmp_path / "s.safetensors")
    done = call("predict", tmp_path / "s.safetensors", photos / "b.png", "--out", tmp_path / "out", "--threshold", 0,
                "--no-pictures")
    pixels = torch.from_numpy(np.asarray(Image.open(photos / "b.png")).copy()).permute(2, 0, 1).contiguous() / 255
    with torch.no_grad():
        expected = detector([pixels])[0]
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    objects = expected["labels"] > 0
    assert done.exit_code == 0 and len(found) == objects.sum() > 5
    assert [each["score"] for each in found] == pytest.approx(expected["scores"][objects].tolist(), abs=1e-4)
    assert [each["class"] for each in found] == [f"class {label}" for label in expected["labels"][objects]]
    sides = torch.tensor([each["bbox"] for each in found])
    boxes = torch.cat([sides[:, :2], sides[:, :2] + sides[:, 2:]], dim=1)
    assert (boxes - expected["boxes"][objects]).abs().max() <= 0.01  # pixels


def test_files_folders_and_patterns_name_each_image_once(student, photos, tmp_path):
    done = call("predict", student, photos / "b.png", f"{photos}/*.png", photos, "--out", tmp_path / "out")
    assert "in 3 images" in done.output, done.output


@pytest.mark.parametrize("name", ["nothing*.png", "missing.png", "notes"])
def test_a_name_without_an_image_is_one_line(student, photos, tmp_path, name):
    done = call("predict", student, photos / name, "--out", tmp_path / "out")
    assert done.exit_code == 1 and done.stderr.startswith("Error: IMAGES must be files, folders or patterns")


@pytest.mark.parametrize("content", [b"\x89PNG", png_of(60_000, 60_000)], ids=["cut off", "a decompression bomb"])
def test_a_broken_image_costs_only_itself(student, photos, tmp_path, content):
    (photos / "broken.png").write_bytes(content)
    done = call("predict", student, photos, "--out", tmp_path / "out")
    assert done.exit_code == 1 and "(1 of 4 images could not be read)" in done.stderr and "broken.png" in done.stderr
    assert "in 3 images" in done.stdout and (tmp_path / "out/predictions.json").exists()


def test_pictures_of_an_earlier_call_are_no_images(student, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    shown = [call("predict", student, ".", "--threshold", 0.5).stdout for _ in range(2)]
    assert shown[0] == shown[1] and "in 3 images: predictions" in shown[0]
    picture = next((photos / "predictions").glob("*.jpg"))
    assert "in 1 images" in call("predict", student, picture, "--out", "predictions", "--threshold", 0.5).stdout


def test_an_image_that_jpeg_cannot_hold_costs_only_its_picture(student, photos, tmp_path):
    Image.new("RGB", (65_501, 40)).save(photos / "wide.png")
    done = call("predict", student, photos, "--out", tmp_path / "out", "--threshold", 0)
    assert done.exit_code == 1 and "wide.png must be drawn as JPEG" in done.stderr
    assert "(1 of 4 images could not be drawn)" in done.stderr and "in 4 images" in done.stdout
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    assert len({each["file_name"] for each in found}) == 4 and len(list((tmp_path / "out").glob("*.jpg"))) == 3


def test_without_any_image_that_can_be_read_the_earlier_predictions_stay(student, photos, tmp_path):
    call("predict", student, photos, "--out", tmp_path / "out", "--threshold", 0)
    before = (tmp_path / "out/predictions.json").read_bytes()
    (tmp_path / "broken.png").write_bytes(b"no image")
    done = call("predict", student, tmp_path / "broken.png", "--out", tmp_path / "out")
    assert done.exit_code == 1 and "(1 of 1 images could not be read)" in done.stderr and done.stdout == ""
    assert (tmp_path / "out/predictions.json").read_bytes() == before != b"[]\n"


def test_an_image_turned_by_exif_is_detected_as_it_is_seen(student, photos, tmp_path):
    image, exif = Image.open(photos / "b.png"), Image.Exif()
    exif[0x0112] = 6
    image.save(photos / "turned.jpg", exif=exif, quality=100)
    call("predict", student, photos / "turned.jpg", "--out", tmp_path / "out", "--threshold", 0)
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    assert max(each["bbox"][0] + each["bbox"][2] for each in found) <= 96.01
    assert Image.open(next((tmp_path / "out").glob("*.jpg"))).size == (96, 128)


def test_export_writes_onnx_and_says_that_it_was_compared(student, tmp_path):
    done = call("export", student, "--out", tmp_path / "student.onnx", "--size", 64, 96)
    assert done.exit_code == 0, done.output
    assert "one image of 64 x 96 pixels" in done.output and "detections as the student's" in done.output
    assert (tmp_path / "student.onnx").stat().st_size > 10_000


@pytest.mark.parametrize(("file", "flags"), [("s.onnx", ("--names", "mmdet")), ("s.pth", ("--size", 64, 64))])
def test_a_flag_of_the_other_format_is_refused(student, tmp_path, file, flags):
    done = call("export", student, "--out", tmp_path / file, *flags)
    assert done.exit_code == 1 and f"{flags[0]} must go with" in done.stderr and not (tmp_path / file).exists()


def test_export_takes_the_size_of_training_and_asks_where_there_is_none(student, tmp_path):
    assert "one image of 64 x 64 pixels" in call("export", student, "--out", tmp_path / "student.onnx").output
    save_weights(build("retinanet", "compact_s", 2), student, build={
        "name": "retinanet", "backbone": "compact_s", "classes": 2})
    done = call("export", student, "--out", tmp_path / "other.onnx")
    assert done.exit_code == 1 and "--size must be given for this student" in done.stderr
