"""The saved page, opened from disk without network: every control that it shows works."""

import pytest

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.course.pretrained import pretrained_detector, pretrained_snapshots
from fgdlab.lab.datasets.dataset import open_split
from fgdlab.lab.explorer.explorer import explore
from tests.browser.axe import serious
from tests.browser.test_explorer import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def saved(browser, tmp_path_factory):
    students = {"baseline": pretrained_detector("baseline"), "distilled": pretrained_snapshots()}
    data = open_split(RunConfig(train_images=8, eval_images=6), "val", progress=False)
    ap = {"teacher": 20.0, "baseline": 27.8}  # so that a warning is on screen
    explorer = explore(students, pretrained_detector("teacher"), data, image=2, ap=ap)
    path = explorer.save(tmp_path_factory.mktemp("page") / "view.html", images=[4, 0])
    context = browser.new_context(viewport={"width": 1300, "height": 1100}, offline=True)
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.goto(path.as_uri())
    page.locator(".fgd[data-frames='1']").wait_for()
    yield Page(page), explorer
    assert page.complaints == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_with_a_warning_on_screen_nor_in_a_window(saved, scheme):
    view, _ = saved
    view.page.emulate_media(color_scheme=scheme)
    assert "AP is not above that of baseline" in view.root.locator(".fgd-warning:visible").first.inner_text()
    assert serious(view.page, "body") == []
    for name in ("Gallery", "State", "All channels"):
        view.root.locator("button", has_text=name).first.click()
        assert serious(view.page, "dialog[open]") == []
        view.page.keyboard.press("Escape")
    view.page.emulate_media(color_scheme="light")


def test_the_page_is_one_file_of_three_images(saved):
    view, _ = saved
    assert view.root.locator(".fgd-image output").inner_text() == "of 6; 3 in this file"
    assert view.root.locator("[data-export]").count() == 0  # what needs a kernel is not shown


def test_play_shows_every_checkpoint_of_the_image_shown(saved):
    view, _ = saved
    assert view.titles()[2] == "distilled student-distilled" and view.root.locator(".fgd-point").count() == 2
    view.root.locator(".fgd-play").click()
    view.page.wait_for_function(
        "() => document.querySelectorAll('.fgd-point').length === 6"
        " && document.querySelector('.fgd-play').innerText.includes('Play')"
    )
    ink = view.ink("distilled student-distilled")
    view.press("checkpoint", "Home")
    assert view.ink("distilled step 100") != ink
    view.press("checkpoint", "End")


def test_every_button_of_the_page_works(saved):
    view, _ = saved
    root, number = view.root, view.root.locator('[aria-label="image number"]')
    buttons = root.locator("button:visible").evaluate_all("(all) => all.map((e) => e.ariaLabel || e.innerText)")
    windows = {"Gallery": "Gallery", "State": "State", "help": "?", "All channels": "All channels"}
    rest = {"previous image", "next image", "undo", "redo", "Reset", "▶ Play"}
    assert set(buttons) == {*windows, *rest} and len(buttons) == len(set(buttons))
    for text in windows.values():
        root.locator("button", has_text=text).first.click()
        assert view.page.locator("dialog[open]").count() == 1
        view.page.keyboard.press("Escape")
    view.after(root.locator('[aria-label="next image"]').click)
    assert number.input_value() == "5"
    view.after(root.locator('[aria-label="previous image"]').click)
    view.after(lambda: (number.fill("1"), view.page.keyboard.press("Enter")))
    assert root.locator('input[data-control="image"]').input_value() == "0"
    view.after(root.locator('[aria-label="undo"]').click)
    assert number.input_value() == "3"
    view.after(root.locator('[aria-label="redo"]').click)
    assert number.input_value() == "1"
    view.after(root.locator('[aria-label="undo"]').click)


def test_cells_and_bars_can_be_chosen_and_a_signed_map_marks_its_zero(saved):
    view, _ = saved
    view.after(lambda: view.panel("teacher").click(position={"x": 60, "y": 60}))
    assert view.root.locator(".fgd-what").inner_text().startswith("F in cell row")
    view.after(view.root.locator("button", has_text="Whole map").click)
    assert view.root.locator(".fgd-zero:visible").count() == 1  # of the difference
    view.after(lambda: view.root.locator(".fgd-bars").click(position={"x": 4, "y": 60}))
    assert view.root.locator(".fgd-zero:visible").count() == 3  # a channel has both signs in both networks
    view.after(view.root.locator("button", has_text="Reset").click)


def test_every_control_of_the_page_changes_the_picture(saved):
    view, _ = saved
    view.page.evaluate("() => { location.hash = ''; }")
    for control, label in (
        ("level", "P4"),
        ("quantity", "Loss per cell"),
        ("quantity", "Context of R"),
        ("quantity", "One channel"),
        ("limits", "Own"),
        ("student_name", "baseline"),
        ("view", "All students"),
    ):
        before = (
            [view.ink(title) for title in view.titles()],
            view.titles(),
            view.root.locator(".fgd-ends").all_inner_texts(),
        )
        view.choose(control, label)
        assert (
            [view.ink(title) for title in view.titles()],
            view.titles(),
            view.root.locator(".fgd-ends").all_inner_texts(),
        ) != before
    for label in ("Foreground", "Scale mask", "Both roundings", "Detections"):
        view.toggle(label)
    for name in ("temperature", "alpha", "beta", "gamma", "lambda_", "score"):
        before = view.frames()
        view.press(name, "ArrowLeft")
        assert view.frames() > before
    view.after(view.root.locator("button", has_text="Reset").click)


def test_the_images_of_the_page_are_in_the_gallery_and_its_numbers_are_pythons(saved):
    view, explorer = saved
    view.after(view.root.locator('[aria-label="next image"]').click)
    assert view.root.locator('[aria-label="image number"]').input_value() == "5"
    view.root.locator("button", has_text="Gallery").click()
    view.page.wait_for_function("() => document.querySelectorAll('.fgd-gallery .fgd-thumbnail').length === 3")
    view.after(view.root.locator('.fgd-thumbnail[data-image="0"]').click)
    expected = explorer.set(image=0).numbers()["weighted"].sum()
    assert float(view.root.locator(".fgd-total").inner_text()) == pytest.approx(expected, rel=6e-3)


def test_the_address_holds_the_state(saved):
    view, _ = saved
    view.choose("level", "P5")
    assert "level=%22P5%22" in view.page.url or 'level="P5"' in view.page.url
    view.page.reload()
    view.settle()
    assert view.root.locator('[data-control="level"] input:checked').get_attribute("value") == "P5"
