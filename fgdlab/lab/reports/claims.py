"""The papers' claims, and whether they hold here: each verdict follows from committed results by a rule.

    ablations/claims.yaml, ablations/results --claim_verdicts--> verdicts --claims_text--> `fgdlab claims`, README
"""
import re
from typing import NamedTuple

import pandas as pd
from tabulate import tabulate

from ..errors import UserError
from ..io import load_yaml
from ..stats import Estimate, estimate, values_by_seed
from ..sweeps import ablations_folder, load_sweep, outdated, read_frame, results_file, sweep_names
from ..tables import DASH, difference_text

KEYS = {"claim", "source", "numbers", "metric", "sweep", "rules", "decide"}
RULE = re.compile(r"(\S+) - (\S+) (>|<|within) (\d+(?:\.\d+)?)")
HOLDS, FAILS, UNDECIDED, UNMEASURED = VERDICTS = ("holds here", "does not hold here", "undecided", "not measured yet")
MEANING = (
    "Δ: mean difference of two rows of a sweep, paired by seed, with its 95 % t-interval and the number of pairs, in "
    "points of AP where no other score is named. A rule holds if the whole interval fulfils it, does not hold if no "
    "part does, and is undecided otherwise. A claim holds if all its rules do, and does not if one of them does not. "
    "Intervals are not corrected for the number of claims."
)


class ClaimVerdict(NamedTuple):
    """A claim as text for a table. ``why``: why it is not measured; else ""."""

    claim: str
    source: str
    paper: str
    ours: list[str]
    verdict: str
    decide: str
    sweep: str
    why: str


def rule_verdict(difference: Estimate, relation: str, bound: float) -> str:
    """Whether the difference is > ``bound``, < -``bound``, or within both, by its whole interval or no part of it."""
    low, high = (-difference.high, -difference.low) if relation == "<" else (difference.low, difference.high)
    if relation == "within":
        holds, fails = -bound <= low and high <= bound, low > bound or high < -bound
    else:
        holds, fails = low > bound, high <= bound
    return HOLDS if holds else FAILS if fails else UNDECIDED


def claim_verdicts() -> list[ClaimVerdict]:
    """All claims of ablations/claims.yaml, decided by the committed results of the laptop scale."""
    path = ablations_folder() / "claims.yaml"
    if not path.is_file():
        raise UserError(f"{path} must hold the claims, got no such file; run from the project's folder")
    claims = load_yaml(path.read_text(encoding="utf-8"))
    for each in claims:
        if not isinstance(each, dict) or not {"claim", "source", "decide"} <= set(each) <= KEYS:
            raise UserError(f"a claim must have claim, source, decide and maybe more of {sorted(KEYS)}, got {each}")
    return [verdict_of(each) for each in claims]


def verdict_of(claim: dict) -> ClaimVerdict:
    name, metric, rules = claim.get("sweep", ""), claim.get("metric", "AP"), claim.get("rules") or []
    frame, why = current_results(name)
    ours, verdicts, papers = [], [], []
    sweep = load_sweep(name) if name in sweep_names() else None
    for rule in rules:
        parts = RULE.fullmatch(rule)
        if not parts:
            raise UserError(f"a rule must be 'ROW - ROW > NUMBER', with >, < or within, got {rule!r}")
        row, against, relation, bound = parts.groups()
        if sweep is None:
            continue
        for key in {row, against} - {*sweep.rows, "teacher_AP"}:
            raise UserError(f"a rule must name rows of {name}, got {key!r}; known: {', '.join(sweep.rows)}")
        paper = [sweep.rows[key].paper.get(metric) if key in sweep.rows else None for key in (row, against)]
        papers += [] if None in paper else [f"{paper[0] - paper[1]:+.1f}"]
        why = why or ("" if metric in frame else f"no {metric} in its results")
        if why:
            continue
        other = (row, against) if against == "teacher_AP" else (against, metric)
        difference = estimate(values_by_seed(frame, row, metric) - values_by_seed(frame, *other))
        why = "" if difference.n else f"no pair of {row} and {against}"
        score = "" if metric == "AP" else f"{metric}, "
        ours.append(f"{score}{rule}: {difference_text(difference.mean, difference.low, difference.high, difference.n)}")
        verdicts.append(rule_verdict(difference, relation, float(bound)))
    paper = claim.get("numbers") or ", ".join(papers) or DASH
    verdict = next((each for each in (FAILS, UNDECIDED) if each in verdicts), HOLDS)
    if why or not rules:
        ours, verdict = [], UNMEASURED
    return ClaimVerdict(claim["claim"], claim["source"], paper, ours, verdict, claim["decide"], name, why)


def current_results(name: str) -> tuple[pd.DataFrame | None, str]:
    """The committed results of a sweep; or None, and why there are none that answer it as it is now."""
    path = results_file(name, "laptop")
    if name not in sweep_names() or not path.is_file():
        return None, f"no results of {name}" if name else "no sweep"
    frame = read_frame(path)
    return frame, outdated(frame, load_sweep(name), "laptop")


def claims_text(markdown: bool = False) -> str:
    lines = []
    for each in claim_verdicts():
        if markdown:
            ours = f"{'; '.join(each.ours)} ([{each.sweep}](ablations/results/{each.sweep}.md))" if each.ours else DASH
        else:
            ours = "\n".join(each.ours) or f"({each.why or 'no rule'})"
        verdict = f"**{each.verdict}**" if markdown else each.verdict
        lines.append([f"{each.claim} ({each.source})", each.paper, ours, verdict, each.decide])
    headers = ["claim", "paper Δ", "rule and ours: Δ [95 %] (n)", "verdict", "what would decide it"]
    style = {"tablefmt": "pipe"} if markdown else {"tablefmt": "simple", "maxcolwidths": [30, 8, 26, 10, 18]}
    return f"{tabulate(lines, headers, disable_numparse=True, **style)}\n\n{MEANING}\n"
