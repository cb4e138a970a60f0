"""Weights on disk, with facts in the header."""
import pytest
import torch
from torch import nn

from fgdlab.lab.checkpoints.safetensors_io import load_weights, read_facts, save_weights, weights_hash
from fgdlab.lab.detectors.builder import build


@pytest.fixture
def compact():
    return build("retinanet", "compact_s", 4)


def test_weights_and_facts_come_back(tmp_path, compact, same_bits):
    facts = {"AP": 41.25, "settings": {"lr": 1e-3, "area": "split"}, "seed": 3, "classes": ["a", "ä"]}
    save_weights(compact, tmp_path / "deep" / "w.safetensors", **facts)
    torch.manual_seed(5)
    other = build("retinanet", "compact_s", 4)
    assert (
        load_weights(other, tmp_path / "deep" / "w.safetensors")
        == facts
        == read_facts(tmp_path / "deep" / "w.safetensors")
    )
    same_bits(other, compact)
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["w.safetensors"]


def test_a_path_may_be_text(tmp_path, compact, same_bits):
    save_weights(compact, str(tmp_path / "w.safetensors"))
    assert load_weights(compact, str(tmp_path / "w.safetensors")) == {}


def test_strange_layouts_are_saved_as_they_look(tmp_path):
    layer = nn.Linear(3, 2, bias=False)
    layer.weight = nn.Parameter(torch.arange(6.0).view(3, 2).t())                    # a view that is not contiguous
    save_weights(layer, tmp_path / "w.safetensors")
    other = nn.Linear(3, 2, bias=False)
    load_weights(other, tmp_path / "w.safetensors")
    assert other.weight.tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize(
    "backbone, classes, first", [("compact_t", 4, "backbone."), ("compact_s", 5, "head.classification_head.")]
)
def test_weights_of_another_architecture_are_refused_and_nothing_is_loaded(
    tmp_path, compact, refusal, bits, same_bits, backbone, classes, first
):
    save_weights(compact, tmp_path / "w.safetensors")
    other = build("retinanet", backbone, classes)
    before = bits(other)
    text = refusal(load_weights, other, tmp_path / "w.safetensors")
    assert (
        "w.safetensors must hold the weights of this detector" in text
        and f"the first '{first}" in text
        and "check backbone and classes" in text
    )
    same_bits(other, before)


@pytest.mark.parametrize(
    "content", [b"", b"half", b"PK\x03\x04 a zip file, as torch.save writes", b"\x00" * 64, b"\xff" * 64]
)
def test_another_kind_of_file_is_refused(tmp_path, compact, refusal, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    for text in (
        refusal(load_weights, compact, tmp_path / "w.safetensors"),
        refusal(read_facts, tmp_path / "w.safetensors"),
    ):
        assert "must be a .safetensors file" in text


def test_a_file_cut_off_is_refused(tmp_path, compact, refusal):
    save_weights(compact, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[:len(content) // 2])
    assert "must be a .safetensors file" in refusal(load_weights, compact, tmp_path / "w.safetensors")


def test_a_missing_file_or_a_folder_is_refused(tmp_path, compact, refusal):
    for path in (tmp_path / "none.safetensors", tmp_path):
        assert f"weights must be a file, got '{path}'" in refusal(load_weights, compact, path)


def test_a_file_without_facts_has_none(tmp_path, compact):
    from safetensors.torch import save_file

    save_file(dict(compact.state_dict()), tmp_path / "w.safetensors")
    assert load_weights(compact, tmp_path / "w.safetensors") == {}


def test_the_key_of_weights_changes_with_the_weights(tmp_path, compact):
    save_weights(compact, tmp_path / "a.safetensors")
    save_weights(compact, tmp_path / "b.safetensors")
    assert weights_hash(tmp_path / "a.safetensors") == weights_hash(tmp_path / "b.safetensors")
    with torch.no_grad():
        next(compact.parameters()).add_(1)
    save_weights(compact, tmp_path / "b.safetensors")
    assert weights_hash(tmp_path / "a.safetensors") != weights_hash(tmp_path / "b.safetensors")
