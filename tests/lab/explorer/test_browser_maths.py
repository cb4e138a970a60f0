"""The browser computes the same views as Python, to 1e-5."""

import numpy as np
import pytest
import torch

from fgdlab import FGDConfig
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.explorer import frames
from fgdlab.lab.explorer.explorer import explore
from fgdlab.lab.explorer.view_data import mask_edges, panel_rows, scale_mask
from tests.lab.explorer.node import run_scripts

VIEW = """
const bytes = Uint8Array.from(Buffer.from(given.block, "base64"));
const { base, students } = unpack(given.message, bytes);
const byName = Object.fromEntries(students.map((each) => [each.name, each]));
const detail = given.detail ? unpack(given.detail, Uint8Array.from(Buffer.from(given.detail_block, "base64"))) : null;
const memo = new Memo();  // one for all states, as in the explorer
return given.states.map((state) => makeView(base, byName, state, given.info, detail, false, memo));
"""
CLOSE = {"rel": 1e-5, "abs": 1e-7}


def detector(seed: int, backbone: str = "compact_s", **settings):
    torch.manual_seed(seed)
    return build("retinanet", backbone, 10, score_thresh=0.0, **settings).eval()


@pytest.fixture(scope="module")
def trio():
    return {"baseline": detector(0), "distilled": detector(1)}, detector(2)


def views_of(explorer, states: list[dict]) -> list[tuple]:
    """(the browser's, Python's) view of every state of one image."""
    session = explorer.session
    states = [session.checked(explorer.state.but(**each)) for each in states]
    message, block = frames.frame(session.inference, states[0].image, session.inference.shown(states[0]), session.ap)
    found = views_in_browser(explorer, states, message=message, block=block)
    return list(zip(found, map(session.view, states), strict=True))


def views_in_browser(explorer, states: list, **received) -> list[dict]:
    """The browser's view of each state. received: what the kernel sent."""
    given = {"info": explorer.info, "states": [each.dict() for each in states], **received}
    return run_scripts(("words.js", "maths.js", "view.js", "store.js"), VIEW, **given)


def assert_same_row(ours: dict, row: dict) -> None:
    assert ours.keys() == row.keys()
    for name, value in row.items():
        assert ours[name] == (pytest.approx(value, **CLOSE) if isinstance(value, float) else value), name


def assert_same(browser: dict, python) -> None:
    assert [each["title"] for each in browser["panels"]] == [each.title for each in python.panels]
    for ours, panel in zip(browser["panels"], python.panels, strict=True):
        largest = float(np.abs(panel.values).max())
        assert ours["values"] == pytest.approx(panel.values.ravel(), rel=1e-5, abs=1e-5 * max(largest, 1e-9))
        assert (ours["low"], ours["high"]) == pytest.approx((panel.low, panel.high), rel=1e-5, abs=1e-6 * largest)
        assert (ours["unit"], ours["kind"], len(ours["detections"])) == (panel.unit, panel.kind, len(panel.detections))
        assert [text for _, text in ours["detections"]] == [text for _, text in panel.detections]
    assert browser["rows"] == panel_rows(python)
    assert browser["percent"] == pytest.approx(python.percent.ravel(), rel=1e-5, abs=1e-9)
    if "scale" in python.state.overlays:
        assert browser["scale"] == pytest.approx(scale_mask(python).ravel(), rel=1e-5, abs=1e-6)
    for name in ("raw", "weighted", "percent"):
        assert [row[name] for row in browser["terms"]] == pytest.approx([row[name] for row in python.terms], **CLOSE)
    for ours, row in zip(browser["gaps"], python.gaps, strict=True):
        assert_same_row(ours, row)
    for ours, row in zip(browser["networks"], python.networks, strict=True):
        assert_same_row(ours, {**row, "scale": row["scale"][python.state.level]})
    assert np.sort(np.abs(np.subtract(browser["channels"]["teacher"], browser["channels"]["student"])))[::-1] == (
        pytest.approx(python.channels["gap"].abs().to_numpy()[:64], rel=1e-4, abs=1e-6)
    )
    assert browser["channels"]["teacher"] == pytest.approx(
        python.channels.loc[browser["channels"]["order"], "teacher"].to_numpy(), **CLOSE
    )
    assert browser["channels"]["what"] == python.channels.attrs["what"]
    assert sorted(browser["warnings"]) == sorted(python.warnings) and browser["notes"] == python.notes
    edges = mask_edges(python.fg > 0) if "mask" in python.state.overlays else []
    assert sorted(browser["mask_edges"]) == sorted(edges)


