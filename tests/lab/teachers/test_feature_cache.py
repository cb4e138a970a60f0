"""The teacher's maps on disk: the live ones rounded to float16, or a reason why not."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fgdlab.config import FGDConfig
from fgdlab.distill import Distiller
from fgdlab.fgd import FGDLoss
from fgdlab.lab.datasets.annotations import read_split
from fgdlab.lab.datasets.augmentation import Augmentation
from fgdlab.lab.datasets.dataset import DetectionDataset
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.teachers import feature_cache as teacher_cache
from fgdlab.lab.teachers.feature_cache import cache_bytes, cache_refusal, get_cache, one_batch


@pytest.fixture
def teacher():
    """Random weights, and norms that have seen a batch, so that eval mode differs from train mode."""
    torch.manual_seed(5)
    teacher = build("retinanet", "compact_t", 10)
    teacher.backbone(torch.randn(4, 3, 64, 64))
    return teacher.eval()


def fill(config, scenes, teacher, key="key"):
    return get_cache(config, scenes, teacher, key, progress=False)


# ---- what is kept ----------------------------------------------------------------------------------------------------

def test_cached_maps_are_the_live_ones_rounded_to_float16(lab_home, tiny_config, tiny_scenes, teacher):
    scenes = tiny_scenes()
    cache = fill(tiny_config(), scenes, teacher)
    with torch.no_grad():
        live = teacher.backbone(teacher.transform([scenes[i][0] for i in range(len(scenes))])[0].tensors)
    for level, key in {"P3": "0", "P4": "1", "P5": "2"}.items():
        cached = cache(scenes.image_ids)[level]
        assert cached.dtype == torch.float32 and cached.shape == (12, 48, 64 >> int(level[1]), 64 >> int(level[1]))
        assert torch.equal(cached, live[key].half().float())


def test_maps_come_in_the_order_that_was_asked_for(lab_home, tiny_config, tiny_scenes, teacher):
    scenes = tiny_scenes()
    cache = fill(tiny_config(), scenes, teacher)
    everything, ids = cache(scenes.image_ids), scenes.image_ids
    some = cache([ids[7], ids[0], ids[7]])
    for level, maps in some.items():
        assert torch.equal(maps, everything[level][[7, 0, 7]])
    with pytest.raises(KeyError):
        cache([10_000])


def test_what_a_caller_writes_into_maps_is_not_kept(lab_home, tiny_config, tiny_scenes, teacher):
    cache = fill(tiny_config(), tiny_scenes(), teacher)
    before = cache([1])["P3"].clone()
    cache([1])["P3"].zero_()
    assert torch.equal(cache([1])["P3"], before) and before.any()


def test_a_last_batch_that_is_not_full_is_kept_too(lab_home, tmp_path, tiny_scenes, teacher, monkeypatch):
    monkeypatch.setattr(teacher_cache, "BATCH_SIZE", 5)
    scenes = tiny_scenes()
    teacher_cache.fill(tmp_path / "maps", scenes, teacher, "cpu", False, 0)
    cache = teacher_cache.TeacherCache(tmp_path / "maps")
    with torch.no_grad():
        assert_close(
            cache(scenes.image_ids)["P4"],
            torch.cat([one_batch(teacher, [image])["P4"] for image, _ in scenes]),
            rtol=2e-3,
            atol=1e-3,
        )


def test_whoever_loads_the_images_the_maps_are_the_same(lab_home, tmp_path, tiny_scenes, teacher, monkeypatch):
    monkeypatch.setattr(teacher_cache, "BATCH_SIZE", 5)
    for name, workers in (("here", 0), ("there", 2)):
        teacher_cache.fill(tmp_path / name, tiny_scenes(), teacher, "cpu", False, workers)
    files = sorted(each.name for each in (tmp_path / "here").iterdir())
    assert len(files) == 4 and all(
        (tmp_path / "here" / each).read_bytes() == (tmp_path / "there" / each).read_bytes() for each in files
    )


@pytest.mark.parametrize("relation", ["gc", "mse", "centred"])
def test_a_distiller_has_the_same_terms_with_cache_and_live(
    lab_home, tiny_config, tiny_scenes, teacher, shake, relation
):
    scenes = tiny_scenes()
    loss = shake(FGDLoss(teacher.levels, 48, 48, FGDConfig(relation=relation)))
    torch.manual_seed(0)
    student = build("retinanet", "compact_s", 10).eval()
    student.transform.train(), student.head.train()
    student.training = True                                          # losses, with norms that stand still
    images, targets = zip(*(scenes[i] for i in (3, 0, 8, 11)), strict=True)
    cache = fill(tiny_config(), scenes, teacher)
    live, cached = (
        {
            (term.name, term.level): term.raw.item()
            for term in Distiller(student, teacher, loss, recall=recall)(list(images), list(targets))
        }
        for recall in (None, cache)
    )
    assert live.keys() == cached.keys() and len(live) == 2 + 3 * 4
    for key, value in live.items():
        assert cached[key] == pytest.approx(value, rel=1e-2), key
        assert value > 0


def test_with_a_cache_the_teacher_does_not_run(lab_home, tiny_config, tiny_scenes, teacher):
    scenes = tiny_scenes()
    cache = fill(tiny_config(), scenes, teacher)
    distiller = Distiller(build("retinanet", "compact_s", 10), teacher, FGDLoss(teacher.levels, 48, 48), recall=cache)
    teacher.backbone.register_forward_pre_hook(lambda *args: pytest.fail("the teacher ran"))
    images, targets = zip(*(scenes[i] for i in range(2)), strict=True)
    assert len(distiller(list(images), list(targets))) == 14


def test_it_is_filled_once_for_each_teacher_and_data(lab_home, tiny_config, tiny_scenes, teacher, monkeypatch):
    filled, real = [], teacher_cache.fill
    monkeypatch.setattr(teacher_cache, "fill", lambda folder, *rest: (filled.append(folder), real(folder, *rest)))
    for scenes, key in [
        (tiny_scenes(), "a"),
        (tiny_scenes(), "a"),
        (tiny_scenes(), "b"),
        (tiny_scenes(limit=5), "a"),
        (tiny_scenes("val"), "a"),
    ]:
        fill(tiny_config(), scenes, teacher, key)
    assert len(filled) == 4 and len(list((lab_home / "teacher_maps").glob("*/index.json"))) == 4


def test_the_size_is_known_before_a_file_is_written(lab_home, tiny_config, tiny_scenes, teacher):
    scenes = tiny_scenes()
    size = 2 * 12 * 48 * (8 * 8 + 4 * 4 + 2 * 2)
    assert cache_bytes(scenes, teacher) == size
    fill(tiny_config(), scenes, teacher)
    (folder,) = [each for each in (lab_home / "teacher_maps").iterdir() if each.is_dir()]
    maps = [np.load(each) for each in sorted(folder.glob("*.npy"))]
    assert sum(each.nbytes for each in maps) == size and {each.dtype for each in maps} == {np.dtype(np.float16)}
    assert json.loads((folder / "index.json").read_text()) == {
        "image_ids": scenes.image_ids,
        "levels": ["P3", "P4", "P5"],
    }


def test_the_size_is_found_on_the_teachers_own_device(tiny_scenes, teacher):
    """A teacher on a GPU must get the image there; the meta device replaces the GPU."""
    assert cache_bytes(tiny_scenes(), teacher.to("meta")) == 2 * 12 * 48 * (8 * 8 + 4 * 4 + 2 * 2)


@pytest.mark.cuda
def test_a_teacher_on_a_card_is_cached_and_recalled_there(lab_home, tiny_config, tiny_scenes, teacher):
    scenes = tiny_scenes()
    on_host = fill(tiny_config(), scenes, teacher, "host")(scenes.image_ids)
    on_gpu = get_cache(tiny_config(), scenes, teacher.cuda(), "gpu", device="cuda", progress=False)(scenes.image_ids)
    for level, maps in on_gpu.items():
        assert maps.is_cuda
        assert_close(maps.cpu(), on_host[level], rtol=1e-2, atol=1e-2)


def test_a_failure_half_way_leaves_nothing_behind(lab_home, tiny_config, tiny_scenes, teacher, monkeypatch):
    def breaks(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(teacher_cache, "write_json", breaks)         # after the maps, before the index
    with pytest.raises(KeyboardInterrupt):
        fill(tiny_config(), tiny_scenes(), teacher)
    assert [each.name for each in (lab_home / "teacher_maps").iterdir() if each.suffix != ".lock"] == []


# ---- why not ---------------------------------------------------------------------------------------------------------

def refused(tiny_config, scenes, teacher, refusal, capsys, words, **settings):
    """Auto says why and goes on without; on is an error with the same reason."""
    config = tiny_config(**settings)
    assert words in cache_refusal(config, scenes, teacher)
    assert get_cache(config, scenes, teacher, "key") is None
    assert capsys.readouterr().out.startswith("no teacher cache: ")
    assert fill(config, scenes, teacher) is None and capsys.readouterr().out == ""
    text = refusal(fill, config.but(teacher_cache="on"), scenes, teacher)
    assert words in text and "use teacher_cache=auto" in text


def test_mirrored_images_are_refused(lab_home, tiny_config, tiny_scenes, teacher, refusal, capsys):
    refused(tiny_config, tiny_scenes(), teacher, refusal, capsys, "augmented (flip=0.5, zoom=0, colour=0)", flip=0.5)


def test_a_bounded_number_of_views_is_cached_view_by_view(lab_home, tiny_config, tiny_scenes, teacher):
    """The maps of each view are those of the pixels that the student sees in it, for every seed."""
    config, maps = tiny_config(flip=0.5, zoom=0.3, colour=0.2, views=2, seed=3), {}
    cache = fill(config, tiny_scenes(), teacher)
    for seed in (3, 4):
        scenes = tiny_scenes()
        for epoch in range(3):
            scenes.augment(Augmentation.of(config), seed, epoch)
            image, target = scenes[5]
            key = (int(target["image_id"]), int(target["view"]))
            assert key[1] == epoch % 2
            live, cached = teacher_cache.one_batch(teacher, [image]), cache([key])
            assert all(torch.allclose(live[level], cached[level], rtol=1e-2, atol=1e-2) for level in live)
            maps[seed, epoch] = cached["P3"]
    assert torch.equal(maps[3, 0], maps[4, 2]) and not torch.equal(maps[3, 0], maps[3, 1])


def test_other_views_have_a_cache_of_their_own(lab_home, tiny_config, tiny_scenes, teacher):
    folders = set()
    for settings in ({}, {"flip": 0.5, "views": 2}, {"flip": 0.5, "views": 1}, {"zoom": 0.5, "views": 2}):
        fill(tiny_config(**settings), tiny_scenes(), teacher)
        folders.add(len(list((lab_home / "teacher_maps").glob("*/index.json"))))
    assert folders == {1, 2, 3, 4}


def test_images_of_several_sizes_are_refused(lab_home, tiny_config, coco_folder, teacher, refusal, capsys):
    scenes = DetectionDataset(read_split(coco_folder([(64, 64), (64, 32), (32, 64), (64, 64)], {}), "all"))
    refused(tiny_config, scenes, teacher, refusal, capsys, "images come in 3 sizes")


def test_more_than_the_bound_is_refused(lab_home, tiny_config, tiny_scenes, teacher, refusal, capsys):
    size = cache_bytes(tiny_scenes(), teacher) / 1e9
    refused(
        tiny_config,
        tiny_scenes(),
        teacher,
        refusal,
        capsys,
        "more than teacher_cache_gb=",
        teacher_cache_gb=size * 0.99,
    )
    assert cache_refusal(tiny_config(teacher_cache_gb=size * 1.01), tiny_scenes(), teacher) is None


def test_off_is_off(lab_home, tiny_config, tiny_scenes, teacher):
    assert (
        fill(tiny_config(teacher_cache="off"), tiny_scenes(), teacher) is None
        and not (lab_home / "teacher_maps").exists()
    )


def test_nothing_stands_against_the_tiny_scenes(lab_home, tiny_config, tiny_scenes, teacher):
    assert cache_refusal(tiny_config(), tiny_scenes(), teacher) is None
    assert fill(tiny_config(teacher_cache="on"), tiny_scenes(), teacher) is not None


def test_a_full_disk_is_one_line(lab_home, tiny_config, tiny_scenes, teacher, refusal, monkeypatch):
    monkeypatch.setattr(teacher_cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    text = refusal(fill, tiny_config(), tiny_scenes(), teacher)
    assert "GB free for the teacher cache" in text and "teacher_cache=off" in text
