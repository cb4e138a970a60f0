# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Read an ablation
# **Question** Fifteen runs make a table of five rows. What may one conclude from it, which plausible conclusions are
# wrong, and what do thirty more runs change?
#
# **Equations** none of the paper's. Mean, sample standard deviation, t-interval, paired difference.
#
# **Code** [`estimate`](../fgdlab/lab/stats/intervals.py), [`paired_difference`](../fgdlab/lab/stats/intervals.py),
# [`ablation_table`](../fgdlab/lab/tables/numbers.py), [`contrast_table`](../fgdlab/lab/tables/numbers.py),
# [`match`](../fgdlab/lab/stats/resampling.py)
#
# **Needs** 00 (Table 1 as a figure). Mean and standard deviation; no other statistics.
#
# **Cost** about 20 s on 2 cores, 1.0 GB of memory, no download.
#
# **You will** turn runs into a table by hand, see an interval that fails one time in four, correct three conclusions
# that looked safe, and compute how many seeds a difference needs.

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown
from scipy import stats

from fgdlab.lab.course.exercises import ablation as check
from fgdlab.lab.stats import anytime_interval, estimate, paired_difference, seed_differences, t_interval, values_by_seed
from fgdlab.lab.sweeps import load_sweep
from fgdlab.lab.tables import ablation_table, contrast_table

# %% tags=["parameters"]
QUICK = False
SEED = 0             # of the simulations below

# %% [markdown]
# ## 1 · From runs to rows
# `fgdlab sweep` writes one line per run to `results.csv`: settings, results, and where it ran. The committed files
# are in `ablations/results`. The YAML of a sweep defines its rows and gives the paper's numbers for them.

# %%
sweep = load_sweep("table1_areas").at("laptop")
every_run = pd.read_csv("../ablations/results/table1_areas.csv")
runs = every_run[every_run["seed"] < 3]            # section 7 adds seeds 3 to 8
shown = runs[["row", "seed", "state", "AP", "AR", "area", "loss_ratio", "teacher_seed", "code_hash"]].head(6)
shown.style.format("{:.2f}", subset=["AP", "AR"]).set_caption(f"the first six of {len(runs)} runs")

# %%
by_seed = runs.pivot(index="row", columns="seed", values="AP").loc[list(sweep.rows)]
by_seed.style.format("{:.2f}").background_gradient("cividis", axis=None).set_caption("AP per row and seed")

# %% [markdown]
# In the paper's Table 1 *both, split* is the best row, and *both, not split* is the worst of the distilled ones.
# Suppose you had run one seed.
#
# **Predict.** From seed 0 only: which row wins, and would seeds 1 and 2 give the same winner?

# %%
for seed in by_seed:
    print(f"seed {seed}:", " < ".join(by_seed[seed].sort_values().index))
assert by_seed.idxmax().tolist() == ["split", "split", "fg"]
assert (by_seed.drop(index="none").idxmin() == "bg").all()
lead = by_seed.loc["split"] - by_seed.drop(index="split").max()
assert lead.round(2).tolist() == [0.63, 0.03, -0.87]

# %% [markdown]
# **Wrong conclusion 1: "the paper's winner wins here too".** Seed 0 says so by 0.6 AP and seed 1 by 0.03; in seed 2
# *foreground* is 0.9 AP ahead, and that seed alone would have been reported as a failure to reproduce. The three agree
# on the worst distilled row, but it is not the paper's: here it is *background*. One run is one random draw and says
# nothing about the spread of the next. So take all three, and report their spread.
#
# $$\bar{x} = \frac{1}{n}\sum_{s} x_s, \qquad s = \sqrt{\frac{1}{n-1}\sum_{s}(x_s - \bar{x})^2}$$
#
# | symbol | code | shape |
# |---|---|---|
# | $x_s$ | `by_seed.loc["split"]`, or [`values_by_seed`](../fgdlab/lab/stats/intervals.py) | (n,) = (3,) |
# | $\bar{x}$, $s$ | [`mean_std`](../fgdlab/lab/stats/intervals.py); the sample $s$ divides by $n - 1$ | scalars |

