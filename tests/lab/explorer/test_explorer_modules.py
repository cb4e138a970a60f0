"""Single modules of the explorer: detections, teacher checks, mask edges, checkpoints, image folders."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fgdlab import FGDConfig
from fgdlab.lab.checkpoints.load import outputs_of
from fgdlab.lab.checkpoints.safetensors_io import save_weights
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.explorer.explorer import explore
from fgdlab.lab.explorer.frames import frame
from fgdlab.lab.explorer.image_folder import ImageFolder, open_dataset
from fgdlab.lab.explorer.inference import Predictions, Sample, predictions_of, sample_of, shrunk
from fgdlab.lab.explorer.models import checkpoint_label, step_number
from fgdlab.lab.explorer.teacher_checks import check_teacher, count_detected
from fgdlab.lab.explorer.view_data import mask_edges, panel_rows, scale_mask
from fgdlab.lab.io import write_json
from fgdlab.scene import Scene


def sample(boxes, labels) -> Sample:
    scene = Scene(torch.zeros(1, 3, 64, 64), [torch.tensor(boxes).reshape(-1, 4)], [(64, 64)], {})
    return Sample(**vars(scene), image_id=1, detector=None, labels=np.array(labels), loaded_size=(64, 64))


def predictions(boxes=(), labels=(), scores=(), scale=1.0, spread=1.0) -> Predictions:
    return Predictions(
        {"P3": torch.zeros(2, 8, 8)},
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(labels, dtype=int),
        np.array(scores),
        {"P3": scale},
        {"P3": spread},
    )


# --- detections and the check of the teacher


def test_an_object_is_detected_by_a_box_of_its_class_with_iou_and_score():
    there = sample([[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0]], [1, 2])
    boxes, labels, scores = [[1, 1, 20, 20], [1, 1, 20, 20], [40, 40, 60, 60]], [1, 1, 3], [0.9, 0.8, 0.9]
    found = predictions(boxes, labels, scores)
    assert count_detected(there, found) == (1, 1)
    more = predictions([*boxes, [40, 40, 60, 60]], [*labels, 2], [*scores, 0.1])
    assert count_detected(there, more) == (2, 1)
    assert count_detected(there, predictions([[0, 0, 9, 20]], [1], [0.9])) == (0, 1)  # IoU 0.45
    assert count_detected(sample([], []), found) == (0, 3)
    assert count_detected(there, predictions()) == (0, 0)


def test_detections_have_the_names_of_the_data_and_numbers_without():
    found = predictions([[1, 1, 20, 20], [1, 1, 9, 9]], [2, 7], [0.9, 0.8])
    named = found.detections(SimpleNamespace(classes=["cat", "dog"]))
    assert [each["class"] for each in named] == ["dog", "7"] and named[0]["box"] == [1, 1, 20, 20]
    assert [each["class"] for each in found.detections(SimpleNamespace(classes=["object"]))] == ["2", "7"]


def test_detections_of_low_score_are_left_out_and_the_highest_score_is_first():
    torch.manual_seed(0)
    detector, image = build("retinanet", "compact_s", 3, score_thresh=0.0).eval(), torch.rand(3, 64, 64)
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    there = sample_of(detector, image, target)
    scores = predictions_of(detector, image, target, there).scores
    threshold = float(np.median(scores))
    kept = predictions_of(detector, image, target, there).above(threshold)
    assert sorted(scores[scores >= threshold], reverse=True) == kept.scores.tolist()
    assert 0 < len(kept.boxes) == len(kept.labels) < len(scores)


NAN, BOX = float("nan"), [[0.0, 0.0, 20.0, 20.0]]


@pytest.mark.parametrize(
    ("teacher", "boxes", "teacher_ap", "words"),
    [
        ({}, BOX, 30.0, None),
        ({"scale": NAN, "spread": NAN}, BOX, 30.0, "NaN or infinity"),
        ({"spread": 0.0}, BOX, 30.0, "is constant"),
        ({"labels": [2]}, BOX, 30.0, "none of the 1 objects"),
        ({"labels": [2]}, [], 30.0, None),
        ({}, BOX, 10.0, "not above that of student"),
        ({}, BOX, None, None),
        ({"scale": 6.0}, BOX, 30.0, "6 times on P3"),
        ({"scale": 0.1}, BOX, 30.0, "0.1 times on P3"),
        ({"scale": 4.9}, BOX, 30.0, None),
    ],
)
def test_teacher_warnings(teacher, boxes, teacher_ap, words):
    found = predictions(**{"boxes": BOX, "labels": [1], "scores": [0.9], **teacher})
    ap = {"student": 10.0} | ({} if teacher_ap is None else {"teacher": teacher_ap})
    inference = SimpleNamespace(levels=("P3",), dataset=None)
    there = sample(boxes, [1] * len(boxes))
    _, lines = check_teacher(inference, there, {"teacher": found, "student": predictions()}, ap)
    assert lines == [] if words is None else (len(lines) == 1 and words in lines[0])


def test_detections_are_in_pixels_of_the_sample():
    """This detector enlarges images twofold and returns boxes in pixels of the image as loaded."""
    torch.manual_seed(0)
    detector = build("retinanet", "compact_s", 3, min_size=128, max_size=256, score_thresh=0.0).eval()
    image = torch.rand(3, 64, 64)
    there = sample_of(
        detector,
        image,
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "image_id": torch.tensor(3)},
    )
    found = predictions_of(
        detector, image, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}, there
    )
    with torch.no_grad():
        expected = 2 * detector([image])[0]["boxes"].numpy()
    assert there.image_sizes == [(128, 128)] and there.loaded_size == (64, 64) and there.image_id == 3
    assert found.boxes == pytest.approx(expected, abs=1e-3) and found.boxes.max() > 64
    assert found.scale["P3"] == pytest.approx(found.maps["P3"].square().mean().sqrt().item(), rel=1e-5)


def test_a_teacher_of_another_transform_gets_the_students_pixels():
    torch.manual_seed(0)
    student, teacher = (
        build("retinanet", "compact_s", 3).eval(),
        build("retinanet", "compact_s", 3, min_size=96, max_size=200).eval(),
    )
    image, target = torch.rand(3, 64, 64), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    there = sample_of(student, image, target)
    with torch.no_grad():
        expected = teacher.backbone(there.pixels)["0"][0]
    assert torch.equal(predictions_of(teacher, image, target, there).maps["P3"], expected)


def test_students_and_teacher_run_at_the_same_time_unless_they_share_modules(tiny_scenes):
    torch.manual_seed(0)
    students, threads = {name: build("retinanet", "compact_s", 10) for name in ("one", "two")}, []
    teacher, wanted = build("retinanet", "compact_s", 10), {"one": 0, "two": 0}
    teacher.register_forward_pre_hook(lambda *call: threads.append(threading.get_ident()))
    together = explore(students, teacher, tiny_scenes("val")).session.inference
    apart = explore({**students, "three": teacher}, teacher, tiny_scenes("val")).session.inference
    threads.clear()
    frames = [frame(inference, 1, wanted, {}) for inference in (together, apart)]
    assert frames[0] == frames[1]
    assert len(threads) == 2 and threads[0] != threading.get_ident() == threads[1]


# --- view


def test_mask_edges_are_the_outer_edges_of_cells():
    inside = np.zeros((3, 4), bool)
    inside[0, 0] = inside[0, 1] = True
    assert sorted(mask_edges(inside)) == sorted(
        [[0, 0, 1, 0], [1, 0, 2, 0], [0, 1, 1, 1], [1, 1, 2, 1], [0, 0, 0, 1], [2, 0, 2, 1]]
    )
    assert mask_edges(np.zeros((3, 4), bool)) == [] and len(mask_edges(np.ones((3, 4), bool))) == 14


@pytest.fixture
def view(tiny_scenes):
    torch.manual_seed(0)
    students = {name: build("retinanet", "compact_s", 10) for name in ("one", "two", "three")}
    explorer = explore(students, build("retinanet", "compact_s", 10), tiny_scenes("val"), FGDConfig())
    return lambda **changes: explorer.session.view(explorer.set(**changes).state)


def test_a_difference_is_below_its_student(view):
    assert panel_rows(view()) == [["image", 0, 1, 2]]
    data = view(view="before_after")
    above, below = panel_rows(data)
    titles = ["image", *(panel.title for panel in data.panels)]
    assert [titles[0 if cell == "image" else cell + 1] for cell in above] == ["image", "one", "two", "three"]
    assert [data.panels[cell].title for cell in below] == [
        "teacher",
        "teacher - one",
        "teacher - two",
        "teacher - three",
    ]
    assert panel_rows(view(quantity="loss", view="difference")) == [["image", 0, 1, 2, 3]]


def test_the_scale_mask_is_one_on_the_smallest_box_and_zero_on_the_lightest_cells(view):
    data = view(image=1)
    weights, shown = np.maximum(data.fg, data.bg), scale_mask(data)
    assert shown[weights == weights.max()].min() == 1 and shown[weights == weights.min()].max() == 0
    assert (np.argsort(shown.ravel(), kind="stable") == np.argsort(weights.ravel(), kind="stable")).all()


def test_gaps_of_an_unsplit_loss_separate_objects_and_background(tiny_scenes):
    torch.manual_seed(0)
    student, teacher = build("retinanet", "compact_s", 10), build("retinanet", "compact_s", 10)
    split, unsplit = (explore(student, teacher, tiny_scenes("val"), FGDConfig(area=area)) for area in ("split", "both"))
    columns = ["feature_fg", "feature_bg", "attention_fg", "attention_bg"]
    assert unsplit.numbers("gaps")[columns].to_numpy() == pytest.approx(split.numbers("gaps")[columns].to_numpy())
    assert set(unsplit.numbers()["term"]) == {"both", "attention", "global"}


# --- checkpoints and images


def test_the_step_is_the_last_number_of_a_name(tmp_path):
    assert [
        step_number(tmp_path / name)
        for name in ("step_000150.safetensors", "run2_step_30_ema.safetensors", "last.safetensors")
    ] == [150, 30, -1]
    assert (
        checkpoint_label(tmp_path / "step_000150.safetensors") == "step 150"
        and checkpoint_label(tmp_path / "last.safetensors") == "last"
    )


def test_classes_are_counted_from_the_last_layers(tmp_path):
    save_weights(build("retinanet", "compact_s", 7), tmp_path / "seven.safetensors")
    save_weights(torch.nn.Linear(2, 3), tmp_path / "other.safetensors")
    assert outputs_of(load_file(tmp_path / "seven.safetensors")) == 1 + 7
    assert outputs_of(load_file(tmp_path / "other.safetensors")) is None


def test_images_are_sorted_by_name_rotated_by_exif_and_in_0_to_1(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn clockwise
    Image.fromarray(np.full((20, 30, 3), 255, np.uint8)).save(tmp_path / "b.jpg", exif=exif)
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(tmp_path / "a.PNG")
    images = ImageFolder(tmp_path)
    assert [images[i][0].shape for i in range(2)] == [(3, 10, 12), (3, 30, 20)] and images[1][0].max() == 1
    assert images[0][1]["boxes"].shape == (0, 4) and images[1][1]["image_id"] == 2


def test_a_large_image_is_sent_as_pillow_would_shrink_it():
    image = np.random.default_rng(0).integers(0, 256, (500, 1000, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((640, 320), Image.Resampling.BILINEAR))
    assert np.abs(shrunk(image).astype(int) - expected).max() <= 2  # of noise, rounded in two passes
    assert shrunk(image[:1]).shape == (1, 640, 3)
    assert (shrunk(image[:, :500]) == image[:, :500]).all()


def test_a_broken_image_is_named(tmp_path, refusal):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert "broken.jpg" in refusal(ImageFolder(tmp_path).__getitem__, 0)


@pytest.mark.parametrize("layout", ["annotations.json", "labels.json", "result.json", "val/labels.json", "val.json"])
def test_every_layout_that_a_run_reads_is_explored(tmp_path, layout):
    file = tmp_path / layout
    images = file.parent / "data" if file.name == "labels.json" else tmp_path / "images"
    images.mkdir(parents=True)
    names, annotations = {id_: f"{id_}.png" for id_ in range(1, 21)}, []
    for id_, name in names.items():
        Image.new("RGB", (40, 30), (10 * id_, 0, 0)).save(images / name)
        annotations += [{"id": id_, "image_id": id_, "category_id": 1, "bbox": [4, 5, 20, 10], "area": 200}]
    entries = [{"id": id_, "file_name": name, "width": 40, "height": 30} for id_, name in names.items()]
    write_json(file, {"images": entries, "categories": [{"id": 1, "name": "cat"}], "annotations": annotations})
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ["cat"] and dataset[0][1]["boxes"].tolist() == [[4, 5, 24, 15]]


def test_a_folder_without_images_is_refused(tmp_path, refusal):
    (tmp_path / "notes.txt").write_text("nothing")
    assert "must hold images" in refusal(open_dataset, tmp_path)
