"""``explore`` opens the explorer; ``static_figure`` draws one of its views without a widget."""
import base64
import io
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import traitlets

from fgdlab.config import PRESETS, ROUNDINGS, FGDConfig
from fgdlab.fgd import FGDLoss

from ..config import RunConfig
from ..errors import UserError, unknown_name
from ..plots import NotebookFigure, png
from .export_code import export_code
from .figure import figure
from .frames import detail, frame
from .image_folder import AddedImages, open_dataset
from .inference import DetectorInference
from .models import check_detector, named_detectors
from .page import page
from .run_folder import of_run
from .state import LIMITS, LOSS_SETTINGS, OVERLAYS, QUANTITIES, VIEWS, State
from .view_data import TABLES, ViewData, table, view_data
from .widget import ExplorerWidget, static_info

PROGRESS_DELAY = 1.5  # seconds before a line tells what is computed
EXPORTS = {"png": "image/png", "svg": "image/svg+xml", "csv": "text/csv", "py": "text/x-python"}


def explore(student, teacher=None, data=None, config=None, **options) -> "Explorer":
    """Open the explorer.

    Args:
        student: a detector (fgdlab/scene.py); a folder with checkpoints, such as the snapshots/ of a run; or a dict of
            them: {"baseline": detector, "distilled": detector}. The folder of a finished run alone, explore("runs/.."),
            brings its teacher, data, configuration, trained f and R, and AP.
        teacher: a detector, or a Teacher of fgdlab/lab/teachers/teachers.py, which knows its AP.
        data: a data set (``open_split(config, "val")``), a COCO folder, or a folder of .jpg and .png files.
        config: FGDConfig, RunConfig, or the name of a preset; None = that of ``loss``, else FGDConfig().
        options: see :class:`Session`. Any field of State sets the first view, e.g. ``image=3, level="P4",
            view="before_after", overlays=("boxes", "detections")``.
    Raises:
        UserError: arguments that do not fit together; the message says what to do.
    """
    return Explorer(student, teacher, data, config, **options)


def static_figure(student, teacher=None, data=None, config=None, **options) -> NotebookFigure:
    """The explorer's figure of one view, without a widget. The same arguments as :func:`explore`."""
    session = Session(student, teacher, data, config, **options)
    return session.figure(session.state)