# %%
x = by_seed.loc["split"].to_numpy()
mean, std = x.mean(), np.sqrt(((x - x.mean()) ** 2).sum() / (len(x) - 1))
print(f"both, split: {mean:.2f} ± {std:.2f}")
assert (round(mean, 2), round(std, 2)) == (28.70, 0.69)

# %%
table = ablation_table(runs, sweep).set_index("row")
assert np.isclose(table.AP_mean["split"], mean) and np.isclose(table.AP_std["split"], std)
shown = table[["label", "AP_paper", "AP_mean", "AP_std", "AP_n", "AR_mean", "AR_std"]]
shown.style.format(precision=2).format("{:.0f}", subset="AP_n")

# %% [markdown]
# The published table has six more seeds; section 7 adds them. What does "28.70 ± 0.69" tell us?
#
# ## 2 · What an interval means
# ± s describes the spread of single runs. The question is a different one: how far may the *mean of three* be from
# the mean of infinitely many? If runs follow a normal distribution, this interval contains the true mean in 95 of 100
# repetitions of the whole experiment:
#
# $$\bar{x} \pm t_{0.975;\,n-1}\,\frac{s}{\sqrt{n}}$$
#
# | symbol | code | value for n = 3 |
# |---|---|---|
# | $t_{0.975;\,n-1}$ | `stats.t.ppf(0.975, n - 1)` | 4.30; it would be 1.96 if the spread were known |
# | the interval | [`t_interval`](../fgdlab/lab/stats/intervals.py) | $\bar{x} \pm 2.48\,s$ |

# %%
half = stats.t.ppf(0.975, len(x) - 1) * std / np.sqrt(len(x))
assert np.allclose(t_interval(x), (mean - half, mean + half)) and round(half / std, 2) == 2.48
print(f"both, split: {mean:.1f}, interval [{mean - half:.1f}, {mean + half:.1f}]")

# %% [markdown]
# **Exercise 1** (easy, 5 minutes). The half-width, for any number of values.

# %%
def half_width(values):
    """A list of values -> half the width of the 95 % t-interval of their mean."""
    raise NotImplementedError

check.half_width(half_width)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def half_width_solution(values):
    n = len(values)
    return stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)

assert check.half_width(half_width_solution).right

# %% [markdown]
# ## 3 · Why not the bootstrap?
# Many papers give a *percentile bootstrap* instead: draw n of the n runs with replacement, take the mean, repeat a
# thousand times, and cut 2.5 % off at each end. It does not assume a normal distribution.
#
# **Predict.** With three seeds, how often does such a "95 % interval" contain the true mean: 95 %, 85 %, or 75 % of
# the time? *(Hint: the lowest mean of a resample is the lowest run three times.)*

# %%
def intervals(samples, rng, resamples=1000):
    """{kind: (low, high)} of 95 % intervals for the mean of each row of samples (E, n)."""
    n = samples.shape[1]
    mean, error = samples.mean(1), samples.std(1, ddof=1) / np.sqrt(n)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)              # times each run is drawn
    low, high = np.quantile(samples @ counts.T / n, [0.025, 0.975], axis=1)
    t = stats.t.ppf(0.975, n - 1)
    normal = mean - 1.96 * error, mean + 1.96 * error
    return {"t": (mean - t * error, mean + t * error), "bootstrap": (low, high), "mean ± 1.96 s/√n": normal}

# %%
rng, experiments = np.random.default_rng(SEED), 300 if QUICK else 3000
covered = {}
for n in (3, 5, 10, 20):
    limits = intervals(rng.normal(size=(experiments, n)), rng)
    covered[n] = {kind: np.mean((low < 0) & (high > 0)) for kind, (low, high) in limits.items()}
