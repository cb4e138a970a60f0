"""The explorer's widget: it sends the reader's state and questions to the kernel; static/*.js draws the answers.

    browser --choice (State as JSON)--> kernel
    browser --{"ask": "frame", ...}--> kernel --the same id, JSON and a block of arrays (frames.py)--> browser
"""
from collections.abc import Iterable
from pathlib import Path

import traitlets
from anywidget import AnyWidget

from ..plots import TERM_STYLES
from .figure import lookup_table, network_colours
from .inference import DetectorInference
from .loss_maps import WEIGHT_OF, all_terms_config
from .state import State
from .teacher_checks import any_class

STATIC = Path(__file__).parent / "static"
SCRIPTS = (  # joined to one module in this order
    "words.js", "maths.js", "view.js", "store.js", "maps.js", "channels.js", "controls.js", "history.js", "dialogs.js",
    "gallery.js", "cards.js", "explorer.js",
)
SCRIPT = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)


def static_info(inference: DetectorInference, start: State, choices: dict[str, Iterable[str]]) -> dict:
    """What stays the same: the choices of every control, students, colours, and the switches of the loss."""
    students, colours = inference.students, network_colours(list(inference.students))
    config = inference.config
    return {
        "images": len(inference.dataset), "classes": inference.dataset.classes,
        "any_class": any_class(inference.dataset),
        "choices": {name: list(each) for name, each in choices.items()}, "start": start.dict(), "colours": colours,
        "students": [{"name": name, "checkpoints": each.checkpoints} for name, each in students.items()],
        "config": {
            "spatial": config.spatial_attention, "channel": config.channel_attention, "of": config.attention_of,
        },
        "terms": {
            term: {"color": TERM_STYLES[term][0], "weight": WEIGHT_OF[term]}
            for term in all_terms_config(config).weights()
        },
    }


class ExplorerWidget(AnyWidget):
    """The synchronised traits. explorer.py has the behaviour.

    frame, block: the first image, so that the first picture needs no question.
    """

    _esm = SCRIPT
    _css = STATIC / "explorer.css"
    info = traitlets.Dict().tag(sync=True)
    choice = traitlets.Dict().tag(sync=True)
    frame = traitlets.Dict().tag(sync=True)
    block = traitlets.Bytes(b"").tag(sync=True)
    lookup_tables = traitlets.Bytes(lookup_table("amount") + lookup_table("difference")).tag(sync=True)
