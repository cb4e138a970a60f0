"""The committed results that answer a notebook's question."""
from ..reports import current_results
from ..stats import Estimate, paired_difference
from ..sweeps import load_sweep
from ..tables import ablation_table, difference_text


class Answer:
    """Rows and contrasts of a sweep's committed results in words; displays itself as the last expression of a cell.

        Answer("table6_relation")

    Args:
        name: the sweep; ``contrasts``: pairs (row, against), by default those of the sweep.
    Attributes: runs: the committed runs; None if their settings are not those of the sweep today, with the reason in
        ``why``.
    """

    def __init__(self, name: str, *contrasts: tuple[str, str]):
        self.sweep, (runs, self.why) = load_sweep(name).at("laptop"), current_results(name)
        self.runs, self.contrasts = None if self.why else runs, contrasts or self.sweep.contrasts

    def difference(self, row: str, against: str) -> Estimate:
        """Difference in AP, paired by seed."""
        return paired_difference(self.runs, row, against, "AP")

    def sentence(self, row: str, against: str) -> str:
        """The difference with its interval, and which row is better if the interval excludes 0; "" without pairs."""
        d, labels = self.difference(row, against), [self.sweep.rows[key].label for key in (row, against)]
        if not d.n:
            return ""
        better = labels[0] if d.low > 0 else labels[1] if d.high < 0 else ""
        verdict = f"**{better}** is better" if better else "no difference is shown, the interval contains 0"
        return f"- {labels[0]} minus {labels[1]}: {difference_text(d.mean, d.low, d.high, d.n)} AP: {verdict}."

    def _repr_markdown_(self) -> str:
        name = self.sweep.name
        if self.why:
            return (f"**No answer yet**: `{name}` has no committed runs with the settings that the sweep has today "
                    f"({self.why}). `fgdlab sweep {name}` trains them.")
        lines = ["| row | AP, mean ± std (n) |", "|:--|--:|"]
        for line in ablation_table(self.runs, self.sweep, ("AP",)).itertuples():
            if line.AP_n:
                lines.append(f"| {line.label} | {line.AP_mean:.1f} ± {line.AP_std:.1f} ({line.AP_n}) |")
        head = f"`{name}`, {len(self.runs)} runs. Differences are paired by seed: mean [95 % interval] (pairs)."
        shown = filter(None, (self.sentence(*pair) for pair in self.contrasts))
        return "\n".join([head, "", *lines, "", *shown])