coverage = pd.DataFrame(covered).T.rename_axis("seeds")
assert abs(coverage["bootstrap"][3] - 0.75) < (0.1 if QUICK else 0.03)
assert (abs(coverage["t"] - 0.95) < (0.06 if QUICK else 0.02)).all()
coloured = coverage.style.format("{:.0%}").background_gradient("cividis", axis=None, vmin=0.7, vmax=1)
coloured.set_caption(f"how often the interval contains the true mean, {experiments} experiments")

# %% [markdown]
# 75 %. With three runs the resampled means never leave the range of the runs. The lowest of them, one run drawn three
# times, occurs in 1 of 27 resamples, 3.7 %, which is more than the 2.5 % to be cut. So the interval *is* the range
# from the smallest to the largest run. The true mean is outside of this range when all three runs are on one side of
# it: $2 \cdot (1/2)^3 = 25\,\%$ of the time. The t-interval keeps its level by being wider. With twenty seeds the two
# agree.

# %%
from matplotlib.ticker import MaxNLocator

from fgdlab.lab.plots import BOX_COLOUR, DISTILLED_COLOUR
from fgdlab.lab.plots import NotebookFigure

shown = intervals(np.random.default_rng(19).normal(size=(100, 3)), rng)      # a seed that misses as often as expected
figure = NotebookFigure(figsize=(9, 3.2), dpi=110, layout="constrained", facecolor="white")
for ax, kind in zip(figure.subplots(1, 2, sharey=True), ("t", "bootstrap"), strict=True):
    low, high = shown[kind]
    missed = (low > 0) | (high < 0)
    colours, widths = np.where(missed, BOX_COLOUR, "#999999"), np.where(missed, 2.6, 1.2)
    ax.vlines(np.arange(100), low, high, colors=colours, linewidth=widths)
    ax.axhline(0, color="black", linewidth=1)
    ax.set(title=f"{kind}: {missed.sum()} of 100 miss the true mean", ylim=(-6, 6))
    ax.set_xlabel("repetition of an experiment with 3 seeds")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
figure.axes[0].set_ylabel("interval, in true standard deviations\n(cut at ±6)")
figure

# %% [markdown]
# *Figure 1.* A hundred experiments of three seeds each with true mean 0 (black line); thick orange intervals miss it
# (the seed of this figure was chosen so that as many miss as expected). Bootstrap intervals are short, and about one
# in four misses. t-intervals are long where the three runs vary much, and about one in twenty misses. Check: the
# table above counts thousands of them.

# %% [markdown]
# The lengths in the figure differ widely, although every experiment is the same.
#
# **Predict.** Of all the intervals that three seeds could give, leave out the narrowest tenth and the widest tenth.
# What is the ratio of the widest to the narrowest of the rest: 1.5, 2, or more than 4?

# %%
narrow, wide = np.sqrt(stats.chi2.ppf([0.1, 0.9], 2) / 2)                       # of s, n = 3, true std 1
assert wide / narrow > 4
print(f"s is between {narrow:.2f} and {wide:.2f} times the true standard deviation: a factor of {wide / narrow:.1f}")

# %% [markdown]
# More than 4. So a very narrow interval from three seeds is partly luck, and two intervals of different width do not
# show that one method has less variance. This matters in section 7.
#
# ## 4 · Pairs, and overlapping error bars
# All rows of a sweep with the same seed start from the same weights and see the images in the same order. In the
# difference of two such runs, the common part of the noise cancels:
#
# $$d_s = x_s^{row} - x_s^{base}, \qquad \mathrm{Var}(d) = \mathrm{Var}(x^{row}) + \mathrm{Var}(x^{base})
#   - 2\,\mathrm{Cov}(x^{row}, x^{base})$$
#
# | symbol | code | shape |
# |---|---|---|
# | $d_s$ | [`seed_differences`](../fgdlab/lab/stats/intervals.py)`(runs, "both", "bg", "AP")` | (n,) |
# | mean, t-interval | [`paired_difference`](../fgdlab/lab/stats/intervals.py) | `Estimate`: mean, std, n, low, high |

