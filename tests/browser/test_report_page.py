"""The report of Table 1, opened from disk without network: its table of runs sorts, filters and prints; and the same in
a notebook, over a sweep that runs."""

from shutil import copyfile

import pytest

from fgdlab.lab.reports import write_report
from fgdlab.lab.sweeps import ablations_folder
from tests.browser.axe import serious
from tests.browser.browser_lab import run_code, write_notebook

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(browser, tmp_path_factory):
    """The page of the committed results."""
    folder = tmp_path_factory.mktemp("report")
    context = browser.new_context(viewport={"width": 1300, "height": 1000}, offline=True)
    page, fetched, complaints = context.new_page(), [], []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    copyfile(ablations_folder() / "results" / "table1_areas.csv", folder / "results.csv")
    path = write_report("table1_areas", runs=folder, out=folder / "report.html", seeds=[0, 1, 2])
    page.goto(path.as_uri())
    page.locator(".runs tbody tr").first.wait_for()
    yield page
    assert complaints == [] and [url for url in fetched if not url.startswith(("file:", "data:"))] == []
    context.close()


def heading(page, name: str):
    return page.locator(f'.runs th[data-column="{name}"]')


def test_a_click_on_a_heading_sorts_and_a_second_one_reverses(report):
    assert report.locator(".runs tbody tr").count() == 15
    heading(report, "AP").locator("button").click()
    assert heading(report, "AP").get_attribute("aria-sort") == "descending"
    found = [float(each) for each in report.locator(".runs tbody tr td:nth-child(4)").all_inner_texts()]
    assert found == sorted(found, reverse=True) and len(set(found)) > 5
    report.keyboard.press("Enter")  # the focus is still on the heading
    again = [float(each) for each in report.locator(".runs tbody tr td:nth-child(4)").all_inner_texts()]
    assert again == found[::-1]


def test_words_and_choices_filter_and_all_runs_takes_them_back(report):
    report.get_by_label("Show runs with").fill("split 2")
    rows = report.locator(".runs tbody tr")
    assert 0 < rows.count() < 15 and all("2" in text for text in rows.all_inner_texts())
    report.locator(".runs button", has_text="All runs").click()
    assert rows.count() == 15
    report.locator('.runs select[data-column="row"]').select_option("no distillation")
    assert rows.count() == 3 and report.locator(".runs output").inner_text() == "3 of 15 runs"
    assert all("–" in text for text in rows.all_inner_texts())  # a plain student has no weights of a loss
    report.locator(".runs button", has_text="All runs").click()


def test_a_click_on_a_point_marks_its_run(report):
    point = report.locator(".runs-points a").nth(4)
    label = point.locator("title").text_content()
    point.locator("circle").click()
    chosen = report.locator(".runs tr[data-chosen]")
    assert chosen.count() == 1
    row, seed = chosen.locator("th").inner_text(), chosen.locator("td").first.inner_text()
    assert label.startswith(f"{row}, seed {seed}: AP ")


def test_the_printed_page_has_every_run_and_no_controls(report):
    report.emulate_media(media="print")
    assert report.locator(".runs-controls").is_hidden()
    scroll = report.locator(".runs-scroll")
    assert scroll.evaluate("(e) => e.scrollHeight <= e.clientHeight + 1")
    assert report.pdf(format="A4").startswith(b"%PDF")
    report.emulate_media(media="screen")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(report, scheme):
    report.emulate_media(color_scheme=scheme)
    assert serious(report, "body") == []
    report.emulate_media(color_scheme="light")


def test_a_watched_sweep_follows_its_runs(open_and_run, tmp_path):
    cells = ("from fgdlab.lab.reports import watch", 'table = watch("table1_areas", "smoke", "watched", [0])\ntable')
    page = open_and_run(write_notebook(tmp_path / "watch.ipynb", *cells))
    rows = page.locator(".runs tbody tr")
    rows.first.wait_for()
    assert rows.count() == 5 and all("pending" in text for text in rows.all_inner_texts())
    assert page.locator(".runs-status").inner_text().startswith("to do: 5 of 5 runs")
    log = """
import json
from fgdlab.lab.sweeps import load_sweep, plan
first, *others = plan(load_sweep("table1_areas").at("smoke", [0]), "watched", scale="smoke")
first.here.request({})
first.here.begin(first.config.dict(), {})
(first.folder / "metrics.jsonl").write_text("".join(
    json.dumps({"step": step, "name": "classification", "level": "all", "raw": 1.0, "weighted": 1 / step}) + chr(10)
    for step in (1, 2, 3)))
first.here.fail("it <ended> badly")
"""
    assert run_code(page, log) == ""
    page.locator(".runs td", has_text="it <ended> badly").wait_for()
    assert rows.first.inner_text().count("failed") == 1 and page.locator(".runs-curves polyline").count() == 1
    assert page.complaints == []
