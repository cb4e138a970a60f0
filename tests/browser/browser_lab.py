"""A real JupyterLab in headless Chromium, for tests, benchmarks and screenshots.

    with jupyter_lab(folder) as lab, chromium() as browser:
        page = open_and_run(lab, browser, "notebook.ipynb")  # every cell has run

Needs playwright (pip) and a chromium on PATH or in $FGDLAB_CHROMIUM; ``absent()`` says what is missing.
"""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the project
TOKEN = "fgdlab"
NAMES = ("chromium", "chromium-browser", "google-chrome")
KERNEL_READY = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.context.ready; await panel.sessionContext.ready; await panel.sessionContext.session.kernel.info;
}"""
# false if a cell fails
RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells').then(done => !!done)"
HIDE_SIDEBAR = "() => { window.jupyterapp.shell.collapseLeft(); }"


@dataclass(frozen=True)
class Lab:
    """A running server. ``root`` is the folder it serves."""

    url: str
    root: Path


def browser_path() -> str | None:
    return os.environ.get("FGDLAB_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def absent() -> str | None:
    """Names of missing programs, None if all are there."""
    missing = [name for name in ("playwright", "jupyterlab") if importlib.util.find_spec(name) is None]
    missing += [] if browser_path() else ["chromium"]
    return f"{', '.join(missing)} not installed" if missing else None


@contextmanager
def jupyter_lab(root: Path, **environment: str) -> Iterator[Lab]:
    """JupyterLab on this machine only, with separate settings; stopped afterwards together with its kernels.

    Args:
        root: the folder it serves. environment: further variables of the server and its kernels.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        home = Path(scratch)
        (home / "labconfig").mkdir()
        quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        (home / "labconfig" / "page_config.json").write_text(json.dumps(quiet))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folders = {
            name: str(home / name.lower())
            for name in ("JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
        }
        log = home / "lab.log"
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={port}",
            f"--IdentityProvider.token={TOKEN}",
            "--ServerApp.allow_root=True",
            f"--ServerApp.root_dir={root}",
            "--LabApp.expose_app_in_browser=True",
        ]
        with log.open("w") as out:
            server = subprocess.Popen(
                command,
                env={**os.environ, "JUPYTER_CONFIG_DIR": str(home), **folders, **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(server, url, log)
            yield Lab(url, Path(root))
        finally:
            stop(server)


def wait_for(server: subprocess.Popen, url: str, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"JupyterLab must start, but it ended with {server.returncode}:\n{log.read_text()}")
        try:
            urllib.request.urlopen(f"{url}/api?token={TOKEN}", timeout=1).read()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"JupyterLab must answer within {seconds:g} s, but it did not:\n{log.read_text()}")


def stop(server: subprocess.Popen) -> None:
    """Stop the server and its kernels, which share its process group."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(5)


@contextmanager
def chromium():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def open_notebook(
    lab: Lab,
    browser,
    notebook: Path | str,
    *,
    size: tuple[int, int] = (1300, 1000),
    scale: float = 1,
    timeout: float = 60,
):
    """A page on a notebook, which is copied into the served folder; its kernel is ready, no cell has run.

    Returns:
        playwright's Page, with ``complaints``: a list that console errors and exceptions of the page go to.
    """
    notebook = Path(notebook)
    if notebook.resolve().parent != lab.root.resolve():
        shutil.copy(notebook, lab.root)
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale)
    page.set_default_timeout(1000 * timeout)
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{lab.url}/lab/workspaces/{notebook.stem}/tree/{notebook.name}?token={TOKEN}&reset")
    page.wait_for_selector(".jp-NotebookPanel")
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    page.evaluate(KERNEL_READY)  # the toolbar says idle before the kernel exists
    return page


def run_all(page) -> None:
    """Run every cell. Raises AssertionError with the outputs where a cell fails."""
    if not page.evaluate(RUN_ALL):
        raise AssertionError("\n".join(["a cell failed:", *page.locator(".jp-OutputArea-output").all_inner_texts()]))


def run_code(page, code: str) -> str:
    """Run code in the kernel of the notebook, outside of its cells, and return what it prints."""
    return page.evaluate(
        """async (code) => {
        const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        const future = kernel.requestExecute({ code });
        let text = '';
        future.onIOPub = (message) => {
            if (message.header.msg_type === 'stream') text += message.content.text;
        };
        await future.done; return text; }""",
        code,
    )


def open_and_run(lab: Lab, browser, notebook: Path | str, **settings):
    """:func:`open_notebook`, then :func:`run_all`."""
    page = open_notebook(lab, browser, notebook, **settings)
    page.evaluate(HIDE_SIDEBAR)
    run_all(page)
    return page


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of code cells."""
    import nbformat

    document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    document.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(document, path)
    return path