# %%
both, bg = (estimate(values_by_seed(runs, row, "AP")) for row in ("both", "bg"))
shown = pd.DataFrame({"both, not split": both, "background": bg}, index=both._fields).T
shown.style.format(precision=2).format("{:.0f}", subset="n")

# %% [markdown]
# **Predict.** The interval of *both, not split* begins below the end of that of *background*: the error bars overlap.
# Does the interval of their paired difference contain 0?

# %%
difference = paired_difference(runs, "both", "bg", "AP")
assert both.low < bg.high and difference.low > 0.2 and seed_differences(runs, "both", "bg", "AP").min() > 0.6
print(f"by seed: {seed_differences(runs, 'both', 'bg', 'AP').round(2).tolist()}")
print(f"mean {difference.mean:+.1f}, interval [{difference.low:+.1f}, {difference.high:+.1f}]")

# %% [markdown]
# It does not: all three differences are above 0.6. **Overlapping error bars are not a test.** The bars say where
# each mean may be. Whether one mean is above the other is a question about the difference, and the interval of the
# difference answers it. For this reason the tables here have a second block, with contrasts.
#
# Does pairing always narrow the interval? For every pair of rows in four committed tables, compare the spread of $d$
# with the spread it would have if the runs were independent. (Three of the four are of the project's earlier training:
# students from random weights, on the digit scenes for two epochs; one teacher, three seeds.)

# %%
from itertools import combinations

tables = {name: pd.read_csv(f"../ablations/results/table1_areas{name}.csv") for name in ("_heavy", "_plain", "_bccd")}
tables = {"": runs} | tables
def std_ratio(frame, a, b):
    unpaired = np.hypot(*(estimate(values_by_seed(frame, row, "AP")).std for row in (a, b)))
    return paired_difference(frame, a, b, "AP").std / unpaired

ratios = pd.Series([std_ratio(frame, *pair) for frame in tables.values() for pair in combinations(sweep.rows, 2)])
nine = pd.Series([std_ratio(every_run, *pair) for pair in combinations(sweep.rows, 2)])
assert (len(ratios), (ratios < 1).sum(), round(ratios.median(), 2)) == (40, 24, 0.89)
assert ratios.min() < 0.2 and ratios.max() > 1.3 and round(nine.median(), 2) == 0.95
print(f"{len(ratios)} pairs of rows; the ratio is below 1 in {(ratios < 1).sum()} of them")
print(f"main table with all nine seeds: median {nine.median():.2f}")
ratios.describe()[["min", "50%", "max"]].rename("std paired / unpaired").to_frame().T.style.format("{:.2f}")

# %% [markdown]
# Often, not always: in 24 of 40 pairs. The spread shrinks by about 10 % in the median, and in some pairs it grows; with
# three seeds each single ratio is uncertain. With all nine seeds of the main table it shrinks by 5 %: after eight
# epochs the common start matters little. Pairing is still correct: it is decided before the runs, it costs nothing, and
# its interval is valid either way. It is *not* valid to compute both intervals and report the narrower one.
#
# **Exercise 2** (easy, 5 minutes). Pair two rows by seed. A run may have failed: leave out a seed without a partner.

# %%
def paired(row, baseline):
    """Two dicts {seed: AP} -> list of differences row - baseline, smallest seed first."""
    raise NotImplementedError

check.paired(paired)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def paired_solution(row, baseline):
    return [row[seed] - baseline[seed] for seed in sorted(row.keys() & baseline.keys())]

assert check.paired(paired_solution).right
ours = paired_solution(by_seed.loc["both"].to_dict(), by_seed.loc["bg"].to_dict())
assert np.allclose(ours, seed_differences(runs, "both", "bg", "AP"))

