"""Claims and their verdicts: rules on intervals, results that count, and the committed table recomputed."""
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from scipy import stats

from fgdlab.lab.commands.cli import main
from fgdlab.lab.config import active_settings
from fgdlab.lab.errors import UserError
from fgdlab.lab.reports.claims import (
    FAILS,
    HOLDS,
    RULE,
    UNDECIDED,
    UNMEASURED,
    VERDICTS,
    claim_verdicts,
    claims_text,
    rule_verdict,
)
from fgdlab.lab.reports.publishing import publish
from fgdlab.lab.stats.intervals import Estimate
from fgdlab.lab.sweeps.collection import outdated, read_frame, write_results
from fgdlab.lab.sweeps.spec import Sweep, load_sweep, results_file, sweep_names

ROWS = {
    "none": {"label": "no distillation", "paper": {"AP": 37.4}, "set": {"area": "none"}},
    "fg": {"label": "foreground", "paper": {"AP": 39.3}, "set": {"area": "fg"}},
}
SWEEP = {
    "title": "t", "question": "q?", "baseline": "none", "seeds": [0, 1, 2], "base": {"method": "fgd"}, "rows": ROWS,
}
CLAIM = {"claim": "Foreground helps.", "source": "FGD", "sweep": "mine", "rules": ["fg - none > 0"], "decide": "seeds"}


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low, high, relation, bound, verdict", [
    (0.1, 2, ">", 0, HOLDS), (-0.1, 2, ">", 0, UNDECIDED), (-2, -0.1, ">", 0, FAILS), (0.1, 2, ">", 1, UNDECIDED),
    (-2, -0.1, "<", 0, HOLDS), (-2, 0.1, "<", 0, UNDECIDED), (0.1, 2, "<", 0, FAILS), (-3, -2, "<", 1, HOLDS),
    (-0.9, 0.9, "within", 1, HOLDS), (-0.9, 1.1, "within", 1, UNDECIDED), (-3, 3, "within", 1, UNDECIDED),
    (1.1, 2, "within", 1, FAILS), (-2, -1.1, "within", 1, FAILS), (np.nan, np.nan, ">", 0, UNDECIDED),
])
def test_a_rule_holds_if_the_whole_interval_fulfils_it_and_fails_if_no_part_does(low, high, relation, bound, verdict):
    assert rule_verdict(Estimate((low + high) / 2, 1, 3, low, high), relation, bound) == verdict


# --- a project of one sweep -------------------------------------------------------------------------------------------


