"""Tables of a sweep and their figure: cells, captions, missing runs, formats."""

import io
import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from fgdlab.lab.errors import UserError
from fgdlab.lab.provenance import code_of
from fgdlab.lab.stats.intervals import variance_covered
from fgdlab.lab.sweeps.spec import Row, Sweep
from fgdlab.lab.tables.caption import SMOKE_WARNING, older_code_lines
from fgdlab.lab.tables.cells import DASH
from fgdlab.lab.tables.figure import save_figure, table_figure
from fgdlab.lab.tables.latex import escaped
from fgdlab.lab.tables.numbers import Table, ablation_table, contrast_table, render

HALF_OF_THREE = 0.95 * np.sqrt(2 / (1 - 0.95**2)) / np.sqrt(3)  # half a t-interval of three values with sample std 1


SWEEP = Sweep(
    name="parts",
    title="Table 1. Where to distil?",
    question="Is the split needed?",
    source="Yang et al. 2022, Table 1",
    baseline="none",
    base={},
    rows={
        "none": Row("no distillation", {"AP": 37.4, "AR": 53.9}, {}),
        "split": Row("both, split", {"AP": 39.4, "AR": 56.1}, {}),
        "fg": Row("foreground only", {"AP": 39.3, "AR": 55.6}, {}),
    },
    seeds=[0, 1, 2],
    tuning="chosen on the tuning split",
    contrasts=[("split", "fg")],
)
AP = {"none": (20.0, 22.0, 21.0), "split": (31.0, 32.0, 33.0), "fg": (30.0, 31.0, 32.0)}


def results(ap=AP, **columns) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "sweep": "parts",
                "scale": "laptop",
                "row": row,
                "seed": seed,
                "state": "done",
                "AP": value,
                "AR": value + 25,
                "AP_S": np.nan,
                "data": "digit scenes",
                "device": "cpu",
                "teacher_AP": 46.0,
            }
            | columns
            for row, values in ap.items()
            for seed, value in enumerate(values)
        ]
    )


def ended(frame: pd.DataFrame, row: str, seed: int, state: str) -> pd.DataFrame:
    """The same results with one run that did not get done."""
    hit = (frame["row"] == row) & (frame["seed"] == seed)
    return frame.assign(state=frame["state"].mask(hit, state), AP=frame["AP"].mask(hit), AR=frame["AR"].mask(hit))