# %% [markdown]
# ## 5 · What an interval covers, and what it does not
# The runs of a row differ in the seed and, in turn, in one of three teachers. So the interval covers **seed noise**,
# which is initial weights and order of images, and a part of the choice of the teacher. All runs are evaluated on the
# same 400 images. A lucky choice of *these* shifts all runs alike, and no number of seeds reveals it. How large is the
# noise from the images? Take the two students of the project, seed 0 of *no distillation* and of *both, split*.
# Evaluate them, then resample the images with replacement and evaluate again, with the same resample for both.

# %%
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split
from fgdlab.lab.training import detections
from fgdlab.lab.course import pretrained_detector
from fgdlab.lab.stats import match, seeds_and_images_interval

dataset = open_split(RunConfig(train_images=16, eval_images=24 if QUICK else 400), "val", progress=False)
found_boxes = {name: detections(pretrained_detector(name), dataset) for name in ("baseline", "distilled")}
matches = {name: match(dataset.ground_truth(), boxes, dataset.image_ids) for name, boxes in found_boxes.items()}

# %%
count = len(dataset)
draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=10 if QUICK else 400)
resampled = pd.DataFrame({name: m.scores(draws) for name, m in matches.items()})
gain = resampled["distilled"] - resampled["baseline"]
resampled.assign(gain=gain).describe().loc[["mean", "std", "min", "max"]].style.format("{:.2f}")

# %% [markdown]
# **Predict.** Between the nine seeds of the whole sweep, the gain of *both, split* over *no distillation* has a
# standard deviation of 0.92 AP. And between choices of 400 images: much less, about the same, or much more?

# %%
gains = seed_differences(every_run, "split", "none", "AP")
seed_std, image_std = gains.std(), gain.std()
teachers = every_run.loc[every_run["row"] != "none", "teacher_seed"].unique()
assert round(seed_std, 2) == 0.92 and sorted(teachers) == [0, 1, 2]
assert QUICK or 0.7 < image_std / seed_std < 0.9
stds = {"between seeds": seed_std, "between choices of 400 images": image_std}
pd.Series(stds, name="std of the gain in AP").to_frame().style.format("{:.2f}")

# %%
low, high = t_interval(gains)
wide = seeds_and_images_interval(gains, image_std, count)
assert QUICK or low > 1.5 and 0.5 < wide.low < 0.8 and 1.9 < (wide.high - wide.low) / (high - low) < 2.6
Markdown(f"The table's interval, nine seeds: [{low:+.1f}, {high:+.1f}], half-width {(high - low) / 2:.1f}. The choice "
         f"of images adds a standard deviation of about {image_std:.1f} AP. The interval does not contain it. Both "
         f"together: [{wide.low:+.1f}, {wide.high:+.1f}].")

# %% [markdown]
# About the same, 0.7. But more seeds do not reduce the part of it that all seeds share. The interval of both together
# is twice as wide as the table's. (This is the widest case: the 0.7 is of one pair of students, and the mean of nine
# pairs may have less.) A gain of 2.3 AP survives this; a difference of half a point does not. **A narrow seed interval
# is a statement about these teachers, this training set and these images.** The caption of every table here says
# which noise its intervals cover. Ask this of every table that you read.
#
# ## 6 · How many seeds does a difference need?
# The half-width falls like $1/\sqrt{n}$, and faster for few seeds, because $t$ falls too. In units of $s$:

# %%
n = np.array([2, 3, 4, 5, 8, 10, 15, 25, 50])
t = stats.t.ppf(0.975, n - 1)
pd.DataFrame({"t": t, "half-width / s": t / np.sqrt(n)}, index=pd.Index(n, name="seeds")).T.style.format("{:.2f}")

# %% [markdown]
# **Exercise 3** (medium, 10 minutes). The standard deviation of the paired difference is known from a first sweep,
# say 0.7 AP. How many seeds are needed for a half-width of at most 0.5?

