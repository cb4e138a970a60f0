# %% [markdown]
# # 07 · Read an ablation
# **Question** Fifteen runs make a table of five rows. What may one conclude from it, which plausible conclusions are
# wrong, what do thirty more runs change, and is the split the cause of what it seems to gain?
#
# **Equations** none of the paper's. Mean, sample standard deviation, t-interval, paired difference.
#
# **Code** [`estimate`](../fgdlab/lab/stats/intervals.py), [`paired_difference`](../fgdlab/lab/stats/intervals.py),
# [`ablation_table`](../fgdlab/lab/tables/numbers.py), [`match`](../fgdlab/lab/stats/resampling.py)
#
# **Needs** 00 (Table 1 as a figure). Mean and standard deviation; no other statistics.
#
# **Cost** about 20 s on 2 cores, 1.0 GB of memory, no download.
#
# **You will** turn runs into a table by hand, see an interval that fails one time in four, correct three conclusions
# that looked safe, and compute how many seeds a difference needs. Sections 1 to 4 are the tools, sections 5 to 9
# their limits.

# %%
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy import stats

from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import Answer, chart_figure, finish_chart
from fgdlab.lab.course import pretrained_detector, schematic
from fgdlab.lab.course.exercises import ablation as check
from fgdlab.lab.datasets import open_split
from fgdlab.lab.plots import BOX_COLOUR, DISTILLED_COLOUR
from fgdlab.lab.stats import anytime_interval, estimate, paired_difference
from fgdlab.lab.stats import match, seed_differences, seeds_and_images_interval
from fgdlab.lab.stats import t_interval, values_by_seed
from fgdlab.lab.sweeps import load_sweep
from fgdlab.lab.tables import ablation_table
from fgdlab.lab.training import detections

# %% tags=["parameters"]
QUICK = False
SEED = 0             # of the simulations below

# %%
schematic("scores")

# %% [markdown]
# *FGD in one picture.* Highlighted, the end: detections are scored, and scores of many runs make a
# table.
#
# ## 1 · From runs to rows
# `fgdlab sweep` writes one line per run to `results.csv`: settings, results, and where it ran. The committed files
# are in `ablations/results`. The YAML of a sweep defines its rows and gives the paper's numbers for them.

# %%
sweep = load_sweep("table1_areas").at("laptop")
every_run = pd.read_csv("../ablations/results/table1_areas.csv")
runs = every_run[every_run["seed"] < 3]            # section 7 adds seeds 3 to 8
columns = ["row", "seed", "state", "AP", "AR", "loss_ratio", "teacher_seed"]
runs[columns].head(6).style.format("{:.2f}", subset=["AP", "AR"])

# %%
by_seed = runs.pivot(index="row", columns="seed", values="AP").loc[list(sweep.rows)]
coloured = by_seed.style.format("{:.2f}").background_gradient("cividis", axis=None)
coloured.set_caption("AP per row and seed")

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
assert np.isclose(table.AP_mean["split"], mean)
assert np.isclose(table.AP_std["split"], std)
columns = ["label", "AP_paper", "AP_mean", "AP_std", "AP_n", "AR_mean", "AR_std"]
table[columns].style.format(precision=2).format("{:.0f}", subset="AP_n")

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
assert np.allclose(t_interval(x), (mean - half, mean + half))
assert round(half / std, 2) == 2.48
print(f"both, split: {mean:.1f}, interval [{mean - half:.1f}, {mean + half:.1f}]")

# %% [markdown]
# ## 3 · Why not the bootstrap?
# Many papers give a *percentile bootstrap* instead: draw n of the n runs with replacement, take the mean, repeat a
# thousand times, and cut 2.5 % off at each end. It does not assume a normal distribution.
#
# **Predict.** With three seeds, how often does such a "95 % interval" contain the true mean: 95 %, 85 %, or 75 % of
# the time? *(Hint: the lowest mean of a resample is the lowest run three times.)*

