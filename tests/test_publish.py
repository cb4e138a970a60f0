"""What the README shows is what ablations/results holds, and what the committed results give."""
import re
from pathlib import Path

import pandas as pd
import pytest

from fgdlab.lab.sweeps.file import load_sweep
from fgdlab.lab.sweeps.publish import marked
from fgdlab.lab.tables import render

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PUBLISHED = sorted(path.stem for path in (ROOT / "ablations" / "results").glob("*.csv"))


def test_table_1_is_published_with_its_control_and_on_real_images():
    assert {"table1_areas", "table1_areas_plain", "table1_areas_bccd"} <= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_table_is_what_its_results_give(name):
    results = pd.read_csv(ROOT / "ablations" / "results" / f"{name}.csv", dtype={"row": str})
    assert (ROOT / "ablations" / "results" / f"{name}.md").read_text(encoding="utf-8").strip() == render(results, load_sweep(name).at("laptop"), "markdown").strip()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_results_say_which_clean_commit_made_them(name):
    results = pd.read_csv(ROOT / "ablations" / "results" / f"{name}.csv", dtype={"row": str})
    done = results[results.state == "done"]
    assert done.groupby("row").size().min() >= 3
    assert done.commit.str.fullmatch("[0-9a-f]{12}").all()
    assert not done.dirty.any()


def test_readme_shows_the_published_tables_word_for_word():
    shown = re.findall(r"<!-- table (\S+) -->\n(.*?)<!-- end \1 -->", README, re.DOTALL)
    assert {name for name, _ in shown} >= {"table1_areas", "table1_areas_plain", "table1_areas_bccd"}
    for name, table in shown:
        assert table.strip() == (ROOT / "ablations" / "results" / f"{name}.md").read_text(encoding="utf-8").strip()


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_a_table_goes_between_its_own_marks_only():
    text = "a\n<!-- table x -->\nold\n<!-- end x -->\n<!-- table y -->\nkept\n<!-- end y -->\n"
    assert marked(text, "x", "new") == "a\n<!-- table x -->\nnew\n<!-- end x -->\n<!-- table y -->\nkept\n<!-- end y -->\n"
    assert marked(text, "z", "new") == text