# %%
def seeds_needed(std, target):
    """Standard deviation of the differences, half-width wanted -> the smallest n >= 2 that gives it."""
    raise NotImplementedError

check.seeds_needed(seeds_needed)


# %% [markdown]
# Solution (unfold the cell below)

# %% jupyter={"source_hidden": true} tags=["solution"]
def seeds_needed_solution(std, target):
    n = 2
    while stats.t.ppf(0.975, n - 1) * std / np.sqrt(n) > target:
        n += 1
    return n

assert check.seeds_needed(seeds_needed_solution).right
needed = {f"{a} - {b}": seeds_needed_solution(paired_difference(runs, a, b, "AP").std, 0.5) for a, b in sweep.contrasts}
assert (min(needed.values()), max(needed.values())) == (5, 23)
pd.Series(needed, name="seeds for ± 0.5 AP").to_frame().T

# %% [markdown]
# Plan with the larger numbers: each is computed from a standard deviation that was estimated from three seeds, and
# section 3 showed how uncertain such an estimate is.
#
# ## 7 · Six more seeds
# All conclusions above are from three runs per row. The sweep asks for nine seeds; the other six had the same settings.
#
# **Predict.** If the standard deviations were those of the first three seeds, what would nine seeds make of the width
# of an interval: a third, or half? And which of the four intervals shrinks least?

# %%
def interval_of(frame, a, b):
    d = paired_difference(frame, a, b, "AP")
    return {"mean": d.mean, "low": d.low, "high": d.high, "std": d.std}

pairs = {f"{a} - {b}": (a, b) for a, b in sweep.contrasts}
def contrast_intervals(frame):
    return pd.DataFrame({label: interval_of(frame, *pair) for label, pair in pairs.items()}).T

three, nine = contrast_intervals(runs), contrast_intervals(every_run)
new = {label: seed_differences(every_run, *pair, "AP").to_numpy()[3:] for label, pair in pairs.items()}
new = pd.DataFrame({label: {"smallest": values.min(), "largest": values.max()} for label, values in new.items()}).T
later = pd.concat({"seeds 0 to 2": three, "seeds 0 to 8": nine, "the six new seeds": new}, axis=1)
later.style.format("{:+.2f}").format("{:.2f}", subset=[(seeds, "std") for seeds in ("seeds 0 to 2", "seeds 0 to 8")])

# %%
half_widths = {n: stats.t.ppf(0.975, n - 1) / np.sqrt(n) for n in (3, 9)}
width = (nine["high"] - nine["low"]) / (three["high"] - three["low"])
assert round(half_widths[9] / half_widths[3], 2) == 0.31
assert (width < 1).all() and width.round(2).tolist() == [0.21, 0.47, 0.52, 0.62]
assert (nine["std"] > three["std"]).tolist() == [False, True, True, True]
assert nine.loc["bg - fg", "std"] > 1.9 * three.loc["bg - fg", "std"]
assert round(new.loc["bg - fg", "smallest"], 1) == -3.5 < three.loc["bg - fg", "low"]
assert ((three["low"] < 0) & (three["high"] > 0)).all()
assert ((nine["low"] < 0) & (nine["high"] > 0)).tolist() == [True, False, False, False]
spread = {n: {row: estimate(values_by_seed(frame, row, "AP")).std for row in sweep.rows}
          for n, frame in (("3 seeds", runs), ("9 seeds", every_run))}
spread = pd.DataFrame(spread).T
assert spread["bg"].round(2).tolist() == [0.13, 0.62] and spread.idxmin(axis=1).tolist() == ["bg", "both"]
assert spread.loc["9 seeds", ["none", "fg", "split"]].round(2).between(0.65, 0.73).all()
spread.style.format("{:.2f}").set_caption("standard deviation of AP per row")

