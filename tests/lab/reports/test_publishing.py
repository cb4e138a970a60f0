"""What the README shows is what ablations/results holds, and what the committed results give."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from benchmarks import own_data
from fgdlab.lab.commands.cli import main
from fgdlab.lab.errors import UserError
from fgdlab.lab.provenance import code_of
from fgdlab.lab.reports.claims import claims_text
from fgdlab.lab.reports.publishing import publish, replace_table
from fgdlab.lab.sweeps.collection import read_results
from fgdlab.lab.sweeps.spec import load_sweep, of_scale
from fgdlab.lab.tables.numbers import render
from tests.helpers.published import published

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "ablations" / "results"
PUBLISHED = published()
EACH = pytest.mark.parametrize("name, scale", PUBLISHED, ids=[of_scale(*each) for each in PUBLISHED])


def committed(name: str, scale: str, suffix: str) -> Path:
    return RESULTS / f"{of_scale(name, scale)}{suffix}"


def test_table_1_is_published():
    assert ("table1_areas", "laptop") in PUBLISHED


@EACH
def test_a_published_table_is_what_its_results_give(name, scale):
    results = pd.read_csv(committed(name, scale, ".csv"), dtype={"row": str})
    assert (
        committed(name, scale, ".md").read_text(encoding="utf-8").strip()
        == render(results, load_sweep(name).at(scale), "markdown").strip()
    )


@EACH
def test_a_published_file_holds_runs_of_the_scale_in_its_name_alone(name, scale):
    assert set(pd.read_csv(committed(name, scale, ".csv"))["scale"]) == {scale} and scale != "smoke"
    assert committed(name, scale, ".png").is_file()


@EACH
def test_published_results_say_which_clean_commit_made_them(name, scale):
    results = pd.read_csv(committed(name, scale, ".csv"), dtype={"row": str})
    done = results[results.state == "done"]
    assert done.groupby("row").size().min() >= 3
    assert done.commit.str.fullmatch("[0-9a-f]{12}").all()
    assert not done.dirty.any()


def test_documents_show_the_published_tables_and_claims_word_for_word():
    tables = (ROOT / "ablations/README.md").read_text(encoding="utf-8")
    shown = re.findall(r"<!-- table (\S+) -->\n(.*?)<!-- end \1 -->", README + tables, re.DOTALL)
    assert {name for name, _ in shown} >= {"claims", "table1_areas", "table1_areas_plain", "own_data"}
    for name, table in shown:
        if name == "claims":
            assert table.strip() == claims_text(markdown=True).strip(), "run `fgdlab claims --publish`"
        elif name == "own_data":
            assert table.strip() == own_data.table(json.loads((ROOT / own_data.PATH).read_text())["folders"])
        elif not table.startswith("Not measured yet"):
            assert table.strip() == (RESULTS / f"{name}.md").read_text(encoding="utf-8").strip()


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_a_table_goes_between_its_own_marks_only():
    text = "a\n<!-- table x -->\nold\n<!-- end x -->\n<!-- table y -->\nkept\n<!-- end y -->\n"
    assert (
        replace_table(text, "x", "new")
        == "a\n<!-- table x -->\nnew\n<!-- end x -->\n<!-- table y -->\nkept\n<!-- end y -->\n"
    )
    assert replace_table(text, "z", "new") == text


# --- results of several scales side by side ---------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one sweep, with sections for two of its scales in the README."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ablations/sweeps").mkdir(parents=True)
    rows = {"none": {"label": "none", "set": {"method": "none"}}, "fgd": {"label": "FGD", "set": {"method": "fgd"}}}
    mine = {"title": "Mine", "question": "Which?", "baseline": "none", "seeds": [0, 1], "rows": rows}
    Path("ablations/sweeps/mine.yaml").write_text(yaml.safe_dump(mine))
    Path("README.md").write_text(
        "".join(f"<!-- table {name} -->\nempty\n<!-- end {name} -->\n" for name in ("mine", "mine-gpu"))
    )


def of_runs(scale: str, gain: float) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "sweep": "mine",
                "scale": scale,
                "row": row,
                "seed": seed,
                "state": "done",
                "AP": 10.0 + seed + more,
                "AR": 20.0,
                "device": scale,
            }
            for row, more in (("none", 0.0), ("fgd", gain))
            for seed in (0, 1)
        ]
    )


def put(frame: pd.DataFrame, scale: str) -> None:
    """The runs where `fgdlab sweep` would leave them."""
    path = Path("runs") / of_scale("mine", scale) / "results.csv"
    path.parent.mkdir(parents=True)
    frame.to_csv(path, index=False)


def fgdlab(*words: str):
    return CliRunner().invoke(main, words)


def test_another_scale_is_published_beside_scale_laptop(project):
    for scale, gain in (("laptop", 1.0), ("gpu", 7.0)):
        put(of_runs(scale, gain), scale)
        assert fgdlab("table", "mine", "--scale", scale, "--publish").exit_code == 0
    assert sorted(path.name for path in Path("ablations/results").iterdir()) == [
        f"mine{scale}.{kind}" for scale in ("-gpu", "") for kind in ("csv", "md", "png")
    ]
    assert published() == [("mine", "gpu"), ("mine", "laptop")]
    laptop, gpu = Path("README.md").read_text().split("<!-- end mine -->")
    assert (
        "+1.0 [" in laptop
        and "+7.0 [" not in laptop
        and "+7.0 [" in gpu
        and "+1.0 [" not in gpu
        and "empty" not in laptop + gpu
    )


def test_runs_of_older_code_are_counted_by_the_command_and_not_in_what_is_published(project):
    current = {method: code_of(method)["hash"] for method in ("none", "fgd")}
    frame = of_runs("laptop", 1.0)
    frame["method"] = frame["row"]
    frame["code_hash"] = frame["method"].map(current).mask(frame["row"] == "fgd", "0123456789ab")
    put(frame, "laptop")
    done = fgdlab("table", "mine", "--format", "markdown", "--publish")
    assert done.exit_code == 0 and "- 2 of 4 runs were made by older code" in done.stdout
    shown = Path("ablations/results/mine.md").read_text(encoding="utf-8")
    assert "older code" not in shown + Path("README.md").read_text() and "All 4 runs are done." in shown
    assert set(pd.read_csv("ablations/results/mine.csv")["code_hash"]) == {current["none"], "0123456789ab"}
    frame.drop(columns="code_hash").to_csv("runs/mine/results.csv", index=False)
    assert "made before code hashes were recorded" in " ".join(fgdlab("table", "mine").stdout.split())


def test_committed_results_are_read_at_their_own_scale_alone(project):
    put(of_runs("laptop", 1.0), "laptop")
    assert fgdlab("table", "mine", "--publish").exit_code == 0
    shutil.rmtree("runs")
    assert "+1.0 [" in fgdlab("table", "mine").stdout
    for command in ("table", "report", "seeds"):
        done = fgdlab(command, "mine", "--scale", "gpu")
        assert (
            done.exit_code == 1
            and done.stdout == ""
            and done.stderr.startswith("Error: results of mine at scale gpu must be in runs/mine-gpu/results.csv or ")
        )
        assert done.stderr.endswith("mine-gpu.csv, got none; run `fgdlab sweep mine --scale gpu` first\n")
    of_runs("gpu", 7.0).to_csv("ablations/results/mine-gpu.csv", index=False)
    assert "+7.0 [" in fgdlab("table", "mine", "--scale", "gpu").stdout and "+1.0 [" in fgdlab("table", "mine").stdout


def test_smoke_is_refused_by_one_line_and_nothing_is_written(project):
    put(of_runs("smoke", 1.0), "smoke")
    done = fgdlab("table", "mine", "--scale", "smoke", "--publish")
    assert (
        done.exit_code == 1
        and done.stdout == ""
        and done.stderr.count("\n") == 1
        and "must be of scale laptop or gpu, got smoke" in done.stderr
    )
    assert not Path("ablations/results").exists()
    assert fgdlab("table", "mine", "--scale", "smoke").exit_code == 0


def test_a_file_that_mixes_scales_is_refused(project):
    mixed = pd.concat([of_runs("laptop", 1.0), of_runs("gpu", 7.0)])
    sweep = load_sweep("mine").at("laptop")
    with pytest.raises(
        UserError,
        match=r"what is published as mine.csv must hold runs of scale laptop alone, got runs of gpu; say --scale gpu",
    ):
        publish(mixed, sweep)
    assert not Path("ablations/results").exists()
    put(mixed, "laptop")
    with pytest.raises(UserError, match=r"results.csv must hold runs of scale laptop alone, got runs of gpu"):
        read_results(sweep, "laptop", Path("runs/mine"))


@pytest.mark.parametrize("name", ["mine-gpu", "mine-smoke", "mine-laptop"])
def test_no_sweep_is_called_like_the_results_of_a_scale(project, name):
    shutil.copy("ablations/sweeps/mine.yaml", f"ablations/sweeps/{name}.yaml")
    with pytest.raises(UserError, match="the name of a sweep must not end in -"):
        load_sweep(name)
