"""Finished runs made without training."""
from pathlib import Path

import pytest

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets.dataset import open_split
from fgdlab.lab.io import write_json
from fgdlab.lab.run import RunFolder
from tests.helpers.coco_cases import worse


@pytest.fixture
def runs(coco_folder, tmp_path, monkeypatch):
    """make(folder, seed, size) -> a finished run on six images, with boxes misplaced by ``size`` pixels."""
    data = coco_folder(
        [(64, 64)] * 6,
        {k: [(6, 8, 20 + k, 24, 3, 0), (34, 30, 22, 20, 7, 0)] for k in range(1, 7)},
        splits={"train": [1], "val": [1, 2, 3, 4, 5, 6], "half": [1, 2, 3]},
    )
    monkeypatch.chdir(tmp_path)

    def make(folder, seed=0, size=1.0, config=None, split="val"):
        config = (config or RunConfig(data=str(data), image_size=0, train_images=0, eval_images=0)).but(
            seed=seed, eval_split=split
        )
        eval_set = open_split(config, split, progress=False)
        perfect = [
            {
                "image_id": each["image_id"],
                "category_id": each["category_id"],
                "bbox": each["bbox"],
                "score": 0.9 - each["id"] / 100,
            }
            for each in eval_set.ground_truth()["annotations"]
        ]
        write_json(Path(folder) / "detections.json", worse(perfect, size, seed))
        RunFolder(folder).begin(config.dict(), {})
        scores = {
            "AP": 50.0,
            "AR": 50.0,
            "seconds": 1.0,
        }  # which every run has; compare takes its own from the detections
        write_json(
            Path(folder) / "result.json",
            {
                **scores,
                "settings": config.dict(),
                "data_hashes": {"eval": eval_set.content_hash()},
                "data_line": f"{len(eval_set)} images of {split}",
            },
        )
        return Path(folder)

    make.data = data
    return make