# %%
def intervals(samples, rng, resamples=1000):
    """{kind: (low, high)} of 95 % intervals for the mean of each row of (E, n)."""
    n = samples.shape[1]
    mean, error = samples.mean(1), samples.std(1, ddof=1) / np.sqrt(n)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    low, high = np.quantile(samples @ counts.T / n, [0.025, 0.975], axis=1)
    t = stats.t.ppf(0.975, n - 1)
    return {"t": (mean - t * error, mean + t * error), "bootstrap": (low, high),
            "mean ± 1.96 s/√n": (mean - 1.96 * error, mean + 1.96 * error)}

# %%
rng, experiments = np.random.default_rng(SEED), 300 if QUICK else 3000
covered = {}
for n in (3, 5, 10, 20):
    limits = intervals(rng.normal(size=(experiments, n)), rng)
    covered[n] = {kind: np.mean((low < 0) & (high > 0))
                  for kind, (low, high) in limits.items()}
coverage = pd.DataFrame(covered).T.rename_axis("seeds")
assert abs(coverage["bootstrap"][3] - 0.75) < (0.1 if QUICK else 0.03)
assert (abs(coverage["t"] - 0.95) < (0.06 if QUICK else 0.02)).all()
coloured = coverage.style.format("{:.0%}")
coloured = coloured.background_gradient("cividis", axis=None, vmin=0.7, vmax=1)
coloured.set_caption("how often the interval contains the true mean")

# %% [markdown]
# 75 %. With three runs the resampled means never leave the range of the runs. The lowest of them, one run drawn three
# times, occurs in 1 of 27 resamples, 3.7 %, which is more than the 2.5 % to be cut. So the interval *is* the range
# from the smallest to the largest run. The true mean is outside of this range when all three runs are on one side of
# it: $2 \cdot (1/2)^3 = 25\,\%$ of the time. The t-interval keeps its level by being wider. With twenty seeds the two
# nearly agree.

# %%
# a seed that misses as often as expected
shown = intervals(np.random.default_rng(19).normal(size=(100, 3)), rng)
figure = chart_figure(height=2.9)
axes = figure.subplots(1, 2, sharey=True)
for ax, kind in zip(axes, ("t", "bootstrap"), strict=True):
    low, high = shown[kind]
    missed = (low > 0) | (high < 0)
    colours = np.where(missed, BOX_COLOUR, "#999999")
    widths = np.where(missed, 2.6, 1.2)
    ax.vlines(np.arange(100), low, high, colors=colours, linewidth=widths)
    ax.axhline(0, color="black", linewidth=1)
    ax.set(title=f"{kind}: {missed.sum()} of 100 miss the true mean", ylim=(-6, 6))
    ax.set_xlabel("repetition of an experiment with 3 seeds")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
figure.axes[0].set_ylabel("interval in true stds (cut at ±6)")
figure

# %% [markdown]
# *Figure 1.* A hundred experiments of three seeds each with true mean 0 (black line); thick orange intervals miss it
# (the seed of this figure was chosen so that as many miss as expected). Bootstrap intervals are short, and about one
# in four misses. t-intervals are long where the three runs vary much, and about one in twenty misses. Check: the
# table above counts thousands of them.
#
# The lengths in the figure differ widely, although every experiment is the same.
#
# **Predict.** Of all the intervals that three seeds could give, leave out the narrowest tenth and the widest tenth.
# What is the ratio of the widest to the narrowest of the rest: 1.5, 2, or more than 4?

# %%
narrow, wide = np.sqrt(stats.chi2.ppf([0.1, 0.9], 2) / 2)    # of s, n = 3, true std 1
assert wide / narrow > 4
print(f"s: {narrow:.2f} to {wide:.2f} true stds, a factor of {wide / narrow:.1f}")

# %% [markdown]
# More than 4. So a very narrow interval from three seeds is partly chance, and two intervals of different width do not
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
d = seed_differences(runs, "both", "bg", "AP")
assert both.low < bg.high and difference.low > 0.2 and d.min() > 0.6
print(f"by seed: {d.round(2).tolist()}")
print(f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]")

