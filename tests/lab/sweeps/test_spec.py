"""A sweep's YAML: what the committed ones say, which setting wins, and the one line that every mistake gives."""
import re
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

import fgdlab
from fgdlab.lab.config.active_fields import active_settings
from fgdlab.lab.config.presets import preset
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.config.scales import SCALES
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.errors import UserError
from fgdlab.lab.run import imitated
from fgdlab.lab.sweeps.collection import SCORE_COLUMNS
from fgdlab.lab.sweeps.spec import UNTUNED, load_sweep, sweep_names
from fgdlab.lab.training.losses import make_loss
from tests.helpers.published import published

COMMITTED = sorted((Path(fgdlab.__file__).parents[1] / "ablations/sweeps").glob("*.yaml"))
CHECKOUT = pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)

SWEEP = {
    "title": "A title", "question": "Which?", "baseline": "none", "seeds": [0, 1], "contrasts": [["fg", "none"]],
    "base": {"method": "fgd", "gamma": 0},
    "rows": {
        "none": {"label": "no distillation", "paper": {"AP": 37.4}, "set": {"area": "none"}},
        "fg": {"set": {"area": "fg"}},
    },
    "scales": {
        "smoke": {"seeds": [0], "note": "a minute"},
        "laptop": {"base": {"rounding": "exact"}, "rows": {"fg": {"alpha": 2e-3}}},
    },
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Every test stands in an empty folder, where no sweep has a name."""
    monkeypatch.chdir(tmp_path)


def write(name: str = "mine", text: str | None = None, **changes) -> str:
    """A YAML file in the current folder: SWEEP with some keys changed (None = left out), or text as it is.

    Its path, as ``load_sweep`` takes it.
    """
    content = {key: value for key, value in {**deepcopy(SWEEP), **changes}.items() if value is not None}
    Path(f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False) if text is None else text)
    return f"{name}.yaml"


def refusal(name: str) -> str:
    """The text of the UserError that loading a sweep raises, of one line."""
    with pytest.raises(UserError) as caught:
        load_sweep(name)
    text = str(caught.value)
    assert text and "\n" not in text
    return text


def test_a_seed_learns_from_the_same_teacher_in_every_row_and_teachers_take_turns():
    sweep = load_sweep("table1_areas")
    for row in ("fg", "split"):
        taught_by = [sweep.settings(row, seed).teacher_seed for seed in range(5)]
        assert taught_by == [0, 1, 2, 0, 1]
    assert {sweep.settings("fg", seed, "gpu").teacher_seed for seed in range(5)} == {0}
    assert {load_sweep("table1_areas_plain").settings("fg", seed).teacher_seed for seed in range(5)} == {0}


@pytest.mark.parametrize("given", [[0, 0], [-1], 3])
def test_seeds_of_teachers_are_different_whole_numbers(given):
    assert "teacher_seeds must be different whole numbers" in refusal(write(teacher_seeds=given))


# --- the committed sweeps ---------------------------------------------------------------------------------------------

@CHECKOUT
def test_every_row_of_a_committed_sweep_is_a_valid_run_at_every_scale(path):
    sweep = load_sweep(str(path))
    assert sweep.scales.keys() <= SCALES.keys() and {"smoke", "laptop"} <= sweep.scales.keys()
    for scale in SCALES:
        for seed in sweep.at(scale).seeds:
            configs = {row: active_settings(sweep.settings(row, seed, scale)) for row in sweep.at(scale).present}
            assert all(
                isinstance(each, RunConfig) and (each.scale, each.seed) == (scale, seed) for each in configs.values()
            )
            assert len({*configs.values()}) == len(configs), "two rows are the same run"


@CHECKOUT
def test_a_committed_sweep_says_what_it_asks_and_where_its_numbers_come_from(path):
    sweep = load_sweep(str(path))
    assert sweep.name == path.stem and sweep.title and sweep.question
    assert sweep.source or not any(row.paper for row in sweep.rows.values())
    assert all(row.label and row.paper.keys() <= set(SCORE_COLUMNS) for row in sweep.rows.values())
    assert all(changes.get("note") for changes in sweep.scales.values())


UNSTATED = {"detectors"}  # says what it costs, but not yet on how many scenes, and nothing of the gpu scale


@pytest.mark.parametrize("scale", ["smoke", "laptop", "gpu"])
@pytest.mark.parametrize("name", sorted({path.stem for path in COMMITTED} - UNSTATED))
def test_a_committed_sweep_says_for_each_scale_on_what_data_and_at_what_cost(name, scale):
    sweep = load_sweep(name)
    note, config = sweep.scales[scale]["note"], sweep.settings(sweep.baseline, 0, scale)
    images = f"{config.train_images:,} digit scenes" if config.data == "digits" else "photographs of "
    assert note.startswith(images) or f"{images} of {config.image_size} px" in note or "photographs of 192 px" in note
    assert re.search(
        f"{'one' if config.epochs == 1 else {2: 'two', 4: 'four'}.get(config.epochs, config.epochs)} epochs?[,;]", note,
    )
    assert re.search(r"\b(minutes?|hours?)\b", note)
    if scale == "gpu" and (name, scale) not in published():
        assert "(estimate)" in note, "nobody has measured it"


@CHECKOUT
def test_a_committed_sweep_says_for_each_scale_how_its_weights_were_chosen(path):
    """What holds of the laptop alone is not said of another scale."""
    sweep = load_sweep(str(path))
    assert sweep.at("smoke").tuning == UNTUNED and sweep.at("laptop").tuning == sweep.tuning
    for scale in ("gpu", "paper"):
        assert (
            sweep.at(scale).tuning != sweep.tuning or "lsewhere the authors' weights" in sweep.tuning
            or "None on this data" in sweep.tuning
        )


def test_table_1_weighs_its_areas_alike_on_the_laptop_and_on_a_gpu():
    """Foreground and background as loud as the detector's own loss each, the unsplit sum as both: by coefficients on
    the laptop, by share on a GPU."""
    sweep = load_sweep("table1_areas")
    configs = {row: sweep.settings(row, 0, "gpu") for row in sweep.rows if row != "none"}
    assert {
        row: (config.loss_ratio, config.equal_terms) for row, config in configs.items()
    } == {"fg": (1, False), "bg": (1, False), "both": (2, False), "split": (2, True)}
    assert {row: tuple(config.fgd().weights()) for row, config in configs.items()} == {
        "fg": ("fg",), "bg": ("bg",), "both": ("both",), "split": ("fg", "bg"),
    }
    assert len({config.but(area="split", loss_ratio=0, equal_terms=False) for config in configs.values()}) == 1


def test_table_7_is_as_loud_at_every_temperature_on_a_gpu():
    sweep = load_sweep("table7_temperature").at("gpu")
    configs = [sweep.settings(row, 0, "gpu") for row in sweep.present if row != "none"]
    assert {
        (config.loss_ratio, config.equal_terms, len(config.fgd().weights())) for config in configs
    } == {(6, True, 4)}
    assert [config.temperature for config in configs] == [0.3, 0.5, 0.8, 1.0, 1.2] and sweep.seeds == [0, 1, 2]


# --- Tables 2 and 3: a group of rows a detector -----------------------------------------------------------------------

GROUPS = {"table2_same_family": ("faster", "fcos"), "table3_stronger_teacher": ("faster", "reppoints", "mask")}


@pytest.mark.parametrize("name", GROUPS)
def test_detectors_of_tables_2_and_3_light_up_where_they_can_run(name):
    sweep = load_sweep(name)
    others = {row for row in sweep.rows if row.startswith(tuple(f"{each}_" for each in GROUPS[name]))}
    for scale in ("smoke", "laptop"):
        absent = sweep.at(scale).absent
        assert others <= set(absent) and all("the sweep detectors" in absent[row] for row in others)
    for scale in ("gpu", "paper"):
        assert {
            row: why for row,
            why in sweep.at(scale).absent.items() if why != "GID is implemented here only for RetinaNet"
        } == {}


@pytest.mark.parametrize("name", GROUPS)
def test_a_row_of_tables_2_and_3_runs_on_a_gpu_where_its_method_works_on_its_detector(name):
    """Losses are made for every row, on backbones that a CPU can hold; the reason of a row that is absent is the
    method's own."""
    sweep = load_sweep(name)
    refused = set()
    for row in sweep.rows:
        config = sweep.settings(row, 0, "gpu")
        if config.method == "none":
            continue
        student, teacher = (build(config.detector, "small_s", 10) for _ in range(2))
        try:
            make_loss(config, imitated(config, student, teacher), student, teacher)
        except UserError as error:
            refused.add(row)
            assert "must be a RetinaNet as torchvision builds it" in str(error)
    assert refused == set(sweep.at("gpu").absent)


@pytest.mark.parametrize("name", GROUPS)
def test_a_row_of_tables_2_and_3_is_compared_with_its_own_detector(name):
    sweep = load_sweep(name)
    for key, row in sweep.rows.items():
        against = row.against or sweep.baseline
        ours, theirs = (sweep.settings(each, 0, "gpu") for each in (key, against))
        assert ours.detector == theirs.detector and theirs.method == "none"


@pytest.mark.parametrize("name, pairs", [
    (
        "table2_same_family",
        {
            "fgd_inherit": "retinanet_r101_r50", "faster_fgd_inherit": "faster_rcnn_r101_r50",
            "fcos_fgd_inherit": "fcos_r101_r50",
        },
    ),
    ("table3_stronger_teacher", {
        "fgd_inherit": "retinanet_x101_r50", "reppoints_fgd_inherit": "reppoints_x101_r50",
        "faster_fgd": "faster_rcnn_cascade_r50", "mask_fgd": "mask_rcnn_cascade_r50",
    }),
])
def test_at_the_papers_scale_rows_are_the_authors_pairs(name, pairs):
    sweep = load_sweep(name)
    for row, pair in pairs.items():
        assert sweep.settings(row, 0, "paper") == RunConfig.of({**preset(pair).settings(), "data": "digits"}), row
        assert sweep.rows[row].paper["AP"] == preset(pair).mAP[1]
        assert sweep.rows[sweep.rows[row].against or sweep.baseline].paper["AP"] == preset(pair).mAP[0]


def test_the_sweep_of_five_detectors_and_tables_2_and_3_share_their_runs_on_a_gpu():
    def settings(name, row):
        return active_settings(load_sweep(name).settings(row, 0, "gpu"))

    for name, rows in (
        ("table2_same_family", ("faster", "fcos")), ("table3_stronger_teacher", ("faster", "reppoints", "mask")),
    ):
        for row in rows:
            theirs = {"faster": "faster_rcnn", "mask": "mask_rcnn"}.get(row, row)
            assert (
                settings(name, f"{row}_none") == settings("detectors", theirs)
                and settings(name, f"{row}_fgd") == settings("detectors", f"{theirs}_fgd")
            )


def test_table_1_shows_the_papers_numbers():
    rows = load_sweep("table1_areas").rows
    assert {key: (row.paper["AP"], row.paper["AR"]) for key, row in rows.items()} == {
        "none": (37.4, 53.9), "fg": (39.3, 55.6), "bg": (39.2, 55.8), "both": (38.9, 55.1), "split": (39.4, 56.1),
    }


def test_the_rows_of_table_1_differ_in_the_feature_term_alone():
    sweep = load_sweep("table1_areas")
    configs = {row: sweep.settings(row, 0) for row in sweep.rows}
    assert {row: config.area for row, config in configs.items()} == {row: row for row in sweep.rows}
    assert all((config.method, config.gamma, config.lambda_) == ("fgd", 0, 0) for config in configs.values())
    alike = {config.but(area="split", equal_terms=False) for config in configs.values()}  # split: two equal parts
    assert len(alike) == 1


def test_names_are_those_of_the_folder_and_the_folder_of_the_reader_comes_first(tmp_path):
    assert sweep_names() == [path.stem for path in COMMITTED]
    (tmp_path / "ablations/sweeps").mkdir(parents=True)
    write(f"{tmp_path}/ablations/sweeps/own")
    assert sweep_names() == ["own"] and load_sweep("own").name == "own"


# --- which setting wins -----------------------------------------------------------------------------------------------

PLACES = ["scale", "base", "scale's base", "row", "scale's row", "overrides"]


@pytest.mark.parametrize("last", range(len(PLACES)), ids=PLACES)
def test_settings_win_in_the_order_scale_base_scales_base_row_scales_row_overrides(last, monkeypatch):
    """lr stands at the first ``last + 1`` places, each time with another value; the last of them wins."""
    places = [{"lr": (n + 1) / 10} for n in range(last + 1)] + [{}] * (len(PLACES) - last - 1)
    monkeypatch.setitem(SCALES, "smoke", {**SCALES["smoke"], **places[0]})
    rows = {"none": {}, "fg": {"set": places[3]}}
    sweep = load_sweep(
        write(base=places[1], rows=rows, scales={"smoke": {"base": places[2], "rows": {"fg": places[4]}}})
    )
    assert sweep.settings("fg", 0, "smoke", places[5]).lr == (last + 1) / 10


def test_changes_for_one_scale_or_row_touch_no_other():
    sweep = load_sweep(write())
    assert [sweep.settings(row, 0).alpha for row in ("none", "fg")] == [RunConfig().alpha, 2e-3]
    assert [sweep.settings("fg", 0, scale).alpha for scale in ("smoke", "gpu")] == [RunConfig().alpha] * 2
    assert [sweep.settings("fg", 0, scale).rounding for scale in ("laptop", "smoke")] == ["exact", "authors"]


def test_a_scale_that_the_sweep_does_not_mention_has_its_own_settings():
    sweep = load_sweep(write())
    config = sweep.settings("fg", 3, "gpu")
    assert (config.scale, config.student, config.area, config.seed) == ("gpu", SCALES["gpu"]["student"], "fg", 3)


def test_seeds_are_the_callers_then_the_scales_then_the_sweeps():
    sweep = load_sweep(write())
    assert (sweep.at("smoke", [7, 8]).seeds, sweep.at("smoke").seeds, sweep.at("laptop").seeds) == ([7, 8], [0], [0, 1])
    assert sweep.seeds == [0, 1]


# --- extends ----------------------------------------------------------------------------------------------------------

def test_extends_lays_a_file_over_another_key_by_key():
    write("parent")
    write(
        "child",
        text="extends: parent\ntitle: Another\nbase: {lookalikes: false}\nrows: {fg: {label: objects}}\nscales: "
        "{laptop: {base: {epochs: 5}}}\n",
    )
    parent, child = load_sweep("parent.yaml"), load_sweep("child.yaml")
    assert (
        child.name, child.title, child.question, child.seeds, child.contrasts,
    ) == ("child", "Another", parent.question, [0, 1], [("fg", "none")])
    assert child.base == {**parent.base, "lookalikes": False} and list(child.rows) == ["none", "fg"]
    assert (
        child.rows["fg"].label, child.rows["fg"].set, child.rows["none"],
    ) == ("objects", {"area": "fg"}, parent.rows["none"])
    config = child.settings("fg", 0)
    assert (config.epochs, config.rounding, config.alpha, config.lookalikes) == (5, "exact", 2e-3, False)
    assert load_sweep("parent.yaml") == parent


def test_a_readers_file_extends_a_sweep_of_the_project_unless_one_of_that_name_lies_beside_it():
    write("mine", text="extends: table1_areas\nrows: {mine: {set: {method: cwd}}}\n")
    assert list(load_sweep("mine.yaml").rows) == ["none", "fg", "bg", "both", "split", "mine"]
    write("table1_areas", title="Beside it")
    assert load_sweep("mine.yaml").title == "Beside it"


def test_extends_reaches_through_several_files():
    write("a")
    write("b", text="extends: a\nbase: {epochs: 7}\nquestion: Why?\n")
    write("c", text="extends: b\nquestion: How?\n")
    sweep = load_sweep("c.yaml")
    assert (sweep.question, sweep.base["epochs"], sweep.base["method"]) == ("How?", 7, "fgd")


# --- mistakes ---------------------------------------------------------------------------------------------------------

def scale(**changes):
    return {"scales": {"laptop": changes}}


def row(content):
    return {"rows": {"none": content, "fg": {}}}


TYPOS = {
    "a key": ({"titel": "A title"}, "'titel'", "'title'"),
    "a key of a row": (row({"lable": "x"}), "'lable'", "'label'"),
    "a setting of a row": (row({"set": {"aera": "fg"}}), "'aera'", "'area'"),
    "a setting of base": ({"base": {"epoch": 2}}, "'epoch'", "'epochs'"),
    "a scale": ({"scales": {"labtop": {}}}, "'labtop'", "'laptop'"),
    "a key of a scale": (scale(bass={}), "'bass'", "'base'"),
    "a row of a scale": (scale(rows={"nonee": {"alpha": 1}}), "'nonee'", "'none'"),
    "the baseline": ({"baseline": "nome"}, "'nome'", "'none'"),
    "a contrast": ({"contrasts": [["fg", "non"]]}, "'non'", "'none'"),
    "the sweep that it extends": ({"extends": "mime"}, "'mime'", ""),
    "a setting of a scale's base": (scale(base={"epoch": 2}), "'epoch'", "'epochs'"),
    "a setting of a scale's row": (scale(rows={"fg": {"alpa": 2}}), "'alpa'", "'alpha'"),
}


@pytest.mark.parametrize("place", TYPOS)
def test_a_misspelt_name_is_refused_with_the_nearest_one_and_the_files_name(place):
    changes, wrong, meant = TYPOS[place]
    text = refusal(write(**changes))
    assert text.startswith("mine.yaml: unknown ") and wrong in text and (not meant or f"did you mean {meant}?" in text)


VALUES = {
    "base": {"base": {"epochs": "two"}}, "row": row({"set": {"area": "everything"}}),
    "scale's base": scale(base={"lr": -1}), "scale's row": scale(rows={"fg": {"alpha": "much"}}),
}


@pytest.mark.parametrize("place", VALUES)
def test_a_value_that_no_run_may_have_is_refused_when_the_file_is_loaded(place):
    text = refusal(write(**VALUES[place]))
    assert text.startswith("mine.yaml: ") and " must be " in text and "got " in text


@pytest.mark.parametrize("key", ["title", "question", "baseline", "rows", "seeds"])
def test_a_missing_key_is_named(key):
    assert refusal(write(**{key: None})).startswith(f"mine.yaml: the keys {key} must be given")


@pytest.mark.parametrize("seeds", [3, [0, 0], [-1], [0.5], ["one"], [True]], ids=str)
def test_seeds_are_different_whole_numbers(seeds):
    text = refusal(write(seeds=seeds))
    assert text.startswith("mine.yaml: seeds must be ") and "different whole numbers" in text


@pytest.mark.parametrize("seeds", [[0, 0], [-1], 3], ids=str)
def test_seeds_of_a_scale_are_different_whole_numbers_too(seeds):
    text = refusal(write(**scale(seeds=seeds)))
    assert text.startswith("mine.yaml: ") and "seeds" in text and "different whole numbers" in text


SHAPES = {
    "a list for rows": ({"rows": ["none", "fg"]}, "rows must be a mapping"),
    "a number for a row": (row(3), "row 'none' must be a mapping"),
    "a word for a row's settings": (row({"set": "area"}), "'set' of row 'none' must be a mapping"),
    "a number for the paper's numbers": (row({"paper": 37.4}), "'paper' of row 'none' must be a mapping"),
    "a list for base": ({"base": ["epochs"]}, "base must be a mapping"),
    "a list for scales": ({"scales": ["laptop"]}, "scales must be a mapping"),
    "a word for a scale": ({"scales": {"laptop": "small"}}, "scale 'laptop' must be a mapping"),
    "a list for a scale's base": (scale(base=["lr"]), "'base' of scale 'laptop' must be a mapping"),
    "a number for a scale's row": (scale(rows={"fg": 1e-3}), "row 'fg' of scale 'laptop' must be a mapping"),
    "a contrast of three": ({"contrasts": [["fg", "none", "fg"]]}, "contrasts must be a list of pairs"),
    "one contrast without its brackets": ({"contrasts": ["fg", "none"]}, "contrasts must be a list of pairs"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_wrong_shape_is_a_mistake_of_the_file_and_no_crash(shape):
    changes, words = SHAPES[shape]
    assert refusal(write(**changes)).startswith(f"mine.yaml: {words}")


@pytest.mark.parametrize("settings", [{"seed": 5}, {"scale": "gpu"}], ids=str)
def test_seed_and_scale_are_no_settings_of_a_sweep(settings):
    """Else a seed would be ignored in silence, and a smoke run could call itself a laptop's."""
    name = next(iter(settings))
    assert name in refusal(write(base=settings))
    with pytest.raises(UserError, match=name):
        load_sweep(write()).settings("fg", 0, "smoke", settings)


@pytest.mark.parametrize(
    "text, line",
    [("title: A\nquestion: [why\nseeds: [0]\n", 3), ("title: A\n\trows: {}\n", 2), ("title: A\nbase: {a: 1}}\n", 2)],
    ids=str,
)
def test_a_mistake_in_the_yaml_names_the_file_and_the_line(text, line):
    found = refusal(write(text=text))
    assert found.startswith("mine.yaml: ") and re.search(rf"in line {line}\b", found)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"], ids=repr)
def test_a_file_that_is_no_mapping_is_refused(text):
    assert "mine.yaml: must be a mapping" in refusal(write(text=text))


def test_bytes_that_are_no_text_are_refused():
    Path("mine.yaml").write_bytes(b"title: \xff\xfe\n")
    assert refusal("mine.yaml").startswith("mine.yaml: ")


def test_a_circle_of_extends_is_refused():
    write("a", text="extends: b\n")
    write("b", text="extends: a\n")
    assert refusal("a.yaml").startswith("a.yaml: ")


def test_a_misspelt_sweep_is_refused_with_the_nearest_one_and_a_way_out():
    text = refusal("table1_area")
    assert text.startswith("unknown sweep 'table1_area'; did you mean 'table1_areas'?") and ".yaml" in text
    assert "'nowhere/mine.yaml'" in refusal("nowhere/mine.yaml")


# --- the cost of a step -----------------------------------------------------------------------------------------------

def test_the_cost_of_a_row_is_that_of_its_method(tmp_path, monkeypatch):
    (tmp_path / "ablations/sweeps").mkdir(parents=True)
    Path("costs.json").write_text('{"over_plain": {"none": 1.0, "fgd": 1.25, "cwd": 1.5}}')
    rows = {"none": {"set": {"method": "none"}}, "fg": {"set": {"area": "fg"}}, "pkd": {"set": {"method": "pkd"}}}
    assert load_sweep(write(rows=rows, scales={}, cost="costs.json")).cost == {"none": 1.0, "fg": 1.25}
    assert load_sweep(write()).cost == {}


@pytest.mark.parametrize("content", [None, "no json", "{}"])
def test_a_cost_that_is_no_benchmark_is_refused(tmp_path, content):
    (tmp_path / "ablations/sweeps").mkdir(parents=True)
    if content:
        Path("costs.json").write_text(content)
    assert "run python -m benchmarks.methods" in refusal(write(cost="costs.json"))


# --- rows that a scale cannot run -------------------------------------------------------------------------------------

def test_an_absent_row_is_no_run_at_its_scale_and_one_at_the_others():
    sweep = load_sweep(write(scales={"smoke": {"absent": {"fg": "needs a card"}}}))
    assert sweep.at("smoke").absent == {"fg": "needs a card"} and sweep.at("smoke").present == ["none"]
    assert sweep.at("laptop").absent == {} and sweep.at("laptop").present == ["none", "fg"]


@pytest.mark.parametrize("absent, words", [
    ({"bg": "why"}, "unknown key of 'absent' of scale 'smoke' 'bg'"),
    ({"fg": ""}, "'absent' of scale 'smoke' must say why row 'fg' cannot be run there, got ''"),
    (["fg"], "'absent' of scale 'smoke' must be a mapping"),
    ({"none": "why"}, "scale 'smoke' must run the baseline, got 'none' among its absent rows"),
])
def test_a_row_is_absent_for_a_reason(absent, words):
    assert words in refusal(write(scales={"smoke": {"absent": absent}}))


# --- presets, comparisons, tuning of a scale --------------------------------------------------------------------------

def test_a_preset_gives_the_settings_of_its_pair_below_the_sweeps_own():
    changes = {"preset": "retinanet_r101_r50", "presets": {"fg": "fcos_r101_r50"}, "rows": {"fg": {"lr": 0.5}}}
    sweep = load_sweep(write(scales={"paper": changes}))
    none, fg = (sweep.settings(row, 0, "paper") for row in ("none", "fg"))
    assert (none.detector, none.teacher, none.gamma, none.inherit) == ("retinanet", "resnet101", 0, False)
    assert (fg.detector, fg.teacher, fg.temperature, fg.lr, fg.area) == ("fcos", "resnet101_caffe", 0.8, 0.5, "fg")


@pytest.mark.parametrize("scale, changes, words", [
    ("gpu", {"preset": "fcos_r101_r50"}, "presets must stand at scale 'paper', got them at 'gpu'"),
    ("paper", {"preset": "fcos_r101"}, "did you mean 'fcos_r101_r50'?"),
    ("paper", {"presets": {"bg": "fcos_r101_r50"}}, "unknown key of 'presets' of scale 'paper' 'bg'"),
    ("paper", {"presets": ["fg"]}, "'presets' of scale 'paper' must be a mapping"),
])
def test_a_preset_stands_at_the_papers_scale_for_a_row_that_there_is(scale, changes, words):
    assert words in refusal(write(scales={scale: changes}))


def test_a_row_is_compared_with_one_that_there_is():
    rows = {**deepcopy(SWEEP["rows"]), "bg": {"set": {"area": "bg"}, "against": "fgg"}}
    assert "unknown row that 'bg' is compared with 'fgg'; did you mean 'fg'?" in refusal(write(rows=rows))


def test_tuning_is_the_scales_where_it_has_its_own():
    sweep = load_sweep(write(tuning="as measured", scales={"gpu": {"tuning": "by share\n"}}))
    assert [
        sweep.at(scale).tuning for scale in ("laptop", "gpu", "paper", "smoke")
    ] == ["as measured", "by share", "as measured", UNTUNED]


def test_a_key_that_is_there_twice_is_refused():
    text = "title: t\nquestion: q\nbaseline: none\nseeds: [0]\nrows:\n  none: {}\n  none: {set: {method: fgd}}\n"
    assert "the key 'none' twice" in refusal(write(text=text)) and "in line 6" in refusal("mine.yaml")


def test_two_rows_with_one_label_are_refused():
    rows = {"none": {"label": "plain"}, "fg": {"label": "plain", "set": {"area": "fg"}}}
    assert "labels of rows must differ, got 'plain' twice" in refusal(write(rows=rows))
