"""The notebooks in JupyterLab, without running them: nothing is cut off, missing or unrendered."""

import os
import sys

import pytest

from tests.browser import browser_lab

sys.path.insert(0, str(browser_lab.Path(__file__).parents[2] / "notebooks"))
import build

pytestmark = pytest.mark.browser

LAID_OUT = (
    "mode => window.jupyterapp.serviceManager.settings.save("
    "'@jupyterlab/notebook-extension:tracker', JSON.stringify({windowingMode: mode}))"
)
HEIGHT = (
    "() => Math.max(...[...document.querySelectorAll('.jp-Notebook .jp-Cell')]"
    ".map(cell => cell.getBoundingClientRect().bottom))"
)
TOO_WIDE = "each.scrollWidth > each.clientWidth + 2"
CHECKS = {
    "outputs and texts cut off": "() => [...document.querySelectorAll("
    "'.jp-Notebook .jp-OutputArea-output, .jp-Notebook .jp-RenderedMarkdown')]"
    f".filter(each => {TOO_WIDE}).map(each => each.innerText.slice(0, 80))",
    "lines of code that scroll": "() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .cm-scroller')]"
    f".filter(each => {TOO_WIDE})"
    ".map(each => each.innerText.slice(0, 80))",
    "pictures missing": "() => [...document.querySelectorAll('.jp-Notebook img')]"
    ".filter(each => !each.naturalWidth).map(each => each.outerHTML.slice(0, 80))",
    "formulas with mistakes": "() => [...document.querySelectorAll('.jp-Notebook mjx-merror')]"
    ".map(each => each.outerHTML.slice(0, 120))",
    "formulas left as text": "() => [...document.querySelectorAll('.jp-Notebook .jp-RenderedMarkdown')]"
    ".map(each => each.innerText)"
    ".filter(text => /\\$\\$|\\\\(frac|sum|tag|left)/.test(text)).map(text => text.slice(0, 80))",
}


@pytest.fixture(scope="module")
def read_notebook(lab, browser):
    """read(name) -> a page on a notebook, every cell laid out, not only the visible ones."""
    browser_lab.shutil.copytree(build.HERE / "images", lab.root / "images", dirs_exist_ok=True)

    def set_windowing(mode):
        page = browser_lab.open_notebook(lab, browser, build.HERE / f"{build.names()[0]}.ipynb")
        page.evaluate(LAID_OUT, mode)
        page.close()

    set_windowing("none")
    yield lambda name: browser_lab.open_notebook(lab, browser, build.HERE / f"{name}.ipynb", size=(1400, 1000))
    set_windowing("full")


@pytest.mark.slow
@pytest.mark.parametrize("name", build.names())
def test_notebook_reads_well_from_the_first_to_the_last_cell(name, read_notebook):
    page = read_notebook(name)
    try:
        page.evaluate(browser_lab.HIDE_SIDEBAR)
        page.set_viewport_size({"width": 1400, "height": int(page.evaluate(HEIGHT)) + 300})
        page.wait_for_timeout(1500)
        if folder := os.environ.get("FGDLAB_SCREENSHOTS"):  # for a human check
            page.screenshot(path=f"{folder}/{name}.png")
        found = {what: page.evaluate(script) for what, script in CHECKS.items()}
        assert found == {what: [] for what in CHECKS} and page.complaints == []
    finally:
        page.close()
