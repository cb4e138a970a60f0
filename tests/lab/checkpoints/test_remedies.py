"""Checkpoints as other programs write them, and the remedies of refusals: each is carried out as it is printed."""
import argparse
import shlex

import pytest
import torch
from click.testing import CliRunner

from fgdlab.lab.checkpoints.export import export_mmdet
from fgdlab.lab.checkpoints.load import from_file, head_is_loaded, teacher_from_checkpoint
from fgdlab.lab.checkpoints.mmdet import load_mmdet, read_checkpoint, read_state
from fgdlab.lab.checkpoints.safetensors_io import read_facts, save_weights
from fgdlab.lab.commands.cli import main
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.detectors.builder import build

CLASSES = ["square", "disc"]


def prefixed(state: dict, prefix: str) -> dict:
    return {f"{prefix}{name}": each for name, each in state.items()}


def config_of(path, **changes) -> RunConfig:
    return RunConfig.of({"teacher": "compact_s", "teacher_checkpoint": str(path), "device": "cpu", **changes})


@pytest.fixture
def made():
    torch.manual_seed(1)
    return build("retinanet", "compact_s", 2)


def call(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


# ---- wrappers and prefixes -------------------------------------------------------------------------------------------

ARGS = argparse.Namespace(lr=0.02, model="retinanet_resnet50_fpn", aspect_ratio_group_factor=3)
WRITERS = {
    "torchvision's references": lambda state: {"model": state, "optimizer": {}, "lr_scheduler": {}, "args": ARGS},
    "a tutorial of torch": lambda state: {"epoch": 3, "model_state_dict": state, "optimizer_state_dict": {}},
    "Lightning": lambda state: {
        "state_dict": {**prefixed(state, "model."), "metric.count": torch.zeros(1)},
        "pytorch-lightning_version": "2.5.0", "hyper_parameters": {"lr": 0.02}, "loops": {}},
    "Lightning, a module called detector": lambda state: {"state_dict": prefixed(state, "detector.")},
    "torch.compile": lambda state: prefixed(state, "_orig_mod."),
    "Lightning over torch.compile": lambda state: {"state_dict": prefixed(state, "model._orig_mod.")},
    "DistributedDataParallel": lambda state: prefixed(state, "module."),
    "DistributedDataParallel over torch.compile": lambda state: {"model": prefixed(state, "module._orig_mod.")},
    "FSDP": lambda state: prefixed(state, "_fsdp_wrapped_module."),
    "FSDP and checkpointed activations": lambda state: {"state_dict": {
        name.replace("head.", "head._fsdp_wrapped_module._checkpoint_wrapped_module."): each
        for name, each in prefixed(state, "model.").items()}},
    "timm": lambda state: {"epoch": 3, "arch": "retinanet", "state_dict": state, "args": ARGS, "version": 2},
    "an average of the weights alone": lambda state: {"ema": {**prefixed(state, "module."), "n": torch.tensor(7)}},
}


@pytest.mark.parametrize("writer", [name for name in WRITERS if "average" not in name])
def test_checkpoints_of_other_programs_are_loaded_as_they_are(writer, made, tmp_path, same_bits):
    torch.save(WRITERS[writer](made.state_dict()), tmp_path / "t.pth")
    same_bits(from_file(tmp_path / "t.pth", config_of(tmp_path / "t.pth"), CLASSES), made)


def test_an_average_of_the_weights_is_read_where_it_is_alone(made, tmp_path):
    torch.save(WRITERS["an average of the weights alone"](made.state_dict()), tmp_path / "t.pth")
    assert {*made.state_dict()} <= {name.removeprefix("module.") for name in read_state(tmp_path / "t.pth")}


# ---- classes by name -------------------------------------------------------------------------------------------------

def test_a_teacher_whose_header_orders_the_classes_otherwise_is_reordered(made, tmp_path):
    save_weights(made, tmp_path / "t.safetensors", classes=CLASSES, settings={})
    swapped = from_file(tmp_path / "t.safetensors", config_of(tmp_path / "t.safetensors"), CLASSES[::-1])
    ours, theirs = (each.head.classification_head.cls_logits.bias.view(-1, 3) for each in (swapped, made))
    assert torch.equal(ours, theirs[:, [0, 2, 1]])


def test_a_teacher_of_other_classes_is_refused_and_its_pyramid_serves(made, tmp_path, refusal):
    save_weights(made, tmp_path / "t.safetensors", classes=["cat", "dog"], settings={})
    config = config_of(tmp_path / "t.safetensors")
    text = refusal(from_file, tmp_path / "t.safetensors", config, CLASSES)
    assert "a teacher of the data's classes, got ['cat', 'dog'] for ['square', 'disc']" in text
    assert "teacher_parts=backbone+neck" in text
    pyramid = from_file(tmp_path / "t.safetensors", config.but(teacher_parts="backbone+neck"), CLASSES)
    assert not head_is_loaded(pyramid)


META = {
    "2": lambda names: {"CLASSES": tuple(names), "epoch": 24}, "3": lambda names: {"dataset_meta": {"classes": names}},
    "3, older": lambda names: {"dataset_meta": {"CLASSES": names, "PALETTE": [(1, 2, 3)]}},
}


@pytest.mark.parametrize("version", META)
def test_classes_that_mmdetection_notes_are_compared_by_name(version, tmp_path, refusal, same_bits):
    torch.manual_seed(1)
    fcos = build("fcos", "resnet18", 2, flavour="mmdet")
    path, config = tmp_path / "t.pth", config_of(tmp_path / "t.pth", detector="fcos", teacher="resnet18")
    torch.save({"meta": META[version](CLASSES), "state_dict": export_mmdet(fcos)}, path)
    same_bits(from_file(path, config, CLASSES), fcos)
    assert "got ['square', 'disc'] for ['disc', 'square']" in refusal(from_file, path, config, CLASSES[::-1])
    done = call("import", path, "--detector", "fcos", "--backbone", "resnet18", "--out", tmp_path / "t.safetensors")
    assert done.exit_code == 0 and read_facts(tmp_path / "t.safetensors")["classes"] == CLASSES
    same_bits(from_file(tmp_path / "t.safetensors", config, CLASSES), fcos)
    assert "for ['disc', 'square']" in refusal(from_file, tmp_path / "t.safetensors", config, CLASSES[::-1])


@pytest.mark.parametrize("meta", [None, "x", {"CLASSES": None}, {"CLASSES": "person"}, {"CLASSES": [1, 2]}, {}])
def test_without_a_list_of_names_no_class_is_known(meta, tmp_path):
    torch.save({"meta": meta, "state_dict": {"a": torch.zeros(1)}}, tmp_path / "t.pth")
    assert read_checkpoint(tmp_path / "t.pth")[1] == []


# ---- remedies --------------------------------------------------------------------------------------------------------

class Recipe:
    """An object of code that a checkpoint of a training program may hold."""


@pytest.mark.parametrize("content", [
    lambda made: {"model": made.state_dict(), "recipe": Recipe()}, lambda made: made,
    lambda made: {"epoch": 3, "model": made, "recipe": Recipe()}, lambda made: {**made.state_dict(), "step": Recipe()},
])
@pytest.mark.parametrize("name", ["t.pth", "my best 1.pth"])
def test_the_conversion_that_a_refusal_prints_gives_a_file_that_is_read(
    content, name, made, tmp_path, monkeypatch, refusal, same_bits,
):
    monkeypatch.chdir(tmp_path)
    torch.save(content(made), name)
    text = refusal(from_file, tmp_path / name, config_of(name), CLASSES)
    command = text[text.index("python -c"):text.rindex(", then give plain.pth")]
    program, flag, code = shlex.split(command)
    exec(code, {})
    same_bits(from_file(tmp_path / "plain.pth", config_of("plain.pth"), CLASSES), made)


def test_a_file_of_torchvision_that_import_refuses_is_taken_by_a_run(made, tmp_path, same_bits):
    torch.save({"model": made.state_dict(), "args": ARGS}, tmp_path / "t.pth")
    done = call("import", tmp_path / "t.pth", "--detector", "retinanet", "--backbone", "resnet50",
                "--out", tmp_path / "t.safetensors")
    assert done.exit_code == 1 and "give it to a run as it is, by --teacher-checkpoint" in done.stderr
    same_bits(teacher_from_checkpoint(config_of(tmp_path / "t.pth"), CLASSES)[0], made)


def test_a_checkpoint_without_a_classifier_is_imported_with_classes_and_without_strictness(tmp_path):
    made = build("retinanet", "resnet18", 2, flavour="mmdet")
    state = {name: each for name, each in export_mmdet(made).items() if name.startswith(("backbone.", "neck."))}
    torch.save({"state_dict": state}, tmp_path / "t.pth")
    command = ["import", tmp_path / "t.pth", "--detector", "retinanet", "--backbone", "resnet18", "--out",
               tmp_path / "t.safetensors"]
    assert "got none; say --classes" in call(*command).stderr
    assert "or load with strict=False (--no-strict)" in call(*command, "--classes", 2).stderr
    assert call(*command, "--classes", 2, "--no-strict").exit_code == 0


@pytest.mark.parametrize("change, hint, remedy", [
    ("towers", "build FCOS with conv_bias=False, norm_on_bbox=False", {"conv_bias": False, "norm_on_bbox": False}),
    ("cascade", 'parts="backbone+neck"', {}),
])
def test_what_a_refusal_of_mmdetections_names_advises_loads(change, hint, remedy, refusal):
    made = build("fcos", "resnet18", 2, flavour="mmdet", **remedy)
    state, parts = export_mmdet(made), "all"
    if change == "cascade":
        state, parts = state | {"roi_head.bbox_head.0.fc_cls.bias": torch.zeros(3)}, "backbone+neck"
    assert hint in refusal(load_mmdet, build("fcos", "resnet18", 2, flavour="mmdet"), state)
    assert load_mmdet(build("fcos", "resnet18", 2, flavour="mmdet", **remedy), state, parts=parts).copied


def test_names_that_another_flavour_lacks_are_exported_by_the_flavour_that_is_advised(made, tmp_path):
    facts = {"name": "retinanet", "backbone": "resnet18", "classes": 2}
    for flavour, status in (("torchvision", 1), ("mmdet", 0)):
        settings = {**facts, "flavour": flavour}
        save_weights(build(**settings), tmp_path / "s.safetensors", build=settings)
        done = call("export", tmp_path / "s.safetensors", "--out", tmp_path / "s.pth", "--names", "mmdet")
        assert done.exit_code == status, done.output
    assert (tmp_path / "s.pth").exists()