# %% [markdown]
# It does not: all three differences are above 0.6. **Overlapping error bars are not a test.** The bars say where
# each mean may be. Whether one mean is above the other is a question about the difference, and the interval of the
# difference answers it. For this reason the tables here have a second block, with contrasts.
#
# Does pairing always narrow the interval? For every pair of rows, compare the spread of $d$ with the spread it would
# have if the runs were independent.

# %%
def std_ratio(frame, a, b):
    stds = [estimate(values_by_seed(frame, row, "AP")).std for row in (a, b)]
    return paired_difference(frame, a, b, "AP").std / np.hypot(*stds)

frames = {"three seeds": runs, "nine seeds": every_run}
ratios = {name: [std_ratio(frame, *pair) for pair in combinations(sweep.rows, 2)]
          for name, frame in frames.items()}
ratios = pd.DataFrame(ratios)
assert (ratios < 1).sum().tolist() == [6, 7] and len(ratios) == 10
assert ratios.median().round(2).tolist() == [0.85, 0.95]
ratios.describe().loc[["min", "50%", "max"]].T.style.format("{:.2f}")

# %% [markdown]
# Often, not always: in 6 of 10 pairs with three seeds and in 7 of 10 with nine. With nine seeds the spread shrinks by
# 5 % in the median: after eight epochs the common start matters little. Pairing is still correct: it is decided before
# the runs, it costs nothing, and its interval is valid either way. It is *not* valid to compute both intervals and
# report the narrower one.
#
# **So far:** report n and spread; use t, not the bootstrap, for few seeds; compare rows by paired
# differences.
#
# ## 5 · What an interval covers, and what it does not
# The runs of a row differ in the seed and, in turn, in one of three teachers. So the interval covers **seed noise**,
# which is initial weights and order of images, and a part of the choice of the teacher. All runs are evaluated on the
# same 400 images. A lucky choice of *these* shifts all runs alike, and no number of seeds reveals it. How large is the
# noise from the images? Take the two students of the project, seed 0 of *no distillation* and of *both, split*.
# Evaluate them, then resample the images with replacement and evaluate again, with the same resample for both.

# %%
config = RunConfig(train_images=16, eval_images=24 if QUICK else 400)
dataset = open_split(config, "val", progress=False)
truth, ids, count = dataset.ground_truth(), dataset.image_ids, len(dataset)
found = {name: detections(pretrained_detector(name), dataset)
         for name in ("baseline", "distilled")}
matches = {name: match(truth, boxes, ids) for name, boxes in found.items()}

# %%
random = np.random.default_rng(SEED)
draws = random.multinomial(count, np.full(count, 1 / count), size=10 if QUICK else 400)
resampled = pd.DataFrame({name: m.scores(draws) for name, m in matches.items()})
gain = resampled["distilled"] - resampled["baseline"]
described = resampled.assign(gain=gain).describe()
described.loc[["mean", "std", "min", "max"]].style.format("{:.2f}")

# %% [markdown]
# **Predict.** Between the nine seeds of the whole sweep, the gain of *both, split* over *no distillation* has a
# standard deviation of 0.92 AP. And between choices of 400 images: much less, about the same, or much more?

# %%
gains = seed_differences(every_run, "split", "none", "AP")
seed_std, image_std = gains.std(), gain.std()
teachers = every_run.loc[every_run["row"] != "none", "teacher_seed"].unique()
assert round(seed_std, 2) == 0.92 and sorted(teachers) == [0, 1, 2]
assert QUICK or 0.7 < image_std / seed_std < 0.9
assert round(gains.mean(), 1) == 2.3
low, high = t_interval(gains)
wide = seeds_and_images_interval(gains, image_std, count)
assert QUICK or low > 1.5 and 0.5 < wide.low < 0.8
assert QUICK or 1.9 < (wide.high - wide.low) / (high - low) < 2.6
lines = {"nine seeds": (seed_std, low, high), "images": (image_std, None, None),
         "both": (None, wide.low, wide.high)}
lines = pd.DataFrame(lines, ["std of the gain", "low", "high"]).astype(float).T
lines.style.format("{:.1f}", na_rep="")

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
n = np.array([2, 3, 4, 5, 8, 9, 10, 15, 25, 50])
t = stats.t.ppf(0.975, n - 1)
halves = pd.DataFrame({"t": t, "half-width / s": t / np.sqrt(n)}, pd.Index(n, name="n"))
halves.T.style.format("{:.2f}")

