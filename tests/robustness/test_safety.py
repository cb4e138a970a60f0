"""No code in data is run, nothing is downloaded without request, no server is open to others, and only the project's
own notebook is run. SECURITY.md says the same in words.
"""
import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from papermill.execute import parameterize_notebook
from papermill.iorw import load_notebook_node

import fgdlab
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.detectors.compact import GLYPHS
from fgdlab.lab.errors import UserError
from fgdlab.lab.io import load_yaml
from fgdlab.lab.run import run
from fgdlab.lab.sweeps.spec import load_sweep
from fgdlab.lab.sweeps.worker import MODULES

ROOT = Path(fgdlab.__file__).parents[1]
SOURCES = [                                                         # notebooks are read as they are built, below
    path for pattern in (
        "fgdlab/**/*.py", "benchmarks/**/*.py", "ablations/**/*.py", "notebooks/*.py",
    ) for path in sorted(ROOT.glob(pattern))
]


# --- calls that would run what they read ------------------------------------------------------------------------------

NEVER = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "pickle.load",
    "pickle.loads", "pickle.Unpickler", "dill.load", "joblib.load", "marshal.loads", "marshal.load", "shelve.open",
    "tempfile.mktemp",
    "pandas.read_pickle", "pd.read_pickle", "torch.hub.load", "torch.hub.load_state_dict_from_url",
    "load_state_dict_from_url", "urllib.request.urlopen", "urlopen", "urlretrieve",
}
# a custom loss is code; a named address is downloaded
ONLY = {"exec_module": {"custom_loss.py"}, "download_url_to_file": {"download.py"}}


def unsafe_calls(text: str, file: str = "") -> list[str]:
    """Calls in a Python text that must not be there."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name, last = ast.unparse(node.func), ast.unparse(node.func).rpartition(".")[2]
        settings = {each.arg: ast.unparse(each.value) for each in node.keywords}
        if (
            name in NEVER or file not in ONLY.get(last, {file}) or (
                name == "torch.load" and settings.get("weights_only") != "True"
            )
            or settings.get("shell") == "True" or settings.get("allow_pickle") == "True" or settings.get(
                "trust_remote_code"
            ) == "True"
        ):
            found.append(f"{file}:{node.lineno}: {ast.unparse(node)[:80]}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_the_project_runs_what_it_reads(path):
    text = "\n".join(
        "" if line.lstrip().startswith(("%", "!")) else line for line in path.read_text(encoding="utf-8").splitlines()
    )
    assert unsafe_calls(text, path.name) == []


@pytest.mark.parametrize(
    "path", sorted([*(ROOT / "notebooks").glob("*.ipynb"), ROOT / "ablations/run_one.ipynb"]),
    ids=lambda path: path.name,
)
def test_no_notebook_runs_what_it_reads(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and not text.startswith("%%"):
            assert unsafe_calls(
                "\n".join("" if line.startswith(("%", "!")) else line for line in text.splitlines()), path.name,
            ) == []


@pytest.mark.parametrize("line", [
    "torch.load(p)", "torch.load(p, weights_only=False)", "yaml.load(t)", "pickle.loads(b)", "eval('1')", "exec(t)",
    "os.system('ls')",
    "subprocess.run('ls', shell=True)", "np.load(p, allow_pickle=True)", "spec.loader.exec_module(m)",
    "load_state_dict_from_url(u)", "torch.hub.download_url_to_file(u, p)",
])
def test_the_search_finds_what_it_is_for(line):
    assert len(unsafe_calls(line, "file.py")) == 1


def test_the_search_lets_pass_what_is_safe():
    fine = (
        "torch.load(p, weights_only=True); yaml.safe_load(t); model.eval(); frame.eval('a / b'); re.compile('x'); "
        "np.load(p); run(['ls'])"
    )
    assert unsafe_calls(fine, "file.py") == [] and unsafe_calls("spec.loader.exec_module(m)", "custom_loss.py") == []


# --- text that others wrote -------------------------------------------------------------------------------------------

def test_yaml_gives_plain_values_and_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in (
        "!!python/object/apply:os.system [touch here]", "!!python/name:os.system",
        "!!python/object/new:os.system [touch here]",
    ):
        with pytest.raises(UserError, match="must be YAML"):
            load_yaml(text)
    assert list(tmp_path.iterdir()) == []
    assert load_yaml("{a: [1, 2.5, true, null, x], b: &it {c: d}, e: *it}") == {
        "a": [1, 2.5, True, None, "x"], "b": {"c": "d"}, "e": {"c": "d"},
    }


HOSTILE = [
    'x"\nimport os\nos.system("touch here")\n"', "'; import os #", "\\", '"""', "{out}", "\u2028import os",
    "$(touch here)", "a\r\nb = 1",
]


