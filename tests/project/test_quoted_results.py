"""Which committed results each document quotes, when and by which code they were made, and whether they still count.

A document may quote a result while its settings are those of its sweep, and the runs name code hash, machine and time.
"""
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import fgdlab
from fgdlab.lab.stats import estimate, paired_difference, values_by_seed
from fgdlab.lab.sweeps.collection import outdated, read_frame
from fgdlab.lab.sweeps.spec import load_sweep, of_scale, results_file
from tests.helpers.published import published

ROOT = Path(fgdlab.__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks/src").glob("*.py"))
DOCUMENTS = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "ablations/README.md", *NOTEBOOKS]
RESULTS = {of_scale(*each): each for each in published()}
QUOTES = (
    r"results/([\w.{}*-]+)\.(?:csv|md|png)", r"<!-- table ([\w-]+) -->\n(?!Not measured yet)",
    r'(?:Table|Report|SweepRuns)\.of\("([\w-]+)"',
)


def quoted(text: str) -> set[str]:
    """Names of the committed results in a text; braces and stars stand for any letters."""
    names = {re.sub(r"\{[^}]*\}", "*", name) for pattern in QUOTES for name in re.findall(pattern, text)}
    return {name for name in RESULTS for pattern in names if fnmatchcase(name, pattern)}


def why_not(name: str) -> str:
    """Why a committed result must not be quoted, with its dates and code; "" if it may be."""
    sweep, scale = RESULTS[name]
    frame = read_frame(results_file(sweep, scale))
    why = outdated(frame, load_sweep(sweep).at(scale), scale)
    days = sorted({str(day)[:10] for day in frame["finished"].dropna()})
    codes = sorted(set(frame["code_hash"].dropna())) if "code_hash" in frame else []
    made = f"made {days[0]} to {days[-1]} by code {', '.join(codes) or 'unknown'}" if days else "of unknown age"
    return f"{name}: {why} ({made})" if why else ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_quotes_no_result_whose_sweep_has_changed_since(document):
    found = [why_not(each) for each in sorted(quoted(document.read_text(encoding="utf-8")))]
    old = "\n".join(filter(None, found))
    assert not old, f"run `fgdlab sweep NAME`, then `fgdlab table NAME --publish`; or quote nothing of:\n{old}"


def test_quotes_are_found_in_links_marks_notebooks_and_patterns():
    some = sorted(RESULTS)[0]
    for text in (f"[t](ablations/results/{some}.md)", f"![f](results/{some}.png)", f"<!-- table {some} -->\n| a |",
                 f'pd.read_csv("../ablations/results/{some}.csv")', f'Table.of("{some}")'):
        assert quoted(text) == {some}
    assert quoted('Path("../ablations/results").glob("*.csv")') == set() and quoted("results/none_such.md") == set()
    assert quoted(f"<!-- table {some} -->\nNot measured yet with the present settings") == set()
    assert quoted('f"../ablations/results/{name}.csv"') == set(RESULTS)


def test_every_result_that_counts_is_shown_in_the_document_of_tables():
    text = (ROOT / "ablations/README.md").read_text(encoding="utf-8")
    for name in RESULTS:
        found = re.search(rf"<!-- table {name} -->\n(.*?)<!-- end {name} -->", text, re.DOTALL)
        if not why_not(name):
            assert found and found[1].strip() == results_file(*RESULTS[name]).with_suffix(".md").read_text().strip()


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_a_published_row_names_code_machine_and_time_or_must_not_be_quoted(name):
    frame = read_frame(results_file(*RESULTS[name]))
    done = frame[frame.state == "done"]
    named = {"code_hash", "device", "finished", "seconds"} <= set(done) and not done[
        ["code_hash", "device", "finished", "seconds"]
    ].isna().any(axis=None)
    assert named or why_not(name)


@pytest.mark.parametrize("document", ["README.md", "README.zh-CN.md"])
def test_the_paragraphs_on_results_have_the_numbers_of_schedule_and_methods(document):
    runs, of_methods = (read_frame(results_file(name, "laptop")) for name in ("schedule", "methods"))

    def ap(row: str) -> float:
        return values_by_seed(runs, row, "AP").mean()

    def crossing(split_4, split_8, alone):  # epochs, on the line between 4 and 8
        return 4 + 4 * (alone - split_4) / (split_8 - split_4)

    def difference(row: str, baseline: str, runs=runs) -> list[str]:
        d = paired_difference(runs, row, baseline, "AP")
        return [f"{d.mean:.1f} AP", f"[{d.low:.1f}, {d.high:.1f}]"]

    split_4, split_8, alone = ap("split_4"), ap("split_8"), ap("none_8")
    of_seeds = estimate(crossing(*(values_by_seed(runs, row, "AP") for row in ("split_4", "split_8", "none_8"))))
    expected = [
        f"{alone:.1f} AP", f"{split_4:.1f} AP", f"{split_8:.1f} AP", *difference("none_16", "none_8"),
        *difference("split_8", "none_8"), *difference("split_16", "none_16"),
        f" {crossing(split_4, split_8, alone):.0f}", f"{of_seeds.mean:.1f} ",
        f"[{of_seeds.low:.1f}, {of_seeds.high:.1f}]",
        f"{runs.teacher_AP.min():.1f}", f"{runs.teacher_AP.max():.1f} AP",
    ]
    for row in ("defeat", "mgd", "fgd", "fbkd"):
        expected.append(" ".join(difference(row, "none", of_methods)))
    text = (ROOT / document).read_text(encoding="utf-8").split("<!-- table claims -->")[0]
    assert [each for each in expected if each not in text] == []


@pytest.mark.parametrize("document", ["README.md", "README.zh-CN.md"])
def test_the_price_of_a_step_is_that_of_its_benchmark(document):
    steps = json.loads((ROOT / "benchmarks/results/laptop_step.json").read_text(encoding="utf-8"))["steps"]
    over_plain = {each["what"]: each["over_plain"] for each in steps}
    text = (ROOT / document).read_text(encoding="utf-8").split("<!-- table claims -->")[0]
    for name in ("areas, cached teacher", "areas, live teacher"):
        assert f" {100 * (over_plain[name] - 1):.0f} %" in text