# %% [markdown]
# Exercise 2 turns this into a number of seeds. Its answer is uncertain itself: it starts from a standard deviation that
# was estimated from three seeds, and section 3 showed how uncertain such an estimate is.
#
# ## 7 · Six more seeds
# All conclusions above are from three runs per row. The sweep asks for nine seeds; the other six had the same settings.
#
# **Predict.** If the standard deviations were those of the first three seeds, what would nine seeds make of the width
# of an interval: a third, or half? And which of the four intervals shrinks least?

# %%
pairs = {f"{a} - {b}": (a, b) for a, b in sweep.contrasts}
def contrast_intervals(frame):
    found = [paired_difference(frame, *pair, "AP") for pair in pairs.values()]
    return pd.DataFrame(found, pairs)

three, nine = contrast_intervals(runs), contrast_intervals(every_run)
figure = chart_figure(height=2.9)
ax = figure.subplots()
for shift, colour, of, label in ((-0.15, "#999999", three, "three seeds"),
                                 (0.15, DISTILLED_COLOUR, nine, "nine seeds")):
    y = np.arange(4) + shift
    ax.hlines(y, of["low"], of["high"], color=colour, linewidth=2.5, label=label)
    ax.plot(of["mean"], y, "s", color=colour, markeredgecolor="black")
of = {name: row.paper["AP"] for name, row in sweep.rows.items()}
paper = [of[a] - of[b] for a, b in pairs.values()]
ax.plot(paper, range(4), "D", mfc="none", mec="black", label="the paper, COCO")
ax.axvline(0, color="black", linewidth=1)
ax.set(yticks=range(4), yticklabels=pairs, ylim=(3.5, -0.5), xlabel="ΔAP, by seed")
ax.legend(fontsize=8, frameon=False, loc="lower right")
finish_chart(ax)
figure

# %% [markdown]
# *Figure 2.* The four contrasts of Table 1 with 95 % t-intervals. Check: every interval of nine seeds is shorter than
# that of three, and the interval of *bg - fg* shrinks least.

# %%
width = (nine["high"] - nine["low"]) / (three["high"] - three["low"])
half_widths = {n: stats.t.ppf(0.975, n - 1) / np.sqrt(n) for n in (3, 9)}
assert round(half_widths[9] / half_widths[3], 2) == 0.31
assert width.round(2).tolist() == [0.21, 0.47, 0.52, 0.62]
assert ((three["low"] < 0) & (three["high"] > 0)).all()
assert ((nine["low"] < 0) & (nine["high"] > 0)).tolist() == [True, False, False, False]
assert (nine["std"] > three["std"]).tolist() == [False, True, True, True]
assert nine.loc["bg - fg", "std"] > 1.9 * three.loc["bg - fg", "std"]
least = seed_differences(every_run, "bg", "fg", "AP").min()
assert round(least, 1) == -3.5 < three.loc["bg - fg", "low"]
pd.concat({"three seeds": three, "nine seeds": nine}, axis=1).style.format("{:.2f}")

# %%
spread = {name: [estimate(values_by_seed(frame, row, "AP")).std for row in sweep.rows]
          for name, frame in frames.items()}
spread = pd.DataFrame(spread, list(sweep.rows)).T
assert spread["bg"].round(2).tolist() == [0.13, 0.62]
assert spread.idxmin(axis=1).tolist() == ["bg", "both"]
others = spread.loc["nine seeds", ["none", "fg", "split"]]
assert others.round(2).between(0.65, 0.73).all()
spread.style.format("{:.2f}").set_caption("standard deviation of AP per row")

