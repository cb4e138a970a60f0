"""Examples run: those of docstrings in the setting of the API page, and those of the page on training loops."""
import doctest
import inspect
import re
import sys
import types
from functools import partial
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import retinanet_resnet50_fpn

import fgdlab

PAGES = Path(fgdlab.__file__).parents[1] / "notebooks/site"
CLASSES = [name for name in fgdlab.__all__ if inspect.isclass(getattr(fgdlab, name))]


@pytest.fixture(scope="module")
def setting():
    """The names that the API page makes."""
    names: dict[str, object] = {}
    run_examples((PAGES / "api.md").read_text(encoding="utf-8"), names)
    return names


def run_examples(text, names):
    examples = doctest.DocTestParser().get_doctest(text, names, "examples", None, 0)
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    failed, ran = runner.run(examples, out=report.append, clear_globs=False)
    names |= examples.globs
    assert ran > 0 and failed == 0, "".join(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_the_example_of_a_public_class_runs(name, setting):
    run_examples(inspect.getdoc(getattr(fgdlab, name)), dict(setting))


@pytest.mark.slow
def test_a_wrong_example_fails(setting):
    with pytest.raises(AssertionError, match="Expected"):
        run_examples(">>> scene.padded_size\n(1, 2)\n", dict(setting))


BLOCKS = dict(re.findall(
    r"^## (?P<title>.+?)\n(?:(?!^## ).)*?^```python\n(?P<code>.*?)^```",
    "## First step\n" + (PAGES / "training_loop.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    """A distiller after the page's first example, and what its other examples need."""
    torch.manual_seed(0)
    plain = {"weights": None, "weights_backbone": None, "min_size": 128, "max_size": 160}
    names = {"torch": torch, "student": retinanet_resnet50_fpn(**plain), "teacher": retinanet_resnet50_fpn(**plain)}
    batch = [torch.rand(3, 128, 160)], [{"boxes": torch.tensor([[8.0, 8, 60, 50]]), "labels": torch.tensor([1])}]
    names |= {"images": batch[0], "targets": batch[1], "image": batch[0][0], "loader": [batch]}
    exec(BLOCKS["First step"], names)
    return names


def test_the_page_on_training_loops_has_an_example_for_each_tool():
    assert set(BLOCKS) == {
        "First step", "Weights", "Half precision", "Checkpoints", "Average of weights (EMA)", "torch.compile",
        "Several GPUs", "FSDP", "Lightning", "Accelerate", "ONNX"}
    for title, text in BLOCKS.items():
        compile(text, title, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("title", ["Weights", "Half precision", "Checkpoints", "Average of weights (EMA)"])
def test_an_example_of_the_page_on_training_loops_runs(title, loop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[title].replace('"cuda"', '"cpu"'), dict(loop))
    if title == "Checkpoints":
        assert {name.split(".")[0] for name in torch.load("training.pt")} == {"student", "loss"}
        assert torch.load("student.pt").keys() == loop["student"].state_dict().keys()


@pytest.fixture
def small(loop, retinanet, batch):
    """The names of ``loop`` with a small distiller, for what takes long or changes it."""
    distiller = fgdlab.Distiller(retinanet(), retinanet(16), fgdlab.FGDLoss(("P3", "P4"), 8, 16)).train()
    optimizer = torch.optim.AdamW(distiller.parameters())
    return loop | {"distiller": distiller, "optimizer": optimizer, "loader": [batch], "image": batch[0][0]} | dict(
        zip(("images", "targets"), batch, strict=True))


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("title", ["Several GPUs", "FSDP"])
def test_the_example_of_several_processes_runs_in_one(title, small, one_process):
    exec(BLOCKS[title].replace('"cuda"', '"cpu"'), small)
    assert all(each.grad is not None for each in small["distiller"].parameters())


@pytest.mark.slow
def test_the_example_of_torch_compile_gives_the_terms_without_it(small, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    exec(BLOCKS["torch.compile"], small)
    plain = small["distiller"](small["images"], small["targets"])
    assert [term.raw.item() for term in small["terms"]] == pytest.approx([term.raw.item() for term in plain], rel=1e-5)


@pytest.mark.slow
def test_the_example_of_onnx_gives_the_students_best_scores(small, tmp_path, monkeypatch):
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    small["distiller"].student.score_thresh = 0.0
    exec(BLOCKS["ONNX"], small)
    session = onnxruntime.InferenceSession("student.onnx")
    _, scores, _ = session.run(None, {session.get_inputs()[0].name: small["image"].numpy()})
    with torch.no_grad():
        (found,) = small["distiller"].student([small["image"]])
    assert scores[:20] == pytest.approx(found["scores"][:20].numpy(), abs=1e-5) and len(scores) > 20


@pytest.mark.slow
def test_the_example_of_accelerate_takes_a_step(small, monkeypatch):
    """On a stand-in, since Accelerate is no dependency."""
    class Accelerator:
        def prepare(self, *objects):
            return objects

        def backward(self, loss):
            loss.backward()

    monkeypatch.setitem(sys.modules, "accelerate", types.SimpleNamespace(Accelerator=Accelerator))
    before = {name: each.clone() for name, each in small["distiller"].named_parameters()}
    exec(BLOCKS["Accelerate"], small)
    moved = {name for name, each in small["distiller"].named_parameters() if not torch.equal(each, before[name])}
    assert small["loss"].isfinite() and {name.split(".")[0] for name in moved} == {"student", "loss"}


@pytest.mark.slow
def test_the_example_of_lightning_logs_each_term(loop, monkeypatch):
    """On a stand-in of its base class, since Lightning is no dependency."""
    logged = {}

    class Base(torch.nn.Module):
        def log_dict(self, values):
            logged.update(values)

    monkeypatch.setitem(sys.modules, "lightning", types.SimpleNamespace(LightningModule=Base))
    names = dict(loop)
    exec(BLOCKS["Lightning"], names)
    module = names["Distillation"](loop["distiller"])
    module.training_step(loop["loader"][0], 0).backward()
    assert {"fg/P3", "global/P7", "classification/all"} <= set(logged)
    assert isinstance(module.configure_optimizers(), torch.optim.AdamW)
