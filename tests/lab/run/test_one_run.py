"""One run from settings to result.json: complete or absent, repeatable, with its provenance."""
import json
import math
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch.utils.data import DataLoader

from fgdlab.lab.checkpoints.safetensors_io import read_facts
from fgdlab.lab.config.scales import SCALES, scale_settings
from fgdlab.lab.datasets import dataset as lab_data
from fgdlab.lab.datasets.digits import FIRST_ID
from fgdlab.lab.io import lock_file
from fgdlab.lab.run import device_of, load_run, make_distiller, prepare, run
from fgdlab.lab.run import folder as lab_folder
from fgdlab.lab.run import one_run as lab_run
from fgdlab.lab.training import loop as lab_train
from fgdlab.lab.training.evaluate import SCORES

VAL_IDS = [*range(FIRST_ID["val"], FIRST_ID["val"] + 8)]

FGD = {"method": "fgd", "rounding": "exact", "epochs": 1}
FILES = {
    "params.json", "identity.json",
    "code.json",
    "metrics.jsonl",
    "checkpoint.pt",
    "student.safetensors",
    "detections.json",
    "result.json",
}


def quiet_run(config, folder):
    return run(config, folder, progress="off")


@pytest.fixture(scope="module")
def finished(scene_cache, tmp_path_factory, tiny_config):
    """(settings, folder, result, files before result.json was written, cache folder) of one distilled run."""
    config, folder = tiny_config(**FGD), tmp_path_factory.mktemp("runs") / "fgd"
    home = tmp_path_factory.mktemp("home")
    (home / "data").symlink_to(scene_cache / "data")
    there = []

    def write_json(path, value, real=lab_folder.write_json):
        if path.name == "result.json":
            there.extend(each.name for each in folder.iterdir())
        real(path, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGDLAB_HOME", str(home))
        patch.setattr(lab_folder, "write_json", write_json)
        result = quiet_run(config, folder)
    return config, folder, result, there, home


# ---- what a run leaves -----------------------------------------------------------------------------------------------

def test_result_json_comes_last(finished):
    _, folder, _, there, _ = finished
    assert set(there) - {"lock"} == FILES - {"result.json"}
    assert {each.name for each in folder.iterdir()} - {"lock"} == FILES


def test_the_result_holds_scores_settings_and_provenance(finished):
    config, folder, result, *_ = finished
    assert result == json.loads((folder / "result.json").read_text())
    assert {
        *SCORES,
        "AP_per_class",
        "teacher_AP",
        "seconds",
        "train_seconds",
        "images_per_second",
        "peak_memory_gb",
        "parameters",
        "data_line",
    } <= result.keys()
    assert all(result[name] is None or 0 <= result[name] <= 100 for name in SCORES) and 0 <= result["AP"] <= 100
    assert result["settings"] == config.dict() and result["steps"] == 3 and len(result["AP_per_class"]) == 10
    assert result["teacher"]["origin"] == "trained now" and len(result["teacher"]["weights"]) == 12
    assert {"commit", "dirty", "python", "packages", "device", "cores", "threads", "finished"} <= result[
        "provenance"
    ].keys()
    assert result["provenance"]["packages"]["torch"] == version("torch")
    assert (
        result["data_line"]
        == "digit scenes with look-alikes, 64 px; 12 training images, 8 evaluation images of split val"
    )


def test_the_result_names_no_folder_of_this_machine(finished):
    _, folder, result, _, home = finished
    text = json.dumps(result)
    assert all(str(place) not in text for place in (folder, folder.parent, home, Path.home(), Path.cwd()))


def test_params_json_are_the_settings_and_the_student_carries_them(finished):
    config, folder, result, *_ = finished
    assert json.loads((folder / "params.json").read_text()) == config.dict()
    facts = read_facts(folder / "student.safetensors")
    assert facts["settings"] == config.dict() and facts["classes"] == [str(digit) for digit in range(10)]
    assert facts["AP"] == pytest.approx(result["AP"])


def test_every_level_of_every_term_is_in_the_metrics(finished):
    found = {
        (row["name"], row["level"]) for row in map(json.loads, (finished[1] / "metrics.jsonl").read_text().splitlines())
    }
    assert {(name, level) for name in ("fg", "bg", "attention", "global") for level in ("P3", "P4", "P5")} < found


def test_a_finished_run_is_returned_and_not_trained_again(finished, monkeypatch):
    config, folder, result, *_ = finished
    for name in ("train", "prepare", "detections"):
        monkeypatch.setattr(lab_run, name, lambda *args, **settings: pytest.fail("ran again"))
    assert quiet_run(config, folder) == result


def test_other_settings_in_the_same_folder_are_refused_by_name(finished, refusal):
    config, folder, *_ = finished
    before = (folder / "params.json").read_bytes()
    text = refusal(quiet_run, config.but(alpha=0.5, seed=3), folder)
    assert "got other values for alpha, seed" in text and "choose another folder" in text
    assert (folder / "params.json").read_bytes() == before


def test_a_finished_run_can_be_loaded_for_figures(finished, monkeypatch, same_bits):
    config, folder, result, _, home = finished
    monkeypatch.setenv("FGDLAB_HOME", str(home))
    its_config, its_result, student, eval_set, teacher = load_run(folder)
    assert its_config == config and its_result == result and eval_set.image_ids == VAL_IDS
    assert (
        not student.training
        and not teacher.detector.training
        and result["teacher_AP"] == teacher.AP
        and teacher.origin == "cached"
    )
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["distiller"]
    same_bits(
        student, {name.removeprefix("student."): value for name, value in state.items() if name.startswith("student.")}
    )


def test_an_unfinished_run_cannot_be_loaded(tmp_path, refusal):
    assert "must hold a finished run, got no result.json" in refusal(load_run, tmp_path)


def test_detections_are_in_cocos_result_format(lab_home, tiny_config, tmp_path, monkeypatch):
    one = {"image_id": VAL_IDS[0], "category_id": 3, "bbox": [1.0, 2.0, 20.0, 30.0], "score": 0.5}
    monkeypatch.setattr(lab_run, "detections", lambda *args, **settings: [dict(one)])
    quiet_run(tiny_config(epochs=1), tmp_path / "run")
    assert json.loads((tmp_path / "run/detections.json").read_text()) == [one]


def test_whatever_a_run_loads_its_workers_decode(lab_home, tiny_config, tmp_path, monkeypatch):
    seen = []

    def loader(*args, **settings):
        seen.append((settings["num_workers"], len(args[0].dataset)))
        return DataLoader(*args, **settings)

    monkeypatch.setattr(lab_data, "DataLoader", loader)
    quiet_run(tiny_config(method="fgd", epochs=2, workers=2), tmp_path / "run")
    assert seen == [
        (2, 12),
        (2, 8),
        (2, 12),
        (2, 12),
        (2, 8),
    ]  # teacher trained, evaluated, its maps; student trained, evaluated


# ---- interrupted -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("broken", ["train", "detections", "all_scores", "save_weights"])
def test_a_run_that_breaks_has_no_result_and_goes_on_to_the_same_one(finished, monkeypatch, tmp_path, broken):
    config, folder, result, _, home = finished
    monkeypatch.setenv("FGDLAB_HOME", str(home))

    def breaks(*args, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lab_run, broken, breaks)
        quiet_run(config, tmp_path / "run")
    assert not (tmp_path / "run/result.json").exists()
    again = quiet_run(config, tmp_path / "run")
    assert again["resumed_at"] == (0 if broken == "train" else 3)
    same_result(again, result, tmp_path / "run", folder)


def test_a_run_killed_in_the_middle_of_training_goes_on_to_the_same_result(finished, monkeypatch, tmp_path):
    config, folder, result, _, home = finished
    monkeypatch.setenv("FGDLAB_HOME", str(home))

    def killed_after_the_second(where, step, *rest, real=lab_train.save):
        real(where, step, *rest)
        if step == 2:
            raise KeyboardInterrupt

    straight = quiet_run(config.but(checkpoint_every=1), tmp_path / "straight")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(lab_train, "save", killed_after_the_second)
        quiet_run(config.but(checkpoint_every=1), tmp_path / "run")
    again = quiet_run(config.but(checkpoint_every=1), tmp_path / "run")
    assert again["resumed_at"] == 2 and straight["resumed_at"] == 0
    same_result(again, straight, tmp_path / "run", tmp_path / "straight")
    assert [straight[name] for name in SCORES] == [result[name] for name in SCORES]


def same_result(again, result, its_folder, folder):
    assert {name: again[name] for name in (*SCORES, "AP_per_class", "teacher_AP", "data_hashes", "settings")} == {
        name: result[name] for name in (*SCORES, "AP_per_class", "teacher_AP", "data_hashes", "settings")}
    for name in ("metrics.jsonl", "detections.json", "student.safetensors"):
        assert (its_folder / name).read_bytes() == (folder / name).read_bytes(), name


def test_two_processes_cannot_run_in_one_folder(lab_home, tiny_config, tmp_path, refusal, monkeypatch):
    monkeypatch.setattr(lab_folder, "lock_file", lambda path, timeout, busy: lock_file(path, 0.05, busy))
    with FileLock(tmp_path / "lock"):
        assert "another process is running in it" in refusal(quiet_run, tiny_config(epochs=1), tmp_path)


# ---- device ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_cuda_without_a_gpu_is_an_error_and_no_silent_cpu(without_cuda, lab_home, tiny_config, tmp_path, refusal):
    text = refusal(quiet_run, tiny_config(device="cuda"), tmp_path / "run")
    assert "device=cuda must find a CUDA GPU, got none" in text and "device=cpu" in text
    assert (device_of(tiny_config(device="auto")), device_of(tiny_config(device="cpu"))) == ("cpu", "cpu")


def test_the_folder_of_a_run_that_found_no_gpu_serves_the_next_one(
    without_cuda, lab_home, tiny_config, tmp_path, refusal
):
    """The error advises device=cpu, so the same folder must take it."""
    refusal(quiet_run, tiny_config(device="cuda", epochs=1), tmp_path / "run")
    assert quiet_run(tiny_config(device="cpu", epochs=1), tmp_path / "run")["steps"] == 3


@pytest.mark.cuda
def test_a_distilled_run_works_on_a_gpu(lab_home, tiny_config, tmp_path):
    result = quiet_run(tiny_config(**FGD, device="cuda"), tmp_path / "run")
    assert result["steps"] == 3 and result["provenance"]["device"] == torch.cuda.get_device_name()


# ---- rows of a sweep -------------------------------------------------------------------------------------------------

NOTHING_LEFT = [
    {"method": "none"},
    {"method": "fgd", "area": "none", "gamma": 0, "lambda_": 0},
    {"method": "fgd", "alpha": 0, "beta": 0, "gamma": 0, "lambda_": 0},
    {"method": "fgd", "area": "none", "spatial_attention": False, "channel_attention": False, "relation": "none"},
]


@pytest.mark.parametrize("settings", NOTHING_LEFT, ids=["none", "no area", "no weight", "all switched off"])
def test_without_a_term_no_teacher_is_needed(lab_home, tiny_config, monkeypatch, settings):
    monkeypatch.setattr(lab_run, "get_teacher", lambda *args, **settings: pytest.fail("a teacher was asked for"))
    inputs = prepare(tiny_config(**settings), progress=False)
    assert inputs.teacher is None and inputs.cache is None
    distiller = make_distiller(tiny_config(**settings), inputs)
    assert distiller.loss is None and distiller.teacher is None


def test_a_run_without_teacher_says_so(lab_home, tiny_config, tmp_path):
    result = quiet_run(tiny_config(**NOTHING_LEFT[1], epochs=1), tmp_path / "run")
    assert result["teacher"] is None and result["teacher_AP"] is None and not (lab_home / "teachers").exists()


def test_rows_of_the_same_seed_start_from_the_same_student(finished, monkeypatch, bits, same_bits):
    config, *_, home = finished
    monkeypatch.setenv("FGDLAB_HOME", str(home))
    rows = [
        {},
        {"area": "fg"},
        {"area": "bg", "relation": "none"},
        {"method": "none"},
        {"alpha": 0.5, "relation": "nonlocal"},
        {"teacher_cache": "off"},
        {"area": "none", "gamma": 0, "lambda_": 0},
        {"lr": 0.1, "epochs": 7, "optimizer": "sgd"},
    ]
    students = []
    for number, row in enumerate(rows):
        torch.manual_seed(number)                                    # wherever the process stood before
        torch.rand(number)
        settings = config.but(**row)
        students.append(bits(make_distiller(settings, prepare(settings, progress=False)).student))
    for each in students[1:]:
        same_bits(each, students[0])
    with pytest.raises(AssertionError):
        same_bits(bits(make_distiller(config.but(seed=1), prepare(config, progress=False)).student), students[0])


def test_the_same_settings_give_the_same_weights_and_scores(finished, monkeypatch, tmp_path):
    config, folder, result, _, home = finished
    monkeypatch.setenv("FGDLAB_HOME", str(home))
    again = quiet_run(config, tmp_path / "again")
    assert (tmp_path / "again/student.safetensors").read_bytes() == (folder / "student.safetensors").read_bytes()
    assert [again[name] for name in SCORES] == [result[name] for name in SCORES]


def test_the_loss_imitates_the_levels_that_both_have(lab_home, tiny_config, finished, monkeypatch):
    config, *_, home = finished
    monkeypatch.setenv("FGDLAB_HOME", str(home))
    mixed = config.but(student="resnet18", teacher_cache="off")
    distiller = make_distiller(mixed, prepare(mixed, progress=False))
    assert distiller.loss.levels == ("P3", "P4", "P5") and distiller.loss.align["P3"].weight.shape[:2] == (48, 256)


@pytest.mark.parametrize("split", ["tune", "train-tune"])
def test_a_run_may_be_evaluated_on_another_split(lab_home, tiny_config, split):
    inputs = prepare(tiny_config(eval_split=split, eval_images=8), progress=False)
    assert inputs.eval_set.annotations.split == split and not {*inputs.eval_set.image_ids} & {*VAL_IDS}


def test_the_smoke_scale_is_small(tiny_config):
    assert SCALES["smoke"]["train_images"] <= 64 and scale_settings("smoke")["epochs"] == 1


def test_a_distilled_student_is_finite(finished):
    assert all(
        math.isfinite(row["weighted"])
        for row in map(json.loads, (finished[1] / "metrics.jsonl").read_text().splitlines())
    )


@pytest.mark.slow
def test_the_smoke_scale_runs_every_way_that_the_paper_table_needs(lab_home, tmp_path):
    """The five rows of Table 1, one seed, at the scale of CI."""
    from fgdlab.lab.config.run_config import RunConfig

    aps = {}
    for area in ("none", "fg", "bg", "both", "split"):
        config = RunConfig.of({**scale_settings("smoke"), "method": "fgd", "gamma": 0, "lambda_": 0, "area": area})
        aps[area] = quiet_run(config, tmp_path / area)["AP"]
    assert len(aps) == 5 and all(0 <= each <= 100 for each in aps.values())


def test_an_unknown_level_is_refused_before_a_teacher_is_trained(tiny_config, tmp_path, refusal, monkeypatch):
    monkeypatch.setattr(
        "fgdlab.lab.run.one_run.prepare", lambda *given, **settings: pytest.fail("nothing must be made")
    )
    assert "'P9'; known: P3, P4, P5" in refusal(run, tiny_config(method="fgd", levels="P3,P9"), tmp_path / "run")