class Session:
    """Checked detectors, data and settings; computes views, without a widget.

    Args:
        student, teacher, data, config: see :func:`explore`.
        loss: a trained FGDLoss (for every student) or {student: FGDLoss}, whose f and R are used; None = fresh ones.
        ap: {"teacher": AP, student: AP} in 0..100, for the teacher check.
        split, long_side, boxes: of a folder, see :func:`open_dataset`.
        like: a detector with the architecture of checkpoints that do not say their settings.
        cache_mb: bound of the cache.
        state: fields of State; or state="...", the text that the widget gives.
    """

    def __init__(
        self, student, teacher=None, data=None, config=None, *, loss=None, ap: Mapping[str, float] | None = None,
        split: str = "", long_side: int = 1333, boxes: Mapping | None = None, like=None, cache_mb: float = 512,
        progress=lambda line: None, **state,
    ):
        self.run = ""
        if teacher is None and data is None and isinstance(student, (str, Path)):
            self.run, given = str(student), of_run(student)
            student, teacher, data = (given[name] for name in ("student", "teacher", "data"))
            config, loss, ap = config or given["config"], loss or given["loss"], ap or given["ap"]
        self.inputs = {"student": student, "teacher": teacher, "data": data}
        self.options = {
            "loss": loss or None, "ap": ap, "split": split, "long_side": long_side, "boxes": boxes, "like": like,
        }
        detector = check_detector("teacher", getattr(teacher, "detector", teacher))
        self.dataset = AddedImages(open_dataset(data, split=split, long_side=long_side, boxes=boxes), long_side)
        classes = len(getattr(self.dataset, "classes", ())) or 1
        students = named_detectors(student, classes, like=like, device=next(detector.parameters()).device)
        losses = losses_by_student(loss, students)
        self.config = fgd_config(config, losses)
        self.ap = {"teacher": teacher.AP} if hasattr(teacher, "AP") else {}
        for name, value in (ap or {}).items():
            if name not in ("teacher", *students):
                raise unknown_name("network in ap", name, ("teacher", *students))
            self.ap[name] = float(value)
        self.inference = DetectorInference(
            students, detector, self.dataset, self.config, losses, cache_mb, progress,
        )
        gc = self.config.relation == "gc"
        self.choices = {
            "level": self.inference.levels, "student_name": list(students),
            "view": VIEWS if len(students) > 1 else VIEWS[:1], "limits": LIMITS, "rounding": ROUNDINGS,
            "quantity": [name for name in QUANTITIES if name != "context" or gc], "overlays": OVERLAYS,
        }
        settings = {name: getattr(self.config, name) for name in LOSS_SETTINGS}
        start = State(level=self.inference.levels[0], student_name=list(students)[-1], **settings).but(**state)
        self.state = self.checked(start if "checkpoint" in state else self._at_last_checkpoint(start))

    def changed(self, state: State, changes: dict) -> State:
        """The state after changes. A new student starts at its last checkpoint; a new level or image has no cell."""
        new = state.but(**changes)
        if new.student_name != state.student_name and "checkpoint" not in changes:
            new = self._at_last_checkpoint(new)
        if (new.level, new.image) != (state.level, state.image) and "cell" not in changes:
            new = new.but(cell=None)
        return self.checked(new)

    def _at_last_checkpoint(self, state: State) -> State:
        student = self.inference.students.get(state.student_name)
        return state.but(checkpoint=len(student.checkpoints) - 1) if student else state

    def checked(self, state: State) -> State:
        """The state if it fits detectors and data, else UserError."""
        for name, known in self.choices.items():
            for value in state.overlays if name == "overlays" else [getattr(state, name)]:
                if value not in known:
                    raise unknown_name(name, value, known)
        check_index("image", state.image, len(self.dataset))
        check_index("checkpoint", state.checkpoint, len(self.inference.students[state.student_name].checkpoints))
        try:
            replace(self.config, **{name: getattr(state, name) for name in LOSS_SETTINGS})
        except (TypeError, ValueError) as error:
            raise UserError(str(error)) from error
        if not isinstance(state.score, (int, float)) or not 0 <= state.score <= 1:
            raise UserError(f"score must be a number from 0 to 1, got {state.score!r}")
        check_index("channel", state.channel, self.inference.channels)
        if (cell := state.cell) is not None:
            height, width = self.inference.teacher_predictions(state.image).maps[state.level].shape[-2:]
            if not (len(cell) == 2 and 0 <= cell[0] < height and 0 <= cell[1] < width):
                raise UserError(f"cell must be None or (row, column) within {height} x {width} cells, got {cell!r}")
        return state

    def frame(self, image: int, checkpoints: dict[str, int], base: bool = True) -> tuple[dict, bytes]:
        """See frames.py."""
        return frame(self.inference, image, checkpoints, self.ap, base)

    def view(self, state: State) -> ViewData:
        return view_data(self.inference, state, self.ap)

    def view_with_all_checkpoints(self, state: State) -> ViewData:
        """The view, with every checkpoint computed for the curve over checkpoints."""
        for i in range(len(self.inference.students[state.student_name].checkpoints)):
            if (state.image, state.level, state.student_name, state.rounding, i) not in self.inference.checkpoint_gaps:
                self.view(state.but(checkpoint=i))
        return self.view(state)

    def figure(self, state: State) -> NotebookFigure:
        return figure(self.view_with_all_checkpoints(state))

    def code(self, state: State) -> str:
        checkpoints = len(self.inference.students[state.student_name].checkpoints)
        if state.image >= len(self.dataset.first):
            raise UserError("the code needs an image of the data, got one that was added; save it into a folder first")
        levels = self.inference.levels
        return export_code(state, self.config, self.inputs, self.options, levels, checkpoints, self.run)


