"""A user's folder that changes between two calls of one run: other contents are other data, another place is not."""
import json
import shutil

import pytest
from PIL import Image

from fgdlab.lab.run import one_run, run


def mend_labels(folder):
    file = folder / "annotations.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(document))


def rename_a_class(folder):
    file = folder / "annotations.json"
    file.write_text(file.read_text().replace("class 3", "class three"))


def swap_two_images_of_the_splits(folder):
    (folder / "splits.json").write_text(json.dumps({"train": [1, 2, 3, 5], "val": [4, 6]}))


def blacken(folder):
    for file in (folder / "images").iterdir():
        Image.new("RGB", (64, 64)).save(file)


@pytest.mark.parametrize("change", [mend_labels, rename_a_class, swap_two_images_of_the_splits, blacken])
def test_old_scores_are_not_printed_of_changed_data_and_an_equal_folder_is_not_trained_again(
    change, coco_folder, lab_home, tiny_config, tmp_path, monkeypatch, refusal,
):
    boxes = {i: [(5 + i, 5, 30, 40, 3, 0), (20, 30, 20 + i, 25, 7, 0)] for i in range(1, 7)}
    data = coco_folder([(64, 64)] * 6, boxes, splits={"train": [1, 2, 3, 4], "val": [5, 6]})
    config = tiny_config(data=str(data), image_size=0, train_steps=1, batch_size=2, method="none")
    first = run(config, tmp_path / "run", progress="off")
    monkeypatch.setattr(one_run, "train", None)                      # nothing is trained from here on
    moved = shutil.copytree(data, tmp_path / "elsewhere/under another name")
    assert run(config.but(data=str(moved)), tmp_path / "run", progress="off") == first
    change(data)
    assert "with the same contents of data, got one with others" in refusal(run, config, tmp_path / "run")
    assert run(config.but(data=str(moved)), tmp_path / "run", progress="off") == first
    (tmp_path / "run/result.json").unlink()  # as a run that was killed
    assert "with the same contents of data, got one with others" in refusal(run, config, tmp_path / "run")
