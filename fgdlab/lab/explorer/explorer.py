"""The attention explorer: where teacher and student look, and what the loss makes of it.

    explore(student, teacher, data)        in a live notebook a widget; the same panels as .figure(), the numbers as .numbers(), the code as .code()
    static_figure(student, teacher, data, ...)     the figure alone, for papermill, reports and scripts

This file is the door and opens the rooms of explorer/; see there for the flow.
"""
import base64
import io
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import traitlets

from fgdlab.config import PRESETS, FGDConfig
from fgdlab.fgd import FGDLoss

from ..config import RunConfig
from ..errors import UserError, unknown_name
from ..plots import NotebookFigure, png
from .export_code import recipe
from .figure import figure
from .image_folder import open_dataset
from .inference import DetectorInference
from .models import checked, named_detectors
from .state import QUANTITIES, WEIGHTS, State, check
from .view_data import TABLES, ViewData, table, view_data
from .widget import ExplorerWidget, about, packed, packed_photo

PATIENCE = 1.5                                                       # seconds without an answer after which a line says what is being computed


def explore(student, teacher, data, config=None, **options) -> "Explorer":
    """Open the explorer.

    Args:
        student: a detector (fgdlab/scene.py); {"baseline": detector, "distilled": detector}, whose order is kept; or a folder of
            checkpoints, such as the snapshots/ of a run, whose files are the stages of one student. Values of a dict may be folders, too.
        teacher: a detector, or a Teacher of teachers.py, which knows its AP.
        data: Scenes (``open_split(config, "val")``), a COCO folder, or a folder of .jpg and .png files.
        config: FGDConfig, RunConfig, or the name of a preset; None = that of ``loss``, else the authors' RetinaNet settings.
        options: see :class:`Opened` for ``loss, ap, split, long_side, boxes, threshold, like, cache_mb``; any field of State sets
            where to start, e.g. ``image=3, level="P4", view="before_after", overlays=("boxes", "detections")``.
    Raises:
        UserError: what was given does not fit together; the message says what to do.
    """
    return Explorer(student, teacher, data, config, **options)


def static_figure(student, teacher, data, config=None, **options) -> NotebookFigure:
    """The explorer's figure of one view, without a widget. The same arguments as :func:`explore`."""
    opened = Opened(student, teacher, data, config, **options)
    opened.visit_every_stage(opened.state)
    return figure(opened.frame_at(opened.state))


