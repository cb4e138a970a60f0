"""``make lab`` serves the project, so that run notebooks, reports and sources can be opened from its notebooks."""

import json
import os
import shlex
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.browser.browser_lab import ROOT, TOKEN, stop, wait_for

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A server as the Makefile starts it, without a browser."""
    home = tmp_path_factory.mktemp("home")
    recipe = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    line = next(line for line in recipe.splitlines() if "jupyter lab " in line)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = shlex.split(line.split("jupyter lab ")[1])
    extra = ["--no-browser", f"--port={port}", f"--IdentityProvider.token={TOKEN}", "--ServerApp.allow_root=True"]
    log = home / "lab.log"
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home / "runtime")}
    with log.open("w") as out:
        command = [sys.executable, "-m", "jupyterlab", *options, *extra]
        server = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_for(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(server)


@pytest.mark.parametrize(
    "path", ["notebooks/00_start.ipynb", "ablations/report.ipynb", "fgdlab/masks.py", "README.md"]
)
def test_every_part_of_the_project_can_be_opened(url, path):
    with urllib.request.urlopen(f"{url}/api/contents/{path}?content=0&token={TOKEN}", timeout=20) as answer:
        assert json.load(answer)["path"] == path


def test_it_opens_at_the_first_notebook(url):
    with urllib.request.urlopen(f"{url}/?token={TOKEN}", timeout=20) as answer:
        assert answer.url.split("?")[0].endswith("/lab/tree/notebooks/00_start.ipynb")