def cells(text: str, label: str) -> list[str]:
    """The cells of the line of a Markdown table whose first cell is ``label``."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {label}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_has_the_numbers_worked_out_by_hand():
    line = ablation_table(results(), SWEEP).set_index("row").loc["split"]
    expected = {
        "AP_paper": 39.4,
        "AP_mean": 32,
        "AP_std": 1,
        "AP_n": 3,
        "AP_missing": 0,
        "AP_paper_delta": 2.0,
        "AP_delta": 11,
        "AP_delta_low": 11 - HALF_OF_THREE,
        "AP_delta_high": 11 + HALF_OF_THREE,
        "AP_delta_n": 3,
        "AR_mean": 57,
        "AR_paper": 56.1,
    }
    assert line[list(expected)].astype(float).to_dict() == pytest.approx(expected)  # differences 11, 10, 12


def test_order_is_the_sweeps_and_not_that_of_results():
    shuffled = results().sample(frac=1, random_state=1)
    assert ablation_table(shuffled, SWEEP)["row"].to_list() == ["none", "split", "fg"]
    pd.testing.assert_frame_equal(ablation_table(shuffled, SWEEP), ablation_table(results(), SWEEP))


def test_baseline_has_no_difference_to_itself():
    line = ablation_table(results(), SWEEP).iloc[0]
    assert np.isnan([line["AP_delta"], line["AP_delta_low"], line["AP_paper_delta"]]).all() and line["AP_delta_n"] == 0
    assert cells(render(results(), SWEEP, "markdown"), "no distillation")[-1] == "baseline"


def test_contrast_is_paired_between_its_two_rows():
    line = contrast_table(results(), SWEEP).iloc[0]
    assert (line["row"], line["against"], line["label"]) == ("split", "fg", "both, split minus foreground only")
    assert (line["AP_delta"], line["AP_delta_low"], line["AP_delta_high"], line["AP_delta_n"]) == (
        1,
        1,
        1,
        3,
    )  # 1 in every seed
    assert line["AP_paper_delta"] == pytest.approx(0.1)


def test_a_sweep_without_contrasts_has_no_contrast_table():
    assert contrast_table(results(), replace(SWEEP, contrasts=[])).empty
    assert "minus" not in render(results(), replace(SWEEP, contrasts=[]))


def test_markdown_cells_read_as_a_person_writes_them():
    assert cells(render(results(), SWEEP, "markdown"), "both, split ") == [
        "both, split",
        "39.4",
        "56.1",
        "32.0 ± 1.0 (3)",
        "57.0 ± 1.0 (3)",
        "+11.0 [+8.5, +13.5] (3)",
    ]


def test_a_missing_run_is_counted_and_listed_with_its_state():
    frame = ended(ended(results(), "fg", 2, "failed"), "split", 1, "pending")
    frame = frame[(frame["row"] != "none") | (frame["seed"] != 0)]
    table = ablation_table(frame, SWEEP).set_index("row")
    assert table["AP_missing"].to_dict() == {"none": 1, "split": 1, "fg": 1}
    assert table["AP_delta_n"].to_dict() == {"none": 0, "split": 1, "fg": 1}
    text = render(frame, SWEEP, "markdown")
    assert (
        "Not done, 3 of 9 runs: no distillation: seed 0 not run; both, split: seed 1 pending; "
        "foreground only: seed 2 failed."
        in text
    )
    assert cells(text, "foreground only")[3] == "30.5 ± 0.7 (2 of 3)"
    assert cells(text, "foreground only")[5] == f"+9.0 [{DASH}] (1)"


def test_a_row_that_never_ran_keeps_its_line_of_dashes():
    frame = results()[lambda runs: runs["row"] != "fg"]
    assert cells(render(frame, SWEEP, "markdown"), "foreground only") == [
        "foreground only",
        "39.3",
        "55.6",
        DASH,
        DASH,
        DASH,
    ]
    assert "foreground only: seeds 0, 1, 2 not run" in render(frame, SWEEP, "markdown")


def test_one_seed_has_a_mean_and_dashes_for_std_and_interval():
    sweep = replace(SWEEP, seeds=[0])
    line = cells(render(results({row: values[:1] for row, values in AP.items()}), sweep, "markdown"), "both, split ")
    assert line[3:] == [f"31.0 ± {DASH} (1)", f"56.0 ± {DASH} (1)", f"+11.0 [{DASH}] (1)"]


def test_a_complete_table_says_that_all_runs_are_done():
    assert "All 9 runs are done." in render(results(), SWEEP)


def test_a_seed_beyond_the_sweep_counts_for_every_row():
    more = results({"split": (31.0, 32.0, 33.0, 34.0)})
    frame = pd.concat([results()[lambda runs: runs["row"] != "split"], more])
    table = ablation_table(frame, SWEEP).set_index("row")
    assert table["AP_n"].to_dict() == {"none": 3, "split": 4, "fg": 3}
    assert table["AP_missing"].to_dict() == {"none": 1, "split": 0, "fg": 1}


def test_a_done_run_without_its_number_is_missing():
    frame = results()
    frame.loc[(frame["row"] == "fg") & (frame["seed"] == 0), "AP"] = np.nan
    assert ablation_table(frame, SWEEP).set_index("row").loc[
        "fg", ["AP_n", "AP_missing", "AR_n", "AR_missing"]
    ].to_list() == [2, 1, 3, 0]
    assert "foreground only: seed 0 done without AP" in render(frame, SWEEP, "markdown")


def test_rows_that_the_sweep_does_not_name_are_mentioned():
    frame = pd.concat([results(), results({"old": (1.0, 2.0)})])
    assert "Left out: 2 runs of rows that the sweep does not name (old)." in render(frame, SWEEP, "markdown")


def test_runs_of_another_sweep_do_not_count():
    pd.testing.assert_frame_equal(
        ablation_table(pd.concat([results(), results(sweep="other")]), SWEEP), ablation_table(results(), SWEEP)
    )


@pytest.mark.parametrize("format", ["text", "markdown"])
def test_smoke_warning_is_the_first_line(format):
    assert SMOKE_WARNING in render(results(scale="smoke"), SWEEP, format).splitlines()[0]
    assert SMOKE_WARNING not in render(results(), SWEEP, format)


def test_smoke_warning_is_on_every_line_of_the_csv():
    read = pd.read_csv(io.StringIO(render(results(scale="smoke"), SWEEP, "csv")))
    assert (read["note"] == SMOKE_WARNING).all() and len(read) == 4


def test_csv_holds_the_table_and_then_the_contrasts():
    read = pd.read_csv(io.StringIO(render(results(), SWEEP, "csv")))
    assert list(zip(read["row"], read["against"], strict=True)) == [
        ("none", "none"),
        ("split", "none"),
        ("fg", "none"),
        ("split", "fg"),
    ]
    table = ablation_table(results(), SWEEP)
    for column in ("AP_mean", "AP_std", "AP_n", "AR_mean", "AP_delta", "AP_delta_low"):
        np.testing.assert_allclose(read[column][:3], table[column].astype(float), rtol=1e-5)
    assert (read["scale"] == "laptop").all() and (read["data"] == "digit scenes").all() and read["note"].isna().all()


@pytest.mark.parametrize("metrics", [("AP",), ("AP", "AR"), ("AP", "AR", "AP_S", "AP", "AR")])
def test_text_fits_a_hundred_columns_with_long_labels(metrics):
    rows = {
        key: replace(row, label=f"{row.label}, with quite a long description"[:40]) for key, row in SWEEP.rows.items()
    }
    frame = ended(
        results({"none": (10.0, 0.5, 90.0), "split": (95.0, 7.0, 1.0), "fg": (1.0, 99.0, 0.0)}), "fg", 2, "failed"
    )
    text = render(frame, replace(SWEEP, rows=rows), "text", metrics)
    assert max(len(line) for line in text.splitlines()) <= 100


def test_text_and_markdown_hold_the_same_cells():
    text = render(results(), SWEEP)
    for row in SWEEP.rows.values():
        for cell in cells(render(results(), SWEEP, "markdown"), f"{row.label} "):
            assert cell in text


def test_a_bar_in_a_label_does_not_break_markdown():
    rows = SWEEP.rows | {"fg": replace(SWEEP.rows["fg"], label="fg | bg")}
    assert "| fg \\| bg " in render(results(), replace(SWEEP, rows=rows), "markdown")


def test_a_difference_that_rounds_to_zero_has_no_minus():
    frame = results({"none": (20.0, 20.0, 20.0), "split": (19.99, 19.99, 19.99), "fg": (20.0, 20.0, 20.0)})
    assert cells(render(frame, SWEEP, "markdown"), "both, split ")[-1] == "+0.0 [+0.0, +0.0] (3)"


def test_columns_of_the_paper_go_where_the_paper_has_none():
    rows = {key: replace(row, paper={}) for key, row in SWEEP.rows.items()}
    text = render(results(), replace(SWEEP, rows=rows))
    assert "paper " not in text.split("Data:")[0] and "The paper has no numbers for these rows." in text


def test_caption_states_what_was_run():
    text = " ".join(render(results(), SWEEP).split())
    for statement in (
        "Data: digit scenes. Scale: laptop. Device: cpu. Seeds: 0, 1, 2. Teacher AP 46.0.",
        "sample standard deviation (n - 1)",
        'mean difference to "no distillation"',
        "95 % t-interval",
        "± and interval cover the seed variance of the student's training, but not",
        "on COCO (Yang et al. 2022, Table 1). Compare directions, not values.",
        "Tuning: chosen on the tuning split.",
    ):
        assert statement in text


@pytest.mark.parametrize(
    "column, values", [("scale", ("gpu", "laptop")), ("data", ("coco", "digits")), ("device", ("NVIDIA H200", "cpu"))]
)
def test_mixed_conditions_have_a_warning(column, values):
    frame = pd.concat(
        [
            results()[lambda runs: runs["seed"] < 2].assign(**{column: values[0]}),
            results()[lambda runs: runs["seed"] == 2].assign(**{column: values[1]}),
        ]
    )
    assert f"{column.capitalize()} MIXED, means and ± mix them: {values[0]} | {values[1]}" in render(
        frame, SWEEP, "markdown"
    )


def test_at_two_scales_every_scale_misses_its_own_runs():
    frame = pd.concat(
        [results()[lambda runs: runs["seed"] < 2].assign(scale="gpu"), results()[lambda runs: runs["row"] != "fg"]]
    )
    assert ablation_table(frame, SWEEP).set_index("row")["AP_missing"].to_dict() == {"none": 1, "split": 1, "fg": 4}
    assert "laptop: foreground only: seeds 0, 1, 2 not run" in render(frame, SWEEP, "markdown")


@pytest.mark.parametrize(
    "teacher, words", [(np.nan, "Teacher AP unknown"), ([44.0, 46.0, 46.0] * 3, "Several teachers, AP 44.0 to 46.0")]
)
def test_an_unknown_teacher_and_several_teachers_are_named(teacher, words):
    assert words in render(results().assign(teacher_AP=teacher), SWEEP)


@pytest.mark.parametrize("teacher, said", [(20.9, True), (21.9, True), (22.1, False), (np.nan, False)])
def test_a_teacher_that_is_not_1_AP_above_the_plain_student_is_named_with_what_to_change(teacher, said):
    frame = results()
    text = render(frame.assign(teacher_AP=frame["row"].map({"split": teacher, "fg": teacher})), SWEEP)
    assert ('is not 1 AP above "no distillation" (AP 21.0)' in text) == said == ("teacher_steps" in text)


def test_a_baseline_that_has_a_teacher_itself_is_no_plain_student():
    assert "AP above" not in render(results(teacher_AP=1.0), SWEEP)


@pytest.mark.parametrize("frame", [pd.DataFrame(), results(state="failed"), results(sweep="other")])
@pytest.mark.parametrize("make", [render, table_figure, ablation_table, contrast_table])
def test_nothing_done_says_what_to_run(make, frame):
    with pytest.raises(UserError, match="run `fgdlab sweep parts`"):
        make(frame, SWEEP)


def test_nothing_done_counts_what_became_of_the_runs():
    with pytest.raises(UserError, match="got 8 failed, 1 pending"):
        render(ended(results(state="failed"), "fg", 0, "pending"), SWEEP)


def test_an_unknown_format_or_metric_and_a_strange_frame_are_refused():
    with pytest.raises(UserError, match="did you mean 'markdown'"):
        render(results(), SWEEP, "markdwn")
    for make in (ablation_table, contrast_table, table_figure):
        with pytest.raises(UserError, match="unknown metric 'mAP'"):
            make(results(), SWEEP, "mAP" if make is table_figure else ("mAP",))
    with pytest.raises(UserError, match="at least one metric"):
        render(results(), SWEEP, "text", ())
    with pytest.raises(UserError, match="none named seed, state"):
        render(results().drop(columns=["seed", "state"]), SWEEP)


# the figure


def artists(ax, gid: str) -> list:
    return [line for line in ax.lines if line.get_gid() == gid]


def test_figure_has_every_run_as_a_point():
    frame = ended(results(), "fg", 1, "failed")
    left, _ = table_figure(frame, SWEEP).axes
    for row, values in {**AP, "fg": (30.0, 32.0)}.items():
        assert sorted(artists(left, f"points-{row}")[0].get_xdata()) == sorted(values)


def test_figure_has_the_difference_of_every_pair():
    _, right = table_figure(ended(results(), "none", 1, "failed"), SWEEP).axes
    assert list(artists(right, "points-split")[0].get_xdata()) == [11, 12]
    assert not artists(right, "points-none")


def test_figure_means_and_intervals_are_those_of_the_table():
    fig = table_figure(results(), SWEEP)
    line = ablation_table(results(), SWEEP).set_index("row").loc["split"]
    left, right = fig.axes
    assert artists(left, "mean-split")[0].get_xdata() == [line["AP_mean"]]
    assert artists(right, "mean-split")[0].get_xdata() == [line["AP_delta"]]
    assert list(artists(right, "interval-split")[0].get_xdata()) == [line["AP_delta_low"], line["AP_delta_high"]]


def test_a_sweep_with_a_curve_draws_each_group_of_rows_along_the_setting_and_its_gain():
    rows = {
        f"{kind}_{epochs}": Row(f"{label}, {epochs} epochs", {}, {"epochs": epochs}, f"none_{epochs}")
        for kind, label in (("none", "no distillation"), ("split", "both, split")) for epochs in (8, 2)
    }
    sweep = replace(SWEEP, rows=rows, baseline="none_2", contrasts=[], curve="epochs")
    ap = {"none_2": (20.0, 22.0, 21.0), "none_8": (30.0, 31.0, 32.0), "split_2": (25, 26, 27), "split_8": (31, 32, 33)}
    frame = results(ap)
    frame["epochs"] = frame["row"].str.rpartition("_")[2].astype(int)
    left, right = table_figure(frame, sweep).axes
    curve, = artists(left, "curve-both, split")
    assert list(curve.get_ydata()) == [26, 32] and curve.get_xdata()[0] / curve.get_xdata()[1] == 2 / 8
    gain, = artists(right, "curve-both, split")
    assert list(gain.get_ydata()) == [5, 1] and not artists(right, "curve-no distillation")
    assert [line.get_ydata()[0] for line in artists(left, "teacher")] == [46]


def test_figure_shows_rows_from_top_to_bottom_in_order():
    left, _ = table_figure(results(), SWEEP).axes
    assert [label.get_text().split("\n")[0] for label in left.get_yticklabels()] == [
        "no distillation",
        "both, split",
        "foreground only",
    ]
    heights = [artists(left, f"mean-{key}")[0].get_ydata()[0] for key in SWEEP.rows]
    pixels = [left.transData.transform((0, height))[1] for height in heights]
    assert pixels == sorted(pixels, reverse=True)


def test_a_seed_has_the_same_height_in_every_row_of_both_panels():
    frame = ended(results(), "fg", 0, "failed")
    left, right = table_figure(frame, SWEEP).axes
    of_split, of_fg = (artists(left, f"points-{key}")[0].get_ydata() - i for i, key in ((1, "split"), (2, "fg")))
    np.testing.assert_allclose(of_split[1:], of_fg)
    np.testing.assert_allclose(artists(right, "points-split")[0].get_ydata() - 1, of_split)
    assert len(set(of_split)) == 3


def test_figure_shows_the_papers_own_difference_as_the_papers():
    fig = table_figure(results(), SWEEP)
    (diamond,) = artists(fig.axes[1], "paper-split")
    assert diamond.get_xdata() == [pytest.approx(2.0)] and diamond.get_markerfacecolor() == "none"
    assert any(text.get_text().startswith("paper (COCO)") for text in fig.legends[0].get_texts())


def test_figure_without_numbers_of_the_paper_does_not_mention_it():
    rows = {key: replace(row, paper={}) for key, row in SWEEP.rows.items()}
    fig = table_figure(results(), replace(SWEEP, rows=rows))
    assert not any("paper" in text.get_text() for text in fig.legends[0].get_texts())


def test_figure_draws_the_teacher_where_it_is_known():
    (line,) = artists(table_figure(results(), SWEEP).axes[0], "teacher")
    assert line.get_xdata()[0] == 46.0 and line.get_linestyle() == "--"
    unknown = table_figure(results(teacher_AP=np.nan), SWEEP)
    assert not artists(unknown.axes[0], "teacher") and not any(
        "eacher" in text.get_text() for text in unknown.legends[0].get_texts()
    )
    several = table_figure(results().assign(teacher_AP=[46.0] * 3 + [44.0] * 6), SWEEP).axes[0]
    assert [artists(several, f"teacher-{key}")[0].get_xdata()[0] for key in SWEEP.rows] == [46.0, 44.0, 44.0]


def test_figure_does_not_draw_the_teachers_ap_among_ar():
    fig = table_figure(results(), SWEEP, metric="AR")
    assert not artists(fig.axes[0], "teacher") and sorted(artists(fig.axes[0], "points-fg")[0].get_xdata()) == [
        55,
        56,
        57,
    ]


def test_figure_says_where_a_run_is_missing():
    frame = ended(results()[lambda runs: runs["row"] != "fg"], "split", 0, "failed")
    left, right = table_figure(frame, SWEEP).axes
    assert [label.get_text().split("\n")[-1] for label in left.get_yticklabels()] == [
        "n = 3",
        "n = 2, 1 missing",
        "n = 0, 3 missing",
    ]
    assert [text.get_text() for text in left.texts] == ["no run is done"]
    assert "no seed is done here and in the baseline" in [text.get_text() for text in right.texts]


def test_smoke_figure_says_that_its_numbers_mean_nothing():
    for scale in ("smoke", "laptop"):
        title = table_figure(results(scale=scale), SWEEP).get_suptitle()
        assert (SMOKE_WARNING in title) == (scale == "smoke")


@pytest.mark.parametrize("rows, seeds, scale", [(2, 1, "smoke"), (5, 3, "laptop"), (8, 10, "gpu")])
def test_no_text_overlaps_another_or_leaves_the_figure(rows, seeds, scale):
    labels = {
        f"row{i}": Row(("a label of forty letters, quite a long one " * 2)[i : i + 40], {"AP": 37.4 + i}, {})
        for i in range(rows)
    }
    sweep = replace(
        SWEEP, rows=labels, baseline="row0", seeds=list(range(seeds)), contrasts=[], title="A title of many words " * 7
    )
    rng = np.random.default_rng(0)
    frame = results(
        {key: tuple(rng.normal(30, 2, seeds)) for key in labels}, scale=scale, data="a line about the data " * 8
    )
    fig = table_figure(frame[(frame["row"] != "row1") | (frame["seed"] == 99)], sweep)
    FigureCanvasAgg(fig).draw()
    beyond = {
        label
        for ax in fig.axes
        for label in ax.get_xticklabels()
        if not ax.get_xlim()[0] <= label.get_position()[0] <= ax.get_xlim()[1]
    }
    shown = [
        text.get_window_extent()
        for text in set(fig.findobj(Text)) - beyond
        if text.get_text().strip() and text.get_visible()
    ]
    assert len(shown) > rows + 8
    for box in shown:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1
    for one, other in combinations(shown, 2):
        assert not (
            min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1
        ), (one, other)


def test_almost_equal_runs_do_not_get_an_axis_of_thousandths():
    rows = {key: replace(row, paper={}) for key, row in SWEEP.rows.items()}
    frame = results({row: (25.0, 25.001, 25.002) for row in AP}, teacher_AP=np.nan)
    left, right = table_figure(frame, replace(SWEEP, rows=rows)).axes
    assert all(np.ptp(ax.get_xlim()) >= 1 for ax in (left, right))


def test_figures_are_saved_by_suffix(tmp_path):
    png, svg = (
        save_figure(table_figure(results(), SWEEP), tmp_path / "figures" / name).read_bytes()
        for name in ("a.png", "a.svg")
    )
    assert png.startswith(b"\x89PNG") and b"<svg" in svg
    assert int.from_bytes(png[16:20]) == 11 * 150  # width in the PNG header
    with pytest.raises(UserError, match="must end in .png or .svg, got 'a.pdf'"):
        save_figure(table_figure(results(), SWEEP), tmp_path / "a.pdf")


def test_the_same_results_give_the_same_file(tmp_path):
    one, other = (
        save_figure(table_figure(results(), SWEEP), tmp_path / folder / "a.png").read_bytes()
        for folder in ("one", "other")
    )
    assert one == other


def test_the_cost_of_a_step_stands_beside_the_difference_and_is_explained():
    text = render(results(), replace(SWEEP, cost={"none": 1.0, "split": 1.234}), "markdown")
    assert (
        cells(text, "both, split")[-1] == "1.23"
        and cells(text, "foreground only")[-1] == "–"
        and "benchmarks.methods" in text
    )
    assert "step time" not in render(results(), SWEEP, "markdown").lower()


# the formats for papers and pages


def test_latex_is_a_float_of_booktabs_that_needs_no_other_package():
    text = render(results(), SWEEP, "latex")
    assert text.startswith("% needs \\usepackage{booktabs}\n\\begin{table}[t]") and text.endswith("\\end{table}\n")
    for name in ("table", "tabular", "minipage"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") > 0
    assert (
        text.count("\\toprule") == text.count("\\midrule") == text.count("\\bottomrule") == 2
    )  # the table and its contrasts
    assert (
        "both, split & 39.4 & 56.1 & 32.0 $\\pm$ 1.0 (3) & 57.0 $\\pm$ 1.0 (3) & $+11.0$ [$+8.5$, $+13.5$] (3) \\\\"
        in text
    )
    assert "\\Delta$AP, paired" in text and not [sign for sign in text if ord(sign) > 126]


def test_every_line_of_a_latex_table_has_as_many_cells_as_columns():
    for part in render(results(), SWEEP, "latex").split("\\begin{tabular}{")[1:]:
        columns, body = part.split("}", 1)
        lines = [line for line in body.split("\\end{tabular}")[0].splitlines() if line.endswith("\\\\")]
        assert len(lines) >= 3 and {line.count(" & ") + 1 for line in lines} == {len(columns)}


@pytest.mark.parametrize(
    "raw, set_as",
    [
        ("50 % of a_b & c#d {x} $5", r"50 \% of a\_b \& c\#d \{x\} \$5"),
        ("a\\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("α < 2 × λ", r"$\alpha$ \textless{} 2 $\times$ $\lambda$"),
        ('the "best" one', "the ``best'' one"),
        ("two\nlines", "two lines"),
        ("[0, 1] – no", "[0, 1] -- no"),
    ],
)
def test_latex_reads_as_the_text_did(raw, set_as):
    assert escaped(raw) == set_as


def test_a_latex_line_that_begins_with_a_bracket_is_no_argument_of_the_line_break():
    rows = SWEEP.rows | {"fg": replace(SWEEP.rows["fg"], label="[a] 100 %")}
    assert "\n{}[a] 100 \\% & " in render(results(), replace(SWEEP, rows=rows), "latex")


def test_html_is_a_page_that_fetches_nothing_and_follows_the_readers_ground():
    page = render(results(), SWEEP, "html")
    assert page.startswith("<!DOCTYPE html>") and '<meta name="color-scheme" content="light dark">' in page
    assert not re.search(r"https?://|<script|<link|@import|url\(|src=", page)
    assert not re.search(r"(?<!-)\bcolor: *(black|#000|#111|white|#fff)|background(-color)?:\s*(?!none|\s)", page)


def test_html_holds_every_cell_of_the_markdown_table():
    shown = parsed(render(results(), SWEEP, "html")).cells
    for row in SWEEP.rows.values():
        assert set(cells(render(results(), SWEEP, "markdown"), f"{row.label} ")) <= set(shown)


def test_text_of_a_sweep_is_escaped_in_html():
    rows = SWEEP.rows | {"fg": replace(SWEEP.rows["fg"], label="<b>fg</b> & bg")}
    page = render(results(), replace(SWEEP, rows=rows, title="a < b", question="<script>1</script>?"), "html")
    assert (
        "<b>fg" not in page
        and "<script" not in page
        and "&lt;b&gt;fg&lt;/b&gt; &amp; bg" in page
        and "<title>a &lt; b</title>" in page
    )


def test_a_cell_of_a_notebook_shows_a_table_and_a_terminal_its_text():
    table = Table(results(), SWEEP)
    assert table._repr_html_() in table.html() and "<html" not in table._repr_html_()
    assert repr(table) == render(results(), SWEEP, "text") == table.text()
    pd.testing.assert_frame_equal(table.numbers, ablation_table(results(), SWEEP))


@pytest.mark.parametrize("format", ["text", "markdown", "latex", "html"])
def test_metrics_are_those_that_were_asked_for_once_each(format):
    text = render(results(), SWEEP, format, ("AR", "AP_S", "AR"))
    assert (
        "ours: AR" in text
        and "AP_S" in text.replace("\\", "")
        and "ours: AP\n" not in text
        and len(Table(results(), SWEEP, ("AR", "AR")).blocks[0].columns) == 4
    )


@pytest.mark.parametrize("format", ["text", "markdown", "latex", "html"])
def test_a_row_that_cannot_run_keeps_its_dashes_and_its_reason(format):
    frame = results().assign(error=None)
    for seed in range(3):
        frame = ended(frame, "fg", seed, "failed")
    frame.loc[frame["row"] == "fg", "error"] = "UserError: method crosskd: a student must have two heads."
    text = " ".join(render(frame, SWEEP, format).split())
    assert "foreground only: seeds 0, 1, 2 failed (UserError: method crosskd: a student must have two heads)." in text
    assert Table(frame, SWEEP).blocks[0].iloc[2].to_list()[3:] == [DASH, DASH, DASH]


@pytest.mark.parametrize("format", ["text", "markdown", "latex", "html"])
def test_a_row_that_the_scale_cannot_run_has_dashes_and_a_reason_and_misses_no_run(format):
    sweep = replace(SWEEP, absent={"fg": "needs a head\nof two parts."})
    frame = results()[lambda runs: runs["row"] != "fg"]
    text = " ".join(render(frame, sweep, format).split())
    assert (
        "Not run here: foreground only. Reason: needs a head of two parts." in text and "All 6 runs are done." in text
    )
    assert Table(frame, sweep).blocks[0].iloc[2].to_list() == ["foreground only", "39.3", "55.6", DASH, DASH, DASH]
    left, right = table_figure(frame, sweep).axes
    assert [each.get_text() for each in left.texts] == ["not run here"] and len(right.texts) == 1


TWO_GROUPS = replace(
    SWEEP,
    contrasts=[],
    rows={
        "none": Row("A alone", {"AP": 37.4}, {}),
        "split": Row("A distilled", {"AP": 39.4}, {}),
        "plain": Row("B alone", {"AP": 30.0}, {}, against="plain"),
        "fg": Row("B distilled", {"AP": 31.0}, {}, against="plain"),
    },
)
TWO_AP = {
    "none": (20.0, 22.0, 21.0),
    "split": (31.0, 32.0, 33.0),
    "plain": (40.0, 41.0, 43.0),
    "fg": (41.0, 42.0, 45.0),
}


def test_a_row_is_compared_with_the_one_that_it_names():
    table = ablation_table(results(TWO_AP), TWO_GROUPS).set_index("row")
    assert table["against"].to_dict() == {"none": "none", "split": "none", "plain": "plain", "fg": "plain"}
    assert table["AP_paper_delta"].round(9).to_dict() == pytest.approx(
        {"none": np.nan, "split": 2.0, "plain": np.nan, "fg": 1.0}, nan_ok=True
    )
    assert table["AP_delta"].to_dict() == pytest.approx(
        {"none": np.nan, "split": 11.0, "plain": np.nan, "fg": 4 / 3}, nan_ok=True
    )
    text = render(results(TWO_AP), TWO_GROUPS, "markdown")
    assert cells(text, "B alone")[-1] == cells(text, "A alone")[-1] == "baseline" and cells(text, "B distilled")[
        -1
    ].startswith("+1.3 [")
    assert 'Δ: mean difference to the baseline above it, "A alone" or "B alone" (in a contrast' in text


def test_the_figure_draws_a_difference_to_the_row_that_is_compared_with():
    left, right = table_figure(results(TWO_AP), TWO_GROUPS).axes
    drawn = {line.get_gid(): line.get_xdata() for line in right.lines}
    assert (
        list(drawn["points-fg"]) == [1.0, 1.0, 2.0]
        and list(drawn["points-split"]) == [11.0, 10.0, 12.0]
        and list(drawn["paper-fg"]) == [1.0]
    )
    assert (
        "points-plain" not in drawn and [each.get_text() for each in right.texts] == ["baseline of the differences"] * 2
    )


def test_rows_that_cannot_be_run_for_one_reason_share_a_sentence():
    sweep = replace(SWEEP, absent={"fg": "needs a GPU", "split": "needs a GPU"})
    assert "- Not run here: foreground only; both, split. Reason: needs a GPU.\n" in render(
        results()[lambda runs: runs["row"] == "none"], sweep, "markdown"
    )


def test_the_caption_says_which_variance_an_interval_covers():
    text = render(results(), SWEEP, "markdown")
    assert "95 % t-interval, not corrected for multiple comparisons.\n" in text
    assert variance_covered("seeds", "± and interval cover") in text
    intervals = {
        ("split", "none", "AP"): (10.0, 12.5),
        ("fg", "none", "AP"): (9.0, 11.0),
        ("split", "fg", "AP"): (0.5, 1.5),
    }
    for source, header in (("images", "[95 %, images] (n)"), ("both", "[95 %, seeds and images] (n)")):
        text = render(results(), SWEEP, "markdown", variance=source, intervals=intervals)
        assert "95 % interval, not corrected for multiple comparisons.\n" in text and variance_covered(source) in text
        assert (
            header in text and "t-interval" not in text and cells(text, "both, split")[-1] == "+11.0 [+10.0, +12.5] (3)"
        )
        assert cells(text, "both, split minus")[-2:] == ["+1.0 [+0.5, +1.5] (3)", "+1.0 [–] (3)"]
        tidy = pd.read_csv(io.StringIO(render(results(), SWEEP, "csv", variance=source, intervals=intervals)))
        assert tidy["AP_delta_low"].dropna().tolist() == [10.0, 9.0, 0.5]
        assert (tidy["note"] == variance_covered(source)).all()


@pytest.mark.parametrize(
    "source, intervals", [("images", None), ("both", None), ("seeds", {("split", "none", "AP"): (0, 1)})]
)
def test_a_caption_names_only_a_variance_that_its_intervals_cover(source, intervals):
    with pytest.raises(ValueError, match=f"intervals must be given for .*, got variance '{source}'"):
        Table(results(), SWEEP, variance=source, intervals=intervals)


def test_an_unknown_variance_source_is_named():
    with pytest.raises(UserError, match="unknown variance source 'image'; did you mean 'images'"):
        Table(results(), SWEEP, variance="image")


def test_the_caption_counts_runs_whose_method_has_another_code_hash_now():
    methods = ["none"] * 3 + ["fgd"] * 3 + ["my_loss.py:Loss"] * 3
    current = [code_of(method)["hash"] for method in methods]
    assert len(set(current)) == 2  # a custom loss runs the code of method none, and its own file
    frame = results().assign(method=methods, code_hash=current)
    assert older_code_lines(frame) == []
    older = frame.assign(code_hash=[*current[:3], current[0], *current[4:7], "old", None])
    line = "3 of 9 runs were made by older code; their numbers may be outdated."
    assert older_code_lines(older) == [line]
    assert f"- {line}\n" in render(older, SWEEP, "markdown", older_code=True)
    assert "older code" not in render(older, SWEEP, "markdown")


@pytest.mark.parametrize("columns", [{}, {"method": "fgd", "code_hash": None}])
def test_runs_without_a_code_hash_are_older_than_the_record(columns):
    (line,) = older_code_lines(results().assign(**columns))
    assert line == "The runs were made before code hashes were recorded; their numbers may be outdated."


def parsed(page: str):
    """The cells of the tables of a page, as a browser would read them."""
    from html.parser import HTMLParser

    class Cells(HTMLParser):
        def __init__(self):
            super().__init__()
            self.cells, self.open = [], False

        def handle_starttag(self, tag, attrs):
            if tag in ("td", "th"):
                self.open = True
                self.cells.append("")

        def handle_endtag(self, tag):
            self.open = self.open and tag not in ("td", "th")

        def handle_data(self, data):
            if self.open:
                self.cells[-1] += data

    parser = Cells()
    parser.feed(page)
    return parser


# --- provenance and several teachers ----------------------------------------------------------------------------------


def of_teachers(*seeds: int) -> pd.DataFrame:
    """Results in which seed s of a distilled row learns from teacher ``seeds[s]``; row none has no teacher."""
    frame = results(finished="2026-11-28T10:00:00+00:00", code_hash="abc123")
    rows = zip(frame["row"], frame["seed"], strict=True)
    frame["teacher_seed"] = [0 if row == "none" else seeds[seed] for row, seed in rows]
    frame.loc[frame["row"] == "none", "teacher_AP"] = np.nan
    return frame


def test_a_caption_says_when_and_by_which_code_runs_were_made():
    frame = of_teachers(0, 0, 0)
    frame.loc[0, ["finished", "code_hash"]] = ["2026-11-29T10:00:00+00:00", "def456"]
    line = "- Runs finished on 2026-11-28 to 2026-11-29; code hash abc123, def456, per run in the results."
    assert line in render(frame, SWEEP, "markdown").splitlines()
    assert "Runs finished on 2026-11-28; code hash abc123, per" in render(of_teachers(0, 0, 0), SWEEP, "markdown")


def test_the_interval_covers_the_choice_of_the_teacher_in_part_if_there_are_several():
    one, three = (render(of_teachers(*seeds), SWEEP, "markdown") for seeds in ((0, 0, 0), (0, 1, 2)))
    assert variance_covered("seeds", "± and interval cover") in one and "teachers" not in one
    assert "in part, the choice of the teacher (seeds learn from 3 teachers in turn), but not the" in three


def test_the_figure_shows_the_mean_of_each_teachers_seeds_where_there_are_several():
    def digits(frame) -> dict:
        axes = table_figure(frame, SWEEP).axes
        return {
            (i, line.get_gid(), line.get_marker()): line.get_xdata()[0]
            for i, ax in enumerate(axes[:2]) for line in ax.lines if (line.get_gid() or "").startswith("teacher-mean")
        }

    assert digits(of_teachers(1, 1, 1)) == {}
    shown = digits(of_teachers(0, 1, 0))  # AP 31, 32, 33 of split; 11, 10, 12 above none
    assert shown[0, "teacher-mean-split", "$0$"] == 32 and shown[0, "teacher-mean-split", "$1$"] == 32
    assert shown[1, "teacher-mean-split", "$0$"] == 11.5 and shown[1, "teacher-mean-split", "$1$"] == 10
    assert not [key for key in shown if "none" in key[1]]