class Opened:
    """Networks, data and settings, checked and ready to look at; no widget.

    Args:
        student, teacher, data, config: see :func:`explore`.
        loss: a trained FGDLoss (for every student) or {student: FGDLoss}: its f and R are used. Without one they are fresh, and the notes say so.
        ap: {"teacher": AP, student: AP} in 0..100, for the panel that asks whether the teacher is one.
        split, long_side, boxes: of a folder, see explorer/photos.py.
        threshold: least score of a detection that is shown, 0..1.
        like: a detector of the architecture of checkpoints that do not say their settings.
        cache_mb: bound of the maps that are kept.
        start: fields of State.
    """

    def __init__(
        self, student, teacher, data, config=None, *, loss=None, ap: Mapping[str, float] | None = None, split: str = "", long_side: int = 1333,
        boxes: Mapping | None = None, threshold: float = 0.3, like=None, cache_mb: float = 512, progress=None, **start,
    ):
        self.given = {"student": student, "teacher": teacher, "data": data}
        options = {"loss": loss, "ap": ap, "split": split, "long_side": long_side, "boxes": boxes, "threshold": threshold, "like": like}
        defaults = {"loss": None, "ap": None, "split": "", "long_side": 1333, "boxes": None, "threshold": 0.3, "like": None}
        self.options = {name: value for name, value in options.items() if value is not defaults[name] and value != defaults[name]}
        detector = checked("teacher", getattr(teacher, "detector", teacher))
        self.scenes = open_dataset(data, split=split, long_side=long_side, boxes=boxes)
        classes = len(getattr(self.scenes, "classes", ())) or 1
        students = named_detectors(student, classes, like=like, device=next(detector.parameters()).device)
        losses = losses_of(loss, students)
        self.config = config_of(config, losses)
        self.threshold = threshold
        self.ap = {"teacher": teacher.AP} if hasattr(teacher, "AP") else {}
        self.ap |= ap_of(ap, students)
        self.inference = DetectorInference(students, detector, self.scenes, self.config, losses, cache_mb=cache_mb, progress=progress or (lambda line: None))
        first = list(students)[-1]
        shown = State(level=self.inference.levels[0], who=first, stage=0, rounding=self.config.rounding, temperature=self.config.temperature)
        shown = shown.but(**{name: getattr(self.config, name) for name in WEIGHTS}).but(**start)
        if "stage" not in start and shown.who in students:
            shown = shown.but(stage=len(students[shown.who].stages) - 1)
        self.state = self.fitting(shown)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Context weights exist only where R is a GcBlock."""
        return tuple(each for each in QUANTITIES if each != "context" or self.config.relation == "gc")

    def moved(self, state: State, changes: dict) -> State:
        """The state after some changes. Another student starts at its last checkpoint; a clicked cell is forgotten on another level or image."""
        new = state.but(**changes)
        if new.who != state.who and "stage" not in changes and new.who in self.inference.students:
            new = new.but(stage=len(self.inference.students[new.who].stages) - 1)
        if (new.level, new.image) != (state.level, state.image) and "cell" not in changes:
            new = new.but(cell=None)
        return self.fitting(new)

    def fitting(self, state: State) -> State:
        """The state itself if it fits networks and data, else UserError."""
        inference = self.inference
        stages = {name: len(who.stages) for name, who in inference.students.items()}
        check(state, images=len(self.scenes), levels=inference.levels, stages=stages, quantities=self.quantities)
        teacher = inference.teacher_sight(state.image).maps[state.level]
        channels, height, width = teacher.shape
        if isinstance(state.channel, bool) or not isinstance(state.channel, int) or not 0 <= state.channel < channels:
            raise UserError(f"channel must be a whole number from 0 to {channels - 1}, got {state.channel!r}; the teacher has {channels} channels")
        if state.cell is not None and not (len(state.cell) == 2 and 0 <= state.cell[0] < height and 0 <= state.cell[1] < width):
            raise UserError(f"cell must be (row, column) within {height} x {width} cells of {state.level}, got {state.cell!r}; choose another, or None")
        return state

    def frame_at(self, state: State) -> ViewData:
        return view_data(self.inference, state, ap=self.ap, threshold=self.threshold)

    def visit_every_stage(self, state: State) -> None:
        """Look at this image with every checkpoint, so that the curve over checkpoints is whole."""
        for stage in range(len(self.inference.students[state.who].stages)):
            if (state.image, state.level, state.who, stage, state.rounding) not in self.inference.curves:
                self.frame_at(state.but(stage=stage))

    def code(self, state: State) -> str:
        return recipe(
            state, self.config, given=self.given, options=self.options, levels=self.inference.levels,
            named=isinstance(self.given["student"], Mapping), stages=len(self.inference.students[state.who].stages),
        )


class Explorer(ExplorerWidget):
    """What :func:`explore` returns: a widget in a live notebook, a picture where none can be shown.

    state, set(**changes): the view; figure(), numbers(kind), code(): the same view for reports; save(path): .png, .svg, .csv or .py.
    """

    def __init__(self, student, teacher, data, config=None, **options):
        self._hint: threading.Timer | None = None
        self._live = False
        self._photo_of: int | None = None
        self.opened = Opened(student, teacher, data, config, progress=self._progress, **options)
        self.state = self.opened.state
        super().__init__(about=about(self.opened.inference, self.state, self.opened.quantities), choice=self.state.dict())
        self._show()
        self.on_msg(self._answer)

    def set(self, **changes) -> "Explorer":
        """Change the view, e.g. ``set(level="P4", temperature=0.2)``; the widget follows. Raises UserError for what does not fit."""
        self._go(changes)
        self.choice = self.state.dict()
        return self

    def figure(self) -> NotebookFigure:
        """The panels as they stand, as a figure that a notebook, papermill and a report can show; with checkpoints, every one is looked at."""
        self.opened.visit_every_stage(self.state)
        return figure(self.opened.frame_at(self.state))

    def numbers(self, kind: str = "terms") -> pd.DataFrame:
        """The numbers behind the panels. ``kind``: terms (loss by term and level), gaps, cells, channels, networks, checkpoints."""
        if kind not in TABLES:
            raise unknown_name("table of the explorer", kind, TABLES)
        if kind == "checkpoints":
            self.opened.visit_every_stage(self.state)
        return table(self.opened.frame_at(self.state), kind)

    def code(self) -> str:
        """Python that reproduces the figure without widgets, and its arrays by the method itself."""
        return self.opened.code(self.state)

    def save(self, path: str | Path) -> Path:
        """Write this view: the figure as .png or .svg, the terms of the loss as .csv, the code as .py."""
        path = Path(path)
        kind = path.suffix.lstrip(".").lower()
        if kind not in EXPORTS:
            raise UserError(f"path must end in one of {', '.join('.' + each for each in EXPORTS)}, got {str(path)!r}; choose what to save by its ending")
        path.write_bytes(self.exported(kind))
        return path

    def exported(self, kind: str) -> bytes:
        """The view as the bytes of a file; ``kind`` is one of EXPORTS."""
        if kind == "png":
            return png(self.figure())
        if kind == "svg":
            return svg(self.figure())
        return (self.numbers().to_csv(index=False) if kind == "csv" else self.code()).encode()

    def _repr_mimebundle_(self, **kwargs):
        """The widget for a live notebook, and the figure for readers without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        self._live = True
        return {**data, "image/png": base64.b64encode(png(self.figure())).decode()}, metadata

    # --- between browser and kernel

    @traitlets.observe("choice")
    def _chosen(self, change) -> None:
        if getattr(self, "opened", None) is None or change["new"] == self.state.dict():
            return
        try:
            before = self.state.dict()
            self._go({name: value for name, value in change["new"].items() if name not in before or value != before[name]})
        except UserError as error:
            self.send({"error": str(error)})
        except Exception as error:                                   # a detector or a file failed: say so instead of falling silent
            self.send({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})
        if self.choice != self.state.dict():
            self.choice = self.state.dict()

    def _go(self, changes: dict) -> None:
        before = self.state
        self.state = self.opened.moved(before, changes)
        try:
            self._show()
        except Exception:
            self.state = before
            raise

    def _show(self) -> None:
        frame = self.opened.frame_at(self.state)
        message, maps, ground = packed(frame)
        with self.hold_sync():
            if self._photo_of != self.state.image:
                self.photo_size, self.photo = packed_photo(frame.place)
                self._photo_of = self.state.image
            self.maps, self.ground, self.frame = maps, ground, message

    def _answer(self, widget, content: dict, buffers) -> None:
        """A file or the code, for the browser to save or show."""
        kind = content.get("want")
        if kind not in EXPORTS:
            return
        try:
            name = f"explorer_image{self.frame['image_id']}_{self.state.level}.{kind}"
            self.send({"file": name, "type": EXPORTS[kind]}, [self.exported(kind)])
        except Exception as error:
            self.send({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})

    def _progress(self, line: str) -> None:
        """In the widget at once; before it is shown, as a printed line if the first look takes long."""
        if self._hint:
            self._hint.cancel()
            self._hint = None
        if self._live:
            self.send({"progress": line})
        elif line:
            self._hint = threading.Timer(PATIENCE, print, args=(line + " ...",), kwargs={"file": sys.stderr, "flush": True})
            self._hint.daemon = True
            self._hint.start()