@pytest.mark.parametrize("text", HOSTILE, ids=repr)
def test_a_setting_reaches_the_notebook_as_a_value_and_never_as_code(text):
    """A folder's name may hold quotes and newlines; papermill writes it into the parameters cell."""
    notebook = parameterize_notebook(
        load_notebook_node(str(ROOT / "ablations/run_one.ipynb")), {**RunConfig(data=text).dict(), "out": text},
    )
    (cell,) = [each for each in notebook.cells if "injected-parameters" in each.metadata.get("tags", [])]
    values = {}
    for node in ast.parse(cell.source).body:
        assert isinstance(node, ast.Assign), ast.unparse(node)
        values[node.targets[0].id] = ast.literal_eval(node.value)
    assert values["data"] == values["out"] == text


# --- notebooks --------------------------------------------------------------------------------------------------------

def test_a_run_is_given_the_projects_notebook_and_no_other(tmp_path):
    """job.json is rewritten before each start and names ablations/run_one.ipynb."""
    from fgdlab.lab.sweeps.execution import start
    from fgdlab.lab.sweeps.planning import plan

    sweep = load_sweep("table1_areas").at("smoke", [0])
    planned = plan(sweep, tmp_path, scale="smoke")[0]
    planned.folder.mkdir()
    (planned.folder / "job.json").write_text(json.dumps({"notebook": str(tmp_path / "evil.ipynb"), "parameters": {}}))
    started = []

    class Pool:
        def submit(self, function, folder, *rest):
            started.append(json.loads(Path(folder, "job.json").read_text())["notebook"])

    start(planned, Pool())
    assert [Path(each) for each in started] == [ROOT / "ablations/run_one.ipynb"]


def test_a_job_may_start_two_modules_of_the_sweeps_and_no_other():
    """That others are refused is in test_worker.py."""
    assert MODULES == ("fgdlab.lab.sweeps.worker", "fgdlab.lab.sweeps.prepare")
    assert all(
        'if __name__ == "__main__":' in (ROOT / f"{module.replace('.', '/')}.py").read_text() for module in MODULES
    )


# --- the network ------------------------------------------------------------------------------------------------------

def test_a_distilled_run_opens_no_connection_and_asks_for_no_name(lab_home, tiny_config, tmp_path, monkeypatch):
    def no(*arguments, **settings):
        raise AssertionError(f"a run went to the network: {arguments[1:] or arguments}")

    for name in ("connect", "connect_ex", "sendto", "bind", "listen"):
        monkeypatch.setattr(socket.socket, name, no)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, no)
    result = run(tiny_config(method="fgd", epochs=1), tmp_path / "run", progress="off")
    assert result["teacher"]["origin"] == "trained now" and result["steps"] == 3
    with pytest.raises(AssertionError, match="went to the network"):
        socket.create_connection(("127.0.0.1", 9))


def test_nothing_is_downloaded_unless_it_is_asked_for():
    """At the smoke and laptop scales, pretrained backbones are the package's own."""
    assert RunConfig().init == RunConfig().teacher_init == "random"
    for path in sorted((ROOT / "ablations/sweeps").glob("*.yaml")):
        sweep = load_sweep(path.stem)
        for config in (sweep.settings(row, 0, scale) for row in sweep.rows for scale in ("smoke", "laptop")):
            for init, backbone in ((config.init, config.student), (config.teacher_init, config.teacher)):
                assert init == "random" or backbone.replace("small", "compact") in GLYPHS, path.name


# --- Jupyter ----------------------------------------------------------------------------------------------------------

def test_make_lab_serves_this_machine_alone_and_asks_for_a_token():
    recipe = re.search(r"^lab:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert "--ip=127.0.0.1" in recipe
    patterns = ("Makefile", ".ci/*", "*.toml", "notebooks/*.py", "tests/browser/*.py", "README.md")
    files = [path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()]
    lines = [(path.name, line) for path in files for line in path.read_text(errors="replace").splitlines()]
    open_door = re.compile(
        r"""(token|password)\s*=\s*(["']{2}|\s|$)|0\.0\.0\.0|--ip=["']?\*|disable_check_xsrf"""
        r"""|allow_origin\s*=\s*["']?\*|allow_remote_access"""
    )
    assert [each for each in lines if open_door.search(each[1])] == []
    assert all(
        open_door.search(line)
        for line in ("--ServerApp.token=''", "--IdentityProvider.token=", "--ip=0.0.0.0", "--ip='*'")
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="ends the server by a signal that Windows lacks")
def test_jupyterlab_takes_the_next_port_and_asks_for_a_token_on_the_loopback_address(tmp_path):
    """As ``make lab`` starts it, on a port that is in use."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = [
            "--ip=127.0.0.1", "--no-browser", f"--port={port}", "--allow-root", f"--ServerApp.root_dir={tmp_path}",
        ]
        environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path), "HOME": str(tmp_path)}
        with open(tmp_path / "log", "w") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "jupyter", "lab", *options], stdout=log, stderr=log, start_new_session=True,
                env=environment,
            )
        try:
            deadline = time.monotonic() + 120
            while not (
                address := re.search(
                    r"http://([\w.]+):(\d+)/lab\?token=([0-9a-f]{40,})", (tmp_path / "log").read_text(),
                )
            ):
                assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.2)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
    assert address[1] in ("127.0.0.1", "localhost") and int(address[2]) != port
    assert f"The port {port} is already in use" in (tmp_path / "log").read_text()