STATES = [
    {},
    {"temperature": 0.05, "level": "P5", "limits": "own"},
    {"view": "before_after", "overlays": ("boxes", "mask", "scale"), "rounding": "exact", "score": 0.011},
    {"quantity": "channel", "channel": 7, "cell": (3, 5)},
    {"quantity": "context", "level": "P4", "student_name": "baseline"},
    {"rounding": "exact", "temperature": 0.05, "overlays": ("scale",)},
    {"quantity": "loss", "alpha": 0.3, "beta": 0.02, "gamma": 0.5, "lambda_": 0.003, "temperature": 2.0},
    {"quantity": "loss", "view": "before_after", "gamma": 0.0},
    {"alpha": 0.0, "beta": 0.0, "gamma": 0.0, "lambda_": 0.0, "quantity": "loss"},
]


def test_every_kind_of_view_equals_pythons(trio, tiny_scenes):
    explorer = explore(
        *trio, tiny_scenes("val"), FGDConfig(1e-3, 5e-4, 1e-2, 1e-4), ap={"teacher": 1.0, "baseline": 2.0}
    )
    for browser, python in views_of(explorer, STATES):
        assert_same(browser, python)


@pytest.mark.parametrize(
    "switches",
    [
        {"area": "both"},
        {"spatial_attention": False},
        {"channel_attention": False},
        {"attention_of": "student"},
        {"attention_of": "mean", "relation": "mse"},
    ],
)
def test_every_switch_of_the_loss_counts_in_the_browser(trio, tiny_scenes, switches):
    explorer = explore(*trio, tiny_scenes("val"), FGDConfig(1e-3, 5e-4, 1e-2, 1e-4, **switches), image=1)
    for browser, python in views_of(explorer, [{"temperature": 0.1, "overlays": ("scale",)}]):
        assert_same(browser, python)


def test_an_image_without_objects_has_no_gap_inside(trio, tiny_scenes):
    empty = [
        (image, {**target, "boxes": target["boxes"][:0], "labels": target["labels"][:0]})
        for image, target in (tiny_scenes("val")[i] for i in range(2))
    ]
    for browser, python in views_of(explore(*trio, empty), [{}]):
        assert browser["gaps"][0]["feature_fg"] is None
        assert_same(browser, python)


def test_maps_that_stay_in_the_kernel_give_the_same_view(trio, tiny_scenes, monkeypatch):
    monkeypatch.setattr(frames, "MAX_FEATURES", 0)
    explorer = explore(*trio, tiny_scenes("val"), FGDConfig(1e-3, 5e-4, 1e-2, 1e-4))
    session = explorer.session
    state = session.checked(explorer.state.but(quantity="channel", channel=5, cell=(1, 2), temperature=0.3))
    message, block = frames.frame(session.inference, 0, session.inference.shown(state), session.ap)
    assert "features" not in message["base"]["levels"]["P3"]
    detail, detail_block = frames.detail(session.inference, state)
    sent = {"message": message, "block": block, "detail": detail, "detail_block": detail_block}
    assert_same(views_in_browser(explorer, [state], **sent)[0], session.view(state))


def test_numbers_are_written_as_python_writes_them():
    values = [0.0, 1.0, 0.5, 123.456, 1234.5, 0.00012345, 0.000012345, -2.5e-7, 99.95, 1e6, 3.0, 0.1]
    assert run_scripts(("words.js",), "return given.values.map((value) => general(value));", values=values) == [
        f"{value:.3g}" for value in values
    ]


def test_slider_values_are_sorted_and_include_start_and_ends():
    body = "return given.starts.map(([name, start]) => sliderValues(name, start));"
    starts = [
        ("temperature", 0.5),
        ("temperature", 0.123),
        ("alpha", 1.7e-3),
        ("beta", 0.0),
        ("alpha", 3e-12),
        ("score", 0.3),
    ]
    for (name, start), found in zip(starts, run_scripts(("words.js",), body, starts=starts), strict=True):
        assert found["values"] == sorted(set(found["values"])) and start in found["values"]
        assert len(found["texts"]) == len(found["values"])
        assert (name != "beta") or (found["values"][0], found["values"][-1], found["texts"][0]) == (0, 1, "off")


def test_a_state_comes_back_from_its_text():
    start = {"image": 0, "level": "P3", "temperature": 0.5, "overlays": ["boxes"], "cell": None, "student_name": "a"}
    state = {
        **start,
        "image": 3,
        "temperature": 0.2,
        "overlays": ["mask", "boxes"],
        "cell": [1, 2],
        "student_name": "a&b=c",
    }
    text, back = run_scripts(
        ("history.js",),
        "const text = stateText(given.state, given.start); return [text, stateOfText(text, given.start)];",
        state=state,
        start=start,
    )
    assert {**start, **back} == state and text.startswith('image=3&level="P3"&')


def test_a_wrong_state_text_says_what_is_wrong():
    body = """return given.texts.map((text) => {
        try { stateOfText(text, given.start); return ""; } catch (error) { return error.message; } });"""
    found = run_scripts(("history.js",), body, start={"image": 0}, texts=["imago=3", "image=three"])
    assert 'got "imago"' in found[0] and "The value of image" in found[1]