def results_of(sweep: Sweep, **columns) -> pd.DataFrame:
    """Results with the settings of the sweep: row none has 30, 31, 32 AP, row fg 4, 5 and 6 more."""
    lines = []
    for row, more in (("none", (0, 0, 0)), ("fg", (4, 5, 6))):
        for seed in (0, 1, 2):
            settings = active_settings(sweep.settings(row, seed)).dict()
            lines.append({
                **settings, "sweep": sweep.name, "scale": "laptop", "row": row, "seed": seed, "state": "done",
                "AP": 30.0 + seed + more[seed], "AR": 50.0, "teacher_AP": 60.0 if row == "fg" else None,
                "data": "scenes", "device": "EPYC", "code_hash": "abc", "finished": "2026-11-29T00:00:00",
            } | columns)
    return pd.DataFrame(lines)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with one sweep and its results; call it with other claims, or other results."""
    monkeypatch.chdir(tmp_path)
    Path("ablations/sweeps").mkdir(parents=True)
    Path("ablations/sweeps/mine.yaml").write_text(yaml.safe_dump(SWEEP))

    def make(*claims: dict, results=None, **columns):
        Path("ablations/claims.yaml").write_text(yaml.safe_dump(list(claims or [CLAIM])))
        results = results_of(load_sweep("mine"), **columns) if results is None else results
        write_results(results, Path("ablations/results/mine.csv"))
        return claim_verdicts()[0]

    return make


def test_a_claim_has_the_papers_difference_ours_and_a_verdict(project):
    half = 4.302653 / 3**0.5  # t-interval of three values with std 1
    claim = project()
    assert (claim.paper, claim.verdict, claim.why) == ("+1.9", HOLDS, "")
    assert claim.ours == [f"fg - none > 0: +5.0 [+{5 - half:.1f}, +{5 + half:.1f}] (3)"]


@pytest.mark.parametrize("rules, verdict", [
    (["fg - none > 0", "none - fg < 0"], HOLDS), (["fg - none > 4", "none - fg > 0"], FAILS),
    (["fg - none > 0", "fg - none > 4"], UNDECIDED), (["fg - teacher_AP < 0"], HOLDS), (["fg - none within 1"], FAILS),
])
def test_a_claim_fails_with_one_rule_and_holds_with_all(project, rules, verdict):
    assert project({**CLAIM, "rules": rules}).verdict == verdict


def test_another_score_is_named_beside_its_rule(project):
    assert project({**CLAIM, "metric": "AR"}).ours[0].startswith("AR, fg - none > 0: +0.0")


@pytest.mark.parametrize("claim, columns, why", [
    (CLAIM, {"epochs": 99}, "epochs was 99, is now"), (CLAIM, {"code_hash": None}, "no code hash"),
    (CLAIM, {"state": "failed"}, "no pair of fg and none"), ({**CLAIM, "sweep": "other"}, {}, "no results of other"),
    ({**CLAIM, "metric": "FN"}, {}, "no FN"), ({**CLAIM, "rules": []}, {}, ""),
])
def test_without_a_present_result_a_claim_is_not_measured_and_quotes_nothing(project, claim, columns, why):
    decided = project(claim, **columns)
    assert decided.verdict == UNMEASURED and decided.ours == [] and why in decided.why
    assert why in CliRunner().invoke(main, ["claims"]).stdout.replace("\n", " ") or len(why) > 16


@pytest.mark.parametrize("claim, message", [
    ({**CLAIM, "rules": ["fg > none"]}, "a rule must be 'ROW - ROW > NUMBER'"),
    ({**CLAIM, "rules": ["gf - none > 0"]}, "must name rows of mine, got 'gf'; known: fg, none"),
    ({"claim": "x"}, "a claim must have claim, source, decide"), ({**CLAIM, "rule": "x"}, "maybe more of"),
])
def test_a_mistake_in_the_claims_is_one_line(project, claim, message):
    with pytest.raises(UserError, match=message):
        project(claim)
    assert message in CliRunner().invoke(main, ["claims"]).stderr


def test_publishing_a_result_publishes_the_claims_that_follow_from_it(project):
    project()
    Path("README.md").write_text("# x\n<!-- table claims -->\nyesterday\n<!-- end claims -->\n")
    sweep = load_sweep("mine")
    publish(results_of(sweep), sweep)
    text = Path("README.md").read_text()
    assert "**holds here**" in text and "yesterday" not in text and claims_text(markdown=True).strip() in text
    done = CliRunner().invoke(main, ["claims", "--publish"])
    assert done.exit_code == 0 and "published" in done.stderr and Path("README.md").read_text() == text


# --- results that answer a sweep as it is now -------------------------------------------------------------------------


def test_results_answer_their_sweep_until_a_setting_of_it_changes(project):
    project()
    sweep, frame = load_sweep("mine"), read_frame(Path("ablations/results/mine.csv"))
    assert outdated(frame, sweep, "laptop") == ""
    changes = {"epochs": 99, "lr": 1e-9, "student": "x", "area": "bg", "precision": "x", "teacher_seed": 7}
    for name, value in changes.items():
        assert f"{name} was {value}" in outdated(frame.assign(**{name: value}), sweep, "laptop")
    assert "no device" in outdated(frame.assign(device=None), sweep, "laptop")
    assert "no finished" in outdated(frame.drop(columns="finished"), sweep, "laptop")
    assert "no row 'gone'" in outdated(frame.assign(row="gone"), sweep, "laptop")


def test_the_table_of_such_results_says_so(project):
    project(epochs=99)
    shown = CliRunner().invoke(main, ["table", "mine"])
    assert shown.exit_code == 0
    assert "the sweep would make other runs now, by --set or edit: epochs was 99, is now" in shown.stderr
    project()
    assert "other runs" not in CliRunner().invoke(main, ["table", "mine"]).stderr


def test_a_later_setting_that_results_lack_has_its_default_and_any_other_has_not(project):
    project()
    sweep, frame = load_sweep("mine"), read_frame(Path("ablations/results/mine.csv"))
    assert outdated(frame.drop(columns=["fused", "levels"]), sweep, "laptop") == ""
    assert "epochs was None" in outdated(frame.drop(columns="epochs"), sweep, "laptop")


def test_a_run_that_is_not_done_says_nothing_about_the_results(project):
    project()
    sweep, frame = load_sweep("mine"), read_frame(Path("ablations/results/mine.csv"))
    frame.loc[0, ["state", "code_hash"]] = ["failed", None]
    assert outdated(frame, sweep, "laptop") == ""


# --- the committed claims ---------------------------------------------------------------------------------------------


def recomputed(claim: dict) -> str:
    """The verdict by scipy's paired t-test, from the committed CSV."""
    file = results_file(claim.get("sweep", ""), "laptop")
    if claim.get("sweep") not in sweep_names() or not file.is_file() or not claim.get("rules"):
        return UNMEASURED
    frame, metric = read_frame(file), claim.get("metric", "AP")
    if outdated(frame, load_sweep(claim["sweep"]), "laptop") or metric not in frame or frame[metric].isna().all():
        return UNMEASURED
    found = set()
    for rule in claim["rules"]:
        row, against, relation, bound = RULE.fullmatch(rule).groups()
        a = frame[frame.row == row].set_index("seed")
        b = frame[frame.row == against].set_index("seed")[metric] if against != "teacher_AP" else a["teacher_AP"]
        pairs = (a[metric] - b).dropna()
        if pairs.empty:
            return UNMEASURED
        interval = stats.ttest_1samp(pairs, 0).confidence_interval()
        inside = {">": lambda x, b: x > b, "<": lambda x, b: x < -b, "within": lambda x, b: abs(x) <= b}[relation]
        fulfilled = [bool(inside(x, float(bound))) for x in np.linspace(interval.low, interval.high, 1001)]
        found.add(HOLDS if all(fulfilled) else UNDECIDED if any(fulfilled) else FAILS)
    return next(verdict for verdict in (FAILS, UNDECIDED, HOLDS) if verdict in found)