# %% [markdown]
# A third: the factor of $s$ is 2.48 for three seeds and 0.77 for nine. But only one interval shrinks as much (*both,
# split minus foreground*, to a fifth). The other three become about half as wide, because their standard deviations
# came out too small with three seeds. That of *background minus foreground* doubles, and its interval shrinks least:
# one new seed gives -3.5, far outside of the first interval. This is no contradiction: an interval for the mean does
# not say where single runs are.
#
# **Wrong conclusion 2: "background gives the most reproducible students".** With three seeds its standard deviation is
# 0.13, the smallest of the table. With nine it is 0.62: *both, not split* has less, and the others have 0.65 to 0.73.
#
# With three seeds *every* one of the four intervals contained 0. "No difference was found" was true, and "there is no
# difference" would have been wrong: with nine seeds three intervals exclude 0. The paper's half point in favour of
# splitting (*both, split minus both, not split*: +0.5) is inside of the interval here, but its lower end is +0.01.
#
# One caution: adding seeds until an interval excludes 0 finds differences where there are none. Here the number nine
# was in the sweep before its first run. `fgdlab seeds table1_areas` has a column for intervals that stay valid when you
# look after every seed. They are wider, and only one of the four excludes 0:

# %%
anytime = {label: anytime_interval(seed_differences(every_run, *pair, "AP")) for label, pair in pairs.items()}
anytime = pd.DataFrame(anytime, index=["low", "high"]).T
assert anytime.index[(anytime["low"] > 0) | (anytime["high"] < 0)].tolist() == ["split - bg"]
assert 0 < nine.loc["split - both", "low"] < 0.02 and nine.loc["split - both", "high"] > 0.5
anytime.style.format("{:+.2f}").set_caption("ΔAP, valid after every seed")

# %% [markdown]
# ## 8 · A narrow interval is not a general result
# *background minus foreground* is -1.4 with nine seeds, and the interval excludes 0. "Foreground teaches more than
# background" looks like a general result. Two related tables have the same five rows under other conditions. Both are
# of the project's earlier training: students from random weights that reach 6 or 7 AP alone after two epochs, one
# teacher, three seeds. One has look-alikes and about three times the weight on its distillation terms; the other has
# no look-alikes.
#
# **Predict.** What is the contrast in these tables: also below 0, or not?

# %%
names = {"": "main table", "_heavy": "earlier, three times the weight", "_plain": "earlier, no look-alikes"}
tables[""] = every_run
sweeps = {key: load_sweep(f"table1_areas{key}").at("laptop") for key in names}
contrasts = {names[key]: contrast_table(tables[key], sweeps[key], ("AP",)).set_index("label") for key in names}
contrasts = pd.concat(contrasts)
alone = {key: values_by_seed(tables[key], "none", "AP").mean() for key in names}
assert [round(alone[key]) for key in names] == [27, 6, 7]
assert [tables[key]["epochs"].unique().tolist() for key in names] == [[8], [2], [2]]
assert [tables[key]["lookalikes"].all() for key in names] == [True, True, False]

def words(line):
    return f"{line.AP_delta:+.1f} [{line.AP_delta_low:+.1f}, {line.AP_delta_high:+.1f}]"

contrasts.apply(words, axis=1).unstack(0)[list(names.values())]

# %%
figure = NotebookFigure(figsize=(10, 3.4), dpi=110, layout="constrained", facecolor="white")
labels = "both, split minus background", "background minus foreground"
for ax, label in zip(figure.subplots(1, 2, sharey=True), labels, strict=True):
    lines = contrasts.xs(label, level=1)
    for y, line in enumerate(lines.itertuples()):
        ends = [line.AP_delta_low, line.AP_delta_high]
        ax.plot(ends, [y, y], color=DISTILLED_COLOUR, linewidth=2, marker="|", markersize=9)
        ax.plot(line.AP_delta, y, "s", color=DISTILLED_COLOUR, markeredgecolor="black")
        ax.plot(line.AP_paper_delta, y + 0.25, "D", markerfacecolor="none", markeredgecolor="#555555")
    ax.axvline(0, color="black", linewidth=1)
    ax.set(title=label, yticks=range(3), yticklabels=lines.index, ylim=(2.6, -0.6), xlim=(-13, 13))
    ax.set_xlabel("ΔAP, paired by seed, mean and 95 % t-interval")
    ax.grid(axis="x", color="#dddddd")
