"""The weights that a training ends with: an average, or the best on the tune split."""
import math
import shutil

import pytest
import torch
from torch import nn

from fgdlab.lab.datasets import open_split
from fgdlab.lab.training import kept_weights
from fgdlab.lab.training.kept_weights import EarlyStopping, moving_average
from fgdlab.lab.training.loop import learning_rate, train

GROUP = kept_weights.ProcessGroup()


def one_weight(value: float) -> nn.Module:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def test_the_average_is_a_plain_mean_at_first_and_then_forgets():
    module, decay, seen, expected = one_weight(9.0), 0.75, [1.0, 3.0, 8.0, 2.0, 6.0, 0.0], 0.0
    average = moving_average(module, decay)
    for n, value in enumerate(seen, start=1):
        nn.init.constant_(module.weight, value)
        average.update_parameters(module)
        expected = expected + max(1 - decay, 1 / n) * (value - expected)
        assert float(average.module.weight.detach()) == pytest.approx(expected)
    assert expected != pytest.approx(sum(seen) / len(seen)) and float(module.weight.detach()) == 0


def test_the_average_counts_the_statistics_of_norms_too():
    norm = nn.BatchNorm2d(2)
    average = moving_average(norm, 0.5)
    for value in (1.0, 3.0):
        norm.running_mean.fill_(value)
        average.update_parameters(norm)
    assert average.module.running_mean.tolist() == [2.0, 2.0]


@pytest.fixture
def stopping(lab_home, tiny_config, tiny_scenes, monkeypatch):
    """stopping(APs, **settings) -> EarlyStopping that measures these AP one after the other."""
    def of(aps, **settings):
        found = iter(aps)
        monkeypatch.setattr(kept_weights, "detections", lambda *_, **__: [])
        monkeypatch.setattr(kept_weights, "coco_scores", lambda *_: {"AP": next(found)})
        return EarlyStopping(tiny_config(**settings), tiny_scenes(), "cpu", GROUP)

    return of


def test_it_is_over_after_so_many_evaluations_without_a_better_one_and_has_the_best_weights(stopping):
    early, over = stopping([1.0, 5.0, 5.0, 4.0], patience=2), []
    for step, weight in enumerate([1.0, 5.0, 5.5, 4.0], start=1):
        line = early.evaluate(step, one_weight(weight))
        over.append(early.over)
    assert over == [False, False, False, True] and early.history == {1: 1.0, 2: 5.0, 3: 5.0, 4: 4.0}
    assert line == "step 4: AP 4.0 on tune, best 5.0" and float(early.weights["weight"]) == 5.0


def test_plateau_lowers_the_rate_twice_before_it_ends(stopping, tiny_config):
    early = stopping([3.0] * 9, patience=2, schedule="plateau")
    cuts = []
    for step in range(1, 8):
        early.evaluate(step, one_weight(0.0))
        cuts.append((early.cuts, early.over))
    assert cuts == [(0, False), (0, False), (1, False), (1, False), (2, False), (2, False), (2, True)]
    config = tiny_config(schedule="plateau", patience=1, warmup=0.5, lr=0.1)
    assert [learning_rate(step, 4, config) for step in range(4)] == pytest.approx([0.05, 0.1, 0.1, 0.1])


def test_a_checkpoint_brings_back_what_was_measured(stopping):
    early, later = stopping([], patience=2), stopping([3.0, 2.0], patience=2)
    early.evaluate(1, one_weight(7.0))
    later.load_state_dict(early.state_dict())
    assert later.history == {1: 3.0} and float(later.weights["weight"]) == 7.0 and later.since == 0


@pytest.mark.parametrize("split", ["train", "val", "train-tune", "all"])
def test_images_that_are_trained_or_reported_are_no_tune_split(lab_home, tiny_config, tiny_scenes, refusal, split):
    config = tiny_config(patience=1, tune_split=split)
    text = refusal(EarlyStopping, config, tiny_scenes(), "cpu", GROUP)
    assert text.startswith("tune_split must have no image of training or evaluation, got ") and "train-fit" in text


def test_an_image_is_the_same_whatever_its_name_and_a_new_one_under_an_old_name_is_none(
    coco_folder, tiny_config, refusal,
):
    data = coco_folder([(64, 64)] * 3, {i: [(5, 5, 9 + i, 20, 3, 0)] for i in (1, 2, 3)},
                       splits={"train": [1], "val": [2], "tune": [3]})
    config = tiny_config(data=str(data), patience=1)
    assert len(EarlyStopping(config, open_split(config, "train"), "cpu", GROUP).dataset) == 1
    names = {n: open_split(config, split).entries[0]["file_name"] for n, split in ((1, "train"), (3, "tune"))}
    shutil.copy(data / "images" / names[1], data / "images" / names[3])
    text = refusal(EarlyStopping, config, open_split(config, "train"), "cpu", GROUP)
    assert "no image of training or evaluation, got 1 in 'tune'" in text


def test_plateau_without_patience_is_refused(tiny_config, tiny_scenes, tiny_distiller, refusal):
    text = refusal(train, tiny_distiller(0, None), tiny_scenes(), tiny_config(schedule="plateau"))
    assert text.startswith("schedule=plateau must go with patience")


def test_a_training_that_ends_early_says_when_and_what_it_measured(
    lab_home, tiny_config, tiny_scenes, tiny_distiller, capsys
):
    """Without a learning rate no evaluation is better than the first, so patience 1 ends it at the second."""
    config = tiny_config(patience=1, tune_every=2, lr=0.0)
    done = train(tiny_distiller(0, None), tiny_scenes(), config, progress="lines")
    assert done["steps"] == 4 and [*done["tune_AP"]] == [2, 4] and math.isfinite(done["images_per_second"])
    assert "step 4: AP 0.0 on tune, best 0.0" in capsys.readouterr().out


def test_steps_decide_in_place_of_epochs(tiny_config, tiny_scenes, tiny_distiller):
    done = train(tiny_distiller(0, None), tiny_scenes(), tiny_config(train_steps=4, epochs=1), progress="off")
    assert done["steps"] == 4  # 3 steps an epoch


def test_the_student_ends_with_its_average(tiny_config, tiny_scenes, tiny_distiller, monkeypatch):
    made, real = [], kept_weights.moving_average
    monkeypatch.setattr(
        "fgdlab.lab.training.loop.moving_average", lambda *args: made.append(real(*args)) or made[-1])
    distiller = tiny_distiller(0, None)
    train(distiller, tiny_scenes(), tiny_config(ema=0.9, train_steps=3), progress="off")
    for name, value in made[0].module.state_dict().items():
        assert torch.equal(value, distiller.student.state_dict()[name]), name