def test_every_verdict_follows_from_the_committed_runs():
    claims = yaml.safe_load(Path("ablations/claims.yaml").read_text())
    verdicts = claim_verdicts()
    assert [each.verdict for each in verdicts] == [recomputed(claim) for claim in claims]
    assert {each.verdict for each in verdicts} <= set(VERDICTS)


def test_the_recomputation_agrees_on_made_results_with_every_verdict(project):
    for rules, verdict in ((["fg - none > 0"], HOLDS), (["fg - none > 4"], UNDECIDED), (["none - fg > 0"], FAILS)):
        assert project({**CLAIM, "rules": rules}).verdict == recomputed({**CLAIM, "rules": rules}) == verdict


def test_every_claim_of_both_papers_has_a_table_or_figure_a_rule_or_a_way_to_one():
    verdicts = claim_verdicts()
    assert len(verdicts) >= 25 and all(each.claim.endswith(".") and each.decide for each in verdicts)
    sources = " ".join(each.source for each in verdicts)
    assert all(f"Table {number}" in sources or f"and {number}" in sources for number in range(1, 8))
    assert "Fig. 6" in sources and sum(each.source.startswith("FBKD") for each in verdicts) >= 6
    assert all(each.sweep or "rows" in each.decide or "results" in each.decide for each in verdicts)