figure

# %% [markdown]
# *Figure 2.* Two contrasts in three tables, on one scale; the grey diamond is the paper's difference on COCO. Left:
# split beats the background in two tables and not in the third. Right: the background is worse than the foreground,
# better, or much worse. Check: every number is in the table above the figure, which is computed from the committed
# runs.

# %%
split_bg, bg_fg = (contrasts.xs(label, level=1).loc[list(names.values())] for label in labels)
main, heavy, plain = names.values()
assert bg_fg.AP_delta.round(1).tolist() == [-1.4, 2.1, -7.6]
assert bg_fg.AP_delta_high[main] < 0 < bg_fg.AP_delta_low[heavy] and bg_fg.AP_delta_high[plain] < 0
assert split_bg.AP_delta_low[main] > 0 and split_bg.AP_delta_low[plain] > 0 and abs(split_bg.AP_delta[heavy]) < 0.3
assert split_bg.AP_delta_low[heavy] < -2.5 and split_bg.AP_delta_high[heavy] > 2.5

# %% [markdown]
# **Wrong conclusion 3: "foreground teaches more than background".** All three intervals exclude 0, and one of them is
# on the other side: +2.1, -7.6, and -1.4 in the main table. Likewise "split beats the background": in the table with
# the larger weights the difference is about 0, and its interval reaches 3 AP to either side. Each interval may be right
# about its seeds; it says nothing about scenes, weights and length of training, which were one choice each. The tables
# differ in several of these at once, so they show *that* the contrast depends on conditions, but not on which. (The
# use of the background may well depend on what it contains: its contrast is lowest where there are no look-alikes.)
#
# Correct conclusions name their conditions: *on these scenes, at this ratio of the losses and with these three
# teachers, background only gains about 1.4 AP less than foreground only.*
#
# ## 9 · Several comparisons
# A 95 % interval misses one time in twenty. A table with four contrasts has four chances to miss.

# %%
at_least_one = ", ".join(f"k = {k}: {1 - 0.95**k:.0%}" for k in (1, 4, 10, 20))
print("at least one of k independent intervals misses:", at_least_one)
level = 1 - 0.05 / 4
stricter = {label: t_interval(seed_differences(every_run, *pair, "AP"), level=level) for label, pair in pairs.items()}
clear = {label for label, (low, high) in stricter.items() if low > 0 or high < 0}
assert clear == {"split - bg", "bg - fg"} and stricter["split - both"][0] < -0.1
caption = "ΔAP, nine seeds, level 1 - 0.05/4 (Bonferroni): all four are correct together at least 95 % of the time"
pd.DataFrame(stricter, index=["low", "high"]).T.style.format("{:+.1f}").set_caption(caption)

# %% [markdown]
# Of the three contrasts that exclude 0 one by one, two stay clear of it at the stricter level. The half point in favour
# of splitting does not. The tables in this project are *not* corrected, and their captions say so. A table that reports
# the best of twenty contrasts should be.
#
# **A checklist for any table.** How many runs are behind a number, and what is the ±: standard deviation, error of
# the mean, or an interval? Which noise is covered: seeds, images, teachers? Is the comparison a difference, or two
# separate error bars? Were hyper-parameters chosen on the split that is reported? Was every row tuned with the same
# effort? How many comparisons were made? Which change of conditions could reverse the conclusion, and has anyone
# tried it?
#
# `fgdlab table table1_areas` prints the whole table again, from your own runs if you have some.
# [08](08_methods.ipynb) compares other methods, and [09](09_your_own_loss.ipynb) adds a row of your own.

