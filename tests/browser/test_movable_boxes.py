"""The movable boxes of notebook 02, in a page on disk without network and in JupyterLab: mouse, keys, buttons."""

import pytest

from fgdlab.lab.course.boxes import movable_boxes
from tests.browser import browser_lab

pytestmark = pytest.mark.browser

EXAMPLES = {"two boxes": [[16, 8, 40, 32], [50, 20, 54, 30]], "one cell": [[24, 16, 32, 24]]}
CELL = f"import fgdlab.lab.course as c\nc.movable_boxes({EXAMPLES}, (48, 64), (6, 8))"


@pytest.fixture(params=["page", "lab"])
def shown(request, browser, tmp_path):
    if request.param == "lab":
        lab = request.getfixturevalue("lab")
        page = browser_lab.open_and_run(lab, browser, browser_lab.write_notebook(lab.root / "boxes.ipynb", CELL))
    else:
        (tmp_path / "page.html").write_text(f"<!doctype html>{movable_boxes(EXAMPLES, (48, 64), (6, 8)).data}")
        page = browser.new_context(offline=True).new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
    page.locator(".fgdlab-boxes svg").first.wait_for()
    yield page
    assert page.complaints == []
    page.close()


def weights(page):
    return page.locator('.fgdlab-boxes [data-cell^="1,"]').all_text_contents()


def label(page, box=0):
    return page.locator(f'.fgdlab-boxes svg >> nth=0 >> [data-box="{box}"]').get_attribute("aria-label")


def test_boxes_follow_mouse_keys_and_buttons(shown):
    page = shown
    assert page.locator(".fgdlab-boxes").count() == 1 and page.locator(".fgdlab-boxes svg").count() == 2
    assert sorted({*weights(page)}) == ["1/2", "1/37", "1/9"]

    box = page.locator('.fgdlab-boxes svg >> nth=1 >> [data-box="0"] >> rect >> nth=0').bounding_box()
    page.mouse.move(box["x"] + 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 70, box["y"] + 10, steps=4)
    page.mouse.up()
    page.mouse.move(0, 0)
    assert label(page) == "box 1: x 24 to 48, y 4 to 28"

    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert label(page) == "box 1: x 26 to 50, y 4 to 29"

    assert label(page, 1) == "box 2: x 50 to 54, y 20 to 30"
    page.locator('.fgdlab-boxes svg >> nth=0 >> [data-box="1"]').focus()
    page.keyboard.press("ArrowUp")
    assert label(page, 1) == "box 2: x 50 to 54, y 19 to 29"

    page.locator(".fgdlab-boxes select").select_option("one cell")
    assert weights(page).count("1/47") == 47
    page.get_by_label("authors' rounding").check()
    assert weights(page).count("1/4") == 4 and weights(page).count("1/44") == 44
    page.get_by_text("add a box").click()
    assert "for 2 boxes" in page.locator(".fgdlab-boxes").inner_text()
    page.get_by_text("remove the box").click()
    page.get_by_text("remove the box").click()
    assert weights(page) == ["1/48"] * 48
