"""One server and one browser for all tests of this folder.

If they are missing, the tests are skipped; with FGDLAB_BROWSER=required they fail.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tests.browser import browser_lab


@pytest.fixture(scope="session", autouse=True)
def browser_there():
    reason = browser_lab.absent()
    if reason and os.environ.get("FGDLAB_BROWSER") == "required":
        pytest.fail(f"FGDLAB_BROWSER=required, but {reason}")
    if reason:
        pytest.skip(f"skipped, because {reason}")


@pytest.fixture(scope="session")
def lab(browser_there, tmp_path_factory):
    """A JupyterLab that serves an empty folder and keeps its data in a cache of its own."""
    root, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    with browser_lab.jupyter_lab(root, FGDLAB_HOME=str(home), OMP_NUM_THREADS="1") as running:
        yield running


@pytest.fixture(scope="session")
def browser(browser_there):
    with browser_lab.chromium() as running:
        yield running


@pytest.fixture(scope="session")
def open_and_run(lab, browser):
    """open_and_run(notebook, **settings) -> a page whose cells have all run; pages are closed at the end."""
    pages = []

    def go(notebook, **settings):
        pages.append(browser_lab.open_and_run(lab, browser, notebook, **settings))
        return pages[-1]

    yield go
    for page in pages:
        page.close()