class Explorer(ExplorerWidget):
    """What :func:`explore` returns: a widget in a live notebook, an image elsewhere.

    ``set(**changes)`` changes the view; ``figure()``, ``numbers(kind)``, ``code()`` and ``save(path)`` export it.
    """

    def __init__(self, student, teacher=None, data=None, config=None, **options):
        self._displayed, self._timer = False, None
        self.session = Session(student, teacher, data, config, progress=self._progress, **options)
        self.state = self.session.state
        info = static_info(self.session.inference, self.state, self.session.choices)
        message, block = self.session.frame(self.state.image, self.session.inference.shown(self.state))
        super().__init__(info=info, choice=self.state.dict(), frame=message, block=block)
        self.on_msg(self._answer)

    def set(self, **changes) -> "Explorer":
        """Change the view, e.g. ``set(level="P4", temperature=0.2)``; the widget follows.

        Raises:
            UserError: a value that does not fit; the view stays.
        """
        self.state = self.session.changed(self.state, changes)
        self.choice = self.state.dict()
        return self

    def figure(self) -> NotebookFigure:
        """The view as a figure, with every checkpoint."""
        return self.session.figure(self.state)

    def numbers(self, kind: str = "terms") -> pd.DataFrame:
        """The numbers of the view. ``kind``: terms, gaps, cells, channels, networks, checkpoints."""
        if kind not in TABLES:
            raise unknown_name("table of the explorer", kind, TABLES)
        view = self.session.view_with_all_checkpoints if kind == "checkpoints" else self.session.view
        return table(view(self.state), kind)

    def code(self) -> str:
        """Python code that draws the view without widgets, and computes its arrays with the method itself."""
        return self.session.code(self.state)

    def save(self, path: str | Path, images: Iterable[int] | None = None, max_mb: float = 6) -> Path:
        """Write the view: the figure as .png or .svg, the loss terms as .csv, the code as .py; the explorer as .html.

        Args:
            images: of a .html file, which works without kernel and network; None = the one shown and those after it.
            max_mb: bound of a .html file; images beyond it are left out, and the page says how many it has.
        """
        path = Path(path)
        kind = path.suffix.lstrip(".").lower()
        if kind == "html":
            path.write_text(self.page(images, max_mb), encoding="utf-8")
            return path
        if kind not in EXPORTS:
            endings = ", ".join(f".{each}" for each in [*EXPORTS, "html"])
            raise UserError(f"path must end in one of {endings}, got {str(path)!r}; the ending chooses what is saved")
        path.write_bytes(self.exported(kind))
        return path

    def page(self, images: Iterable[int] | None = None, max_mb: float = 6) -> str:
        """The explorer as one HTML page, see :meth:`save`; every checkpoint of the image shown is in it."""
        session, here, count = self.session, self.state.image, len(self.session.dataset)
        if images is None:
            images = [(here + i) % count for i in range(count)]
        for image in (images := list(dict.fromkeys([here, *images]))):
            check_index("image", image, count)
        own = session.inference.students[self.state.student_name].checkpoints
        shown = session.inference.shown(self.state)
        others = [{self.state.student_name: i} for i in range(len(own)) if i != self.state.checkpoint]

        def frames():
            yield session.frame(here, shown)
            for each in others:
                yield session.frame(here, each, base=False)
            yield from (session.frame(image, shown) for image in images[1:])

        return page(self, frames(), int(1e6 * max_mb))

    def exported(self, kind: str) -> bytes:
        """The view as the bytes of a file. ``kind`` is one of EXPORTS."""
        if kind == "png":
            return png(self.figure())
        if kind == "svg":
            file = io.BytesIO()
            self.figure().savefig(file, format="svg")
            return file.getvalue()
        return (self.numbers().to_csv(index=False) if kind == "csv" else self.code()).encode()

    def _repr_mimebundle_(self, **kwargs):
        """The widget for a live notebook, and the figure for readers without a kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        self._displayed = True
        return {**data, "image/png": base64.b64encode(self.exported("png")).decode()}, metadata

    # --- between browser and kernel

    @traitlets.observe("choice")
    def _on_choice(self, change) -> None:
        if getattr(self, "session", None) is None or change["new"] == self.state.dict():
            return
        old = self.state.dict()
        try:
            changes = {name: value for name, value in change["new"].items() if value != old.get(name, ...)}
            self.state = self.session.changed(self.state, changes)
        except Exception as error:
            self.send({"error": one_line(error)})
        if self.choice != self.state.dict():
            self.choice = self.state.dict()

    def _answer(self, widget, content: dict, buffers) -> None:
        """Answer a question of the browser, under its id."""
        try:
            reply, block = self._reply(content, buffers)
        except Exception as error:  # the browser shows errors of detectors and files too
            reply, block = {"error": one_line(error)}, b""
        self.send({"id": content.get("id"), **reply}, [block] if block else None)

    def _reply(self, content: dict, buffers) -> tuple[dict, bytes]:
        ask, session, started = content.get("ask"), self.session, time.perf_counter()
        if ask == "frame":
            message, block = session.frame(content["image"], content["students"], content["base"])
            return {**message, "seconds": time.perf_counter() - started}, block
        if ask == "detail":
            state = session.checked(State().but(**content["state"]))
            return detail(session.inference, state, session.inference.shown(state))
        if ask == "add":
            session.dataset.add(content["name"], bytes(buffers[0]))
            return {"images": len(session.dataset)}, b""
        if ask in EXPORTS:
            self.state = session.checked(State().but(**content["state"]))
            name = f"explorer_image{session.inference.sample(self.state.image).image_id}_{self.state.level}.{ask}"
            return {"file": name, "type": EXPORTS[ask]}, self.exported(ask)
        return {}, b""  # a question whether the kernel answers

    def _progress(self, line: str) -> None:
        """Show in the widget what is computed. Before the widget is displayed, print it if it takes long."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._displayed:
            self.send({"progress": line})
        elif line:
            self._timer = threading.Timer(PROGRESS_DELAY, print, (f"{line} ...",), {"end": "\r", "flush": True})
            self._timer.daemon = True
            self._timer.start()


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


# --- arguments of explore()

def fgd_config(config, losses: Mapping[str, FGDLoss]) -> FGDConfig:
    if config is None:
        return next(iter(losses.values())).config if losses else FGDConfig()
    if isinstance(config, str):
        if config not in PRESETS:
            raise unknown_name("preset", config, PRESETS)
        return PRESETS[config]
    if isinstance(config, RunConfig):
        return config.fgd()
    if not isinstance(config, FGDConfig):
        raise UserError(f"config must be FGDConfig, RunConfig or the name of a preset, got {type(config).__name__}")
    return config


def check_index(name: str, value, count: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise UserError(f"{name} must be a whole number from 0 to {count - 1}, got {value!r}")


def losses_by_student(loss, students: Mapping) -> dict[str, FGDLoss]:
    """{student: FGDLoss} from one loss for all, a dict, or None."""
    losses = {} if loss is None else dict(loss) if isinstance(loss, Mapping) else dict.fromkeys(students, loss)
    for name, each in losses.items():
        if name not in students:
            raise unknown_name("student in loss", name, students)
        if not isinstance(each, FGDLoss):
            raise UserError(f"loss must be an FGDLoss or {{student: FGDLoss}}, got {type(each).__name__}")
    return losses