# %% [markdown]
# A third: the factor of $s$ is 2.48 for three seeds and 0.77 for nine. But only one interval shrinks as much (*both,
# split minus foreground*, to a fifth). The other three are still 0.47 to 0.62 as wide, because their standard
# deviations came out too small with three seeds. That of *background minus foreground* doubles, and its interval
# shrinks least: one new seed gives -3.5, far outside of the first interval. This is no contradiction: an interval for
# the mean does not say where single runs are.
#
# **Wrong conclusion 2: "background gives the most reproducible students".** With three seeds its standard deviation is
# 0.13, the smallest of the table. With nine it is 0.62: *both, not split* has less, and the others have 0.65 to 0.73.
#
# With three seeds *every* one of the four intervals contained 0. "No difference was found" was true, and "there is no
# difference" would have been wrong: with nine seeds three intervals exclude 0. The paper's half point in favour of
# splitting (*both, split minus both, not split*: +0.5) is inside of the interval here, but its lower end is +0.01.
#
# One caution: adding seeds until an interval excludes 0 finds differences where there are none (exercise 3). Here the
# number nine was in the sweep before its first run. `fgdlab seeds table1_areas` has a column for intervals that stay
# valid when you look after every seed. They are wider, and only one of the four excludes 0:

# %%
d = {label: seed_differences(every_run, *pair, "AP") for label, pair in pairs.items()}
anytime = {label: anytime_interval(each) for label, each in d.items()}
anytime = pd.DataFrame(anytime, index=["low", "high"]).T
excludes = (anytime["low"] > 0) | (anytime["high"] < 0)
assert anytime.index[excludes].tolist() == ["split - bg"]
assert 0 < nine.loc["split - both", "low"] < 0.02
assert nine.loc["split - both", "high"] > 0.5
anytime.style.format("{:+.2f}").set_caption("ΔAP, valid after every seed")

# %% [markdown]
# ## 8 · A narrow interval is not a general result
# *background minus foreground* is -1.4 with nine seeds, and the interval excludes 0. "Foreground teaches more than
# background" looks like a general result.
#
# **Predict.** The paper's difference on COCO: is it inside of our interval?

# %%
ours, of_paper = nine.loc["bg - fg"], round(paper[list(pairs).index("bg - fg")], 1)
assert ours["high"] < of_paper == -0.1 and round(ours["mean"], 1) == -1.4
print(f"ours [{ours['low']:+.1f}, {ours['high']:+.1f}], the paper {of_paper:+.1f}")

# %% [markdown]
# **Wrong conclusion 3: "foreground teaches more than background".** On COCO the paper finds no such difference: -0.1
# (one number per row, without a spread). Our interval may be right about its seeds; it says nothing about other scenes,
# weights and lengths of training, which were one choice each. The same five rows on scenes without look-alikes, whose
# background has nothing that resembles a digit:

# %%
Answer("table1_areas_plain", ("bg", "none"), ("fg", "none"), ("bg", "fg"))

# %% [markdown]
# A correct conclusion names its conditions: *on these scenes, at this ratio of the losses and with these three
# teachers, background only gains about 1.4 AP less than foreground only.*
#
# **A row has its own weight.** The unsplit row differs from *both, split* in more than the split: its sum is dominated
# by other cells, so its $\alpha$ had to be chosen again. The paper does not give it. Does the split gain half a point,
# or did the unsplit row have the wrong weight? The sweep `control_unsplit` trains the unsplit loss at the same size as
# the split one, at half and at twice of it:

# %%
Answer("control_unsplit")

# %% [markdown]
# Read the rows in the order half, same, double. Two of the three, same and double, are not shown to differ from *both,
# split*. So the weight may explain what the split seemed to gain.
#
# ## 9 · Several comparisons
# A 95 % interval misses one time in twenty. A table with four contrasts has four chances to miss.

# %%
chance = {k: 1 - 0.95**k for k in (1, 4, 10, 20)}
print("at least one of k misses:", {k: f"{p:.0%}" for k, p in chance.items()})
stricter = {label: t_interval(each, level=1 - 0.05 / 4) for label, each in d.items()}
clear = {label for label, (low, high) in stricter.items() if low > 0 or high < 0}
assert clear == {"split - bg", "bg - fg"} and stricter["split - both"][0] < -0.1
stricter = pd.DataFrame(stricter, index=["low", "high"]).T.style.format("{:+.1f}")
stricter.set_caption("ΔAP, nine seeds, level 1 - 0.05/4 (Bonferroni)")

