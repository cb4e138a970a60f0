"""The explorer's widget, and the same as one HTML page: static/*.js draws both.

    browser --choice, or {"ask": "frame", ...}--> kernel --the same id, JSON and a block of arrays--> browser
"""
import base64
import gzip
import json
from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from pathlib import Path

import traitlets
from anywidget import AnyWidget

from ..plots import TERM_STYLES
from .figure import lookup_table, network_colours
from .inference import DetectorInference
from .loss_maps import WEIGHT_OF, all_terms_config
from .state import State

STATIC = Path(__file__).parent / "static"
SCRIPTS = (  # joined to one module in this order
    "words.js", "maths.js", "view.js", "store.js", "maps.js", "channels.js", "controls.js", "history.js", "dialogs.js",
    "gallery.js", "cards.js", "explorer.js",
)
SCRIPT = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)


def static_info(inference: DetectorInference, start: State, choices: dict[str, Iterable[str]]) -> dict:
    """What stays the same while the state changes."""
    students, config = inference.students, inference.config
    return {
        "images": len(inference.dataset), "classes": inference.dataset.classes,
        "colours": network_colours(list(students)),
        "choices": {name: list(each) for name, each in choices.items()}, "start": start.dict(),
        "students": [{"name": name, "checkpoints": each.checkpoints} for name, each in students.items()],
        "config": asdict(config),
        "terms": {
            term: {"color": TERM_STYLES[term][0], "weight": WEIGHT_OF[term]}
            for term in all_terms_config(config).weights()
        },
    }


class ExplorerWidget(AnyWidget):
    """The synchronised traits. frame, block: the first image, so that the first picture needs no question."""

    _esm, _css = SCRIPT, STATIC / "explorer.css"
    info = traitlets.Dict().tag(sync=True)
    choice = traitlets.Dict().tag(sync=True)
    frame = traitlets.Dict().tag(sync=True)
    block = traitlets.Bytes(b"").tag(sync=True)
    lookup_tables = traitlets.Bytes(lookup_table("amount") + lookup_table("difference")).tag(sync=True)


def page(widget: ExplorerWidget, frames: Iterable[tuple[dict, bytes]], max_bytes: int) -> str:
    """The explorer as one HTML file with as many frames as fit into ``max_bytes`` compressed; at least the first."""
    kept, size = [], 0
    for message, block in frames:
        packed = base64.b64encode(gzip.compress(block, 6)).decode()
        size += len(packed) + len(json.dumps(message))
        if kept and size > max_bytes:
            break
        kept.append([message, packed])
    data = json.dumps({
        "info": {**widget.info, "list": sorted({message["image"] for message, _ in kept})}, "choice": widget.choice,
        "frames": kept, "lookup_tables": base64.b64encode(widget.lookup_tables).decode(),
    }, allow_nan=False).replace("<", "\\u003c")
    style, start, text = map(static_text, ("explorer.css", "page/start.js", "page/page.html"))
    script = SCRIPT.replace("export default", "const widget =") + start
    return text.replace("\nSTYLE\n", style).replace("\nSCRIPT\n", script).replace(">DATA<", f">{data}<")


def still(html: str) -> str:
    """A page in a notebook's output; the widget's style sheet hides it where the widget lives."""
    return static_text("page/still.html").replace("PAGE", escape(html))


def static_text(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
