"""The code that a run executes, as hashes: what changes them, what does not, and which files count."""
import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import fgdlab
from fgdlab.lab.commands.cli import main
from fgdlab.lab.provenance import code
from fgdlab.lab.run import RunFolder
from fgdlab.lab.sweeps.planning import plan
from fgdlab.lab.sweeps.spec import load_sweep

CACHED = (code.code_of, code.file_hashes, code.all_modules, code.imports, code.public_names)
FOCAL = "fgdlab/focal.py"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package's sources that a test may edit; hashes are those of the copy."""
    def forget():
        for function in CACHED:
            function.cache_clear()

    shutil.copytree(Path(fgdlab.__file__).parent, tmp_path / "fgdlab", ignore=lambda folder, names: {
        name for name in names if not (
            name.endswith((".py", ".yaml")) or (Path(folder) / name).is_dir()
        ) or name == "__pycache__"})
    monkeypatch.setattr(code, "ROOT", tmp_path)
    forget()

    def edit(file, before, after):
        text = (tmp_path / file).read_text()
        assert before in text
        (tmp_path / file).write_text(text.replace(before, after))
        forget()

    yield edit
    forget()


def test_an_edited_constant_changes_the_hash_and_names_the_file(copy):
    before = code.code_of("fgd")
    copy(FOCAL, "len(student)", "(len(student) + 0)")
    after = code.code_of("fgd")
    assert after["hash"] != before["hash"] and code.changed_files(before["files"], "fgd") == [FOCAL]


def test_comments_docstrings_layout_and_the_words_of_errors_do_not_change_the_hash(copy):
    before = code.code_of("fgd")
    copy(FOCAL, '"""Focal distillation', '# a comment\n"""Other words about focal distillation')
    copy("fgdlab/attention.py", "temperature must be > 0", "T has to be above 0")
    copy("fgdlab/terms.py", "import torch\n", "import torch\n\n\n")
    assert code.code_of("fgd") == before


def test_data_of_a_module_count_but_not_their_comments_and_layout(copy):
    before, file = code.code_of("fgd"), "fgdlab/lab/checkpoints/mmdet_keys.yaml"
    assert file in before["files"] and not any("scales" in each or "presets" in each for each in before["files"])
    copy(file, "\n", "\n\n# a comment\n")
    assert code.code_of("fgd") == before
    copy(file, "rpn_head.rpn_conv.", "rpn_head.conv.")
    assert code.changed_files(before["files"], "fgd") == [file]


def test_runs_of_other_methods_do_not_depend_on_a_methods_file(copy):
    before = {method: code.code_of(method)["hash"] for method in ("none", "fgd", "pkd", "hint")}
    copy("fgdlab/methods/pkd.py", "class PKD", "EXTRA = 1\n\n\nclass PKD")
    copy(FOCAL, "import Tensor", "import Tensor  # noqa\n\nEXTRA = 1")
    changed = {method for method, value in before.items() if code.code_of(method)["hash"] != value}
    assert changed == {"fgd", "pkd"}


def test_a_file_that_comes_or_goes_is_a_change(copy, tmp_path):
    before = code.code_of("hint")["files"]
    (tmp_path / "fgdlab/methods/extra.py").write_text("x = 1\n")
    copy("fgdlab/methods/hint.py", "class Hint", "from .extra import x  # noqa\n\n\nclass Hint")
    assert code.changed_files(before, "hint") == ["fgdlab/methods/extra.py", "fgdlab/methods/hint.py"]


@pytest.mark.parametrize("method", ["none", "fgd", "fbkd", "gid", "crosskd"])
def test_every_module_that_a_run_imports_counts_or_is_listed_as_without_numbers(method):
    """What a real process has imported after it built the loss, against the import closure."""
    script = (
        "import sys\n"
        "from fgdlab.lab.config import RunConfig\n"
        "import fgdlab.lab.run.one_run\n"
        "from fgdlab.lab.detectors import build\n"
        "from fgdlab.lab.training import make_loss\n"
        f"config = RunConfig(method={method!r})\n"
        "student, teacher = build('retinanet', 'compact_s', 10), build('retinanet', 'compact_t', 10)\n"
        f"{method != 'none'} and make_loss(config, ('P3', 'P4', 'P5'), student, teacher)\n"
        "print('\\n'.join(name for name in sys.modules if name.startswith('fgdlab')))"
    )
    imported = set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )
    counted = code.executed_modules(method)
    packages = {name for name in imported if Path(code.all_modules()[name]).name == "__init__.py"}
    of_methods = code.closure([name for name in code.all_modules() if code.is_method(name)], set())
    uncounted = {name for name in imported - counted - packages - of_methods if not code.computes_nothing(name)}
    assert uncounted == set() and "fgdlab.lab.training.loop" in counted


def test_normalised_sources_keep_every_constant():
    one, two = code.normalised("x = 1\n"), code.normalised("x = 2\n")
    assert one != two and code.normalised('"""words"""\nx = 1  # one\n') == one
    assert code.normalised(
        "if x > 1:\n    raise ValueError('a')"
    ) == code.normalised("if x > 1:\n    raise ValueError('b')")
    assert code.normalised(
        "if x > 1:\n    raise ValueError('a')"
    ) != code.normalised("if x > 2:\n    raise ValueError('a')")
    assert ast.dump(ast.parse("x = 1")) == one
    assert code.normalised("def f(x: int) -> int: return x") == code.normalised("def f(x): return x")
    assert code.normalised("class A:\n    x: int = 1") != code.normalised("class A:\n    x = 1")  # a dataclass's field


def test_dry_run_says_which_runs_are_stale_and_which_file_changed_and_a_comment_leaves_them_done(
    copy, tmp_path, monkeypatch,
):
    """Edit a constant of focal.py: the runs of FGD are stale, the baseline is done."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(fgdlab.__file__).parents[1] / "ablations/sweeps", "ablations/sweeps")
    shutil.copy(Path(fgdlab.__file__).parents[1] / "ablations/run_one.ipynb", "ablations")
    monkeypatch.setattr("fgdlab.lab.teachers.teachers.kept_teacher_hash", lambda config: None)
    for run in plan(load_sweep("table1_areas").at("laptop", [0])):
        here = RunFolder(run.folder)
        here.path.mkdir(parents=True)
        here.begin(run.config.dict(), {})
        here.finish(
            {"AP": 1.0, "AR": 1.0, "seconds": 60.0, "train_seconds": 50.0, "steps": 900, "images_per_second": 100.0}
        )

    def states():
        shown = CliRunner().invoke(main, ["sweep", "table1_areas", "--seeds", "0", "--dry-run"])
        assert shown.exit_code == 0, shown.output
        return [line for line in shown.output.splitlines() if ", seed 0" in line]

    copy(FOCAL, '"""Focal distillation', '# a comment\n"""Focal distillation')
    assert [line.split()[0] for line in states()] == ["done"] * 5
    copy(FOCAL, "len(student)", "(len(student) + 0)")
    lines = states()
    assert [line.split()[0] for line in lines] == ["done", *["stale"] * 4]
    assert all(line.endswith(f"changed: {FOCAL}") for line in lines[1:])