# %% [markdown]
# At this level all four intervals are right together at least 95 % of the time. Of the three contrasts that exclude 0
# one by one, two stay clear of it. The half point in favour of splitting does not. The tables in this project are *not*
# corrected, and their captions say so. A table that reports the best of twenty contrasts should be.
#
# **A checklist for any table.** How many runs are behind a number, and what is the ±: standard deviation, error of
# the mean, or an interval? Which noise is covered: seeds, images, teachers? Is the comparison a difference, or two
# separate error bars? Were hyper-parameters chosen on the split that is reported? Was every row tuned with the same
# effort? How many comparisons were made? Which change of conditions could reverse the conclusion, and has anyone
# tried it?
#
# ## Exercises
#
# Solutions are at the end of the notebook.
#
# **Exercise 1** (easy, 5 minutes). Pair two rows by seed. A run may have failed: leave out a seed without a partner.

# %%
def paired(row, baseline):
    """Two dicts {seed: AP} -> list of row - baseline, smallest seed first."""
    raise NotImplementedError

check.paired(paired)

# %% [markdown]
# **Exercise 2** (medium, 10 minutes). The standard deviation of the paired difference is known from a first sweep,
# say 0.7 AP. How many seeds are needed for a half-width of at most 0.5?

# %%
def seeds_needed(std, target):
    """Std of the differences, half-width wanted -> the smallest n >= 2 for it."""
    raise NotImplementedError

check.seeds_needed(seeds_needed)

# %% [markdown]
# **Exercise 3** (hard, 20 minutes, an experiment). Look after every seed and stop at the first interval that excludes
# 0. `differences` is (E, n): E experiments, each with n paired differences in the order of the seeds. Return the
# fraction of experiments in which the 95 % t-interval of the first k values excludes 0 for some k from `first` to n.
# Predict first: if the true difference is 0, n is 20 and `first` is 2, is it 5 %, 10 % or above 20 %?

# %%
def stopped_early(differences, first):
    raise NotImplementedError

check.stopped_early(stopped_early)

# %% [markdown]
# ## Recap
#
# - With few seeds use t-intervals of paired differences; bars that overlap are not a test.
# - An interval covers the noise it was computed from, and only the conditions that were run.
# - Before you believe in a cause, ask what else differs between two rows: often it is the size of the loss.
#
# Next: [08 FBKD and other methods](08_methods.ipynb).
#
# ## Solutions
#
# Unfold the cells.

# %% jupyter={"source_hidden": true} tags=["solution"]
def paired_solution(row, baseline):
    both = sorted(row.keys() & baseline.keys())
    return [row[seed] - baseline[seed] for seed in both]

assert check.paired(paired_solution).right
ours = paired_solution(by_seed.loc["both"].to_dict(), by_seed.loc["bg"].to_dict())
assert np.allclose(ours, seed_differences(runs, "both", "bg", "AP"))

# %% jupyter={"source_hidden": true} tags=["solution"]
def seeds_needed_solution(std, target):
    n = 2
    while stats.t.ppf(0.975, n - 1) * std / np.sqrt(n) > target:
        n += 1
    return n

assert check.seeds_needed(seeds_needed_solution).right
needed = {label: seeds_needed_solution(std, 0.5) for label, std in three["std"].items()}
assert (min(needed.values()), max(needed.values())) == (5, 23)
needed

# %% jupyter={"source_hidden": true} tags=["solution"]
def stopped_early_solution(differences, first):
    excludes = np.zeros(len(differences), dtype=bool)
    for k in range(first, differences.shape[1] + 1):
        part = differences[:, :k]
        half = stats.t.ppf(0.975, k - 1) * part.std(axis=1, ddof=1) / np.sqrt(k)
        excludes |= abs(part.mean(axis=1)) > half
    return excludes.mean()

assert check.stopped_early(stopped_early_solution).right
no_difference = np.random.default_rng(SEED).normal(size=(3000, 20))
often = {first: stopped_early_solution(no_difference, first) for first in (2, 10, 20)}
assert often[2] > 0.2 > 0.07 > often[20]
often