EXPORTS = {"png": "image/png", "svg": "image/svg+xml", "csv": "text/csv", "py": "text/x-python"}


def svg(drawn: NotebookFigure) -> bytes:
    file = io.BytesIO()
    drawn.savefig(file, format="svg")
    return file.getvalue()


# --- what explore() may be given ----------------------------------------------------------------------------------------------------

def config_of(config, losses: Mapping[str, FGDLoss]) -> FGDConfig:
    """FGDConfig from any of the forms that explore() takes."""
    if config is None:
        return next(iter(losses.values())).config if losses else FGDConfig()
    if isinstance(config, str):
        if config not in PRESETS:
            raise unknown_name("preset", config, PRESETS)
        return PRESETS[config]
    if isinstance(config, RunConfig):
        return config.fgd()
    if not isinstance(config, FGDConfig):
        raise UserError(f"config must be FGDConfig, RunConfig or the name of a preset, got {type(config).__name__}; leave it out for the authors' settings")
    return config


def losses_of(loss, students: Mapping) -> dict[str, FGDLoss]:
    """{student: FGDLoss} from one loss for all, a dict, or None."""
    given = {} if loss is None else dict(loss) if isinstance(loss, Mapping) else dict.fromkeys(students, loss)
    for name, each in given.items():
        if name not in students:
            raise unknown_name("student in loss", name, students)
        if not isinstance(each, FGDLoss):
            raise UserError(f"loss must be an FGDLoss or {{student: FGDLoss}}, got {type(each).__name__}; it lends its layers f and R")
    return given


def ap_of(ap, students: Mapping) -> dict[str, float]:
    known = ("teacher", *students)
    for name in ap or {}:
        if name not in known:
            raise unknown_name("network in ap", name, known)
    return {name: float(value) for name, value in (ap or {}).items()}
