"""Detectors, data and settings of the explorer, checked; they give views, without a widget."""
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fgdlab.config import PRESETS, ROUNDINGS, FGDConfig
from fgdlab.fgd import FGDLoss

from ..config import RunConfig
from ..errors import UserError, check_name
from ..plots import NotebookFigure
from .figure import figure
from .image_folder import AddedImages, open_dataset
from .inference import DetectorInference
from .models import check_detector, named_detectors, of_run
from .state import LIMITS, LOSS_SETTINGS, OVERLAYS, QUANTITIES, VIEWS, State
from .view_data import ViewData, view_data


class Session:
    """What an explorer shows; its ``state`` is the first view.

    Args:
        student: a detector (fgdlab/scene.py), a folder with checkpoints, or {"baseline": either, "distilled": either}.
            The folder of a finished run alone brings its teacher, data, configuration, trained f and R, and AP.
        teacher: a detector, or a Teacher of fgdlab/lab/teachers/teachers.py, which knows its AP.
        data: a data set (``open_split(config, "val")``), a COCO folder, or a folder of .jpg and .png files.
        config: FGDConfig, RunConfig, or the name of a preset; None = that of ``loss``, else FGDConfig().
        loss: a trained FGDLoss or {student: FGDLoss}, whose f and R are used; None = fresh ones.
        ap: {"teacher": AP, student: AP} in 0..100, for the teacher check.
        split, long_side: see image_folder.py.
        cache_mb: megabytes of memory for maps and predictions of images that were shown.
        state: fields of State, e.g. ``image=3, level="P4"``; or state="...", the text that the widget gives.
    Raises:
        UserError: an input of another kind, an unknown name, an index that does not exist, or different grids.
    """

    def __init__(
        self, student, teacher=None, data=None, config=None, *, loss=None, ap: Mapping[str, float] | None = None,
        split: str = "", long_side: int = 1333, cache_mb: float = 512, progress=lambda line: None, **state,
    ):
        self.options = {"loss": loss, "ap": ap, "split": split or None, "long_side": long_side}
        self.run = ""
        if teacher is None and data is None and isinstance(student, (str, Path)):
            self.run, given = str(student), of_run(student)
            student, teacher, data = (given[name] for name in ("student", "teacher", "data"))
            config, loss, ap = config or given["config"], loss or given["loss"], ap or given["ap"]
        self.inputs = {"student": student, "teacher": teacher, "data": data}
        detector = check_detector("teacher", getattr(teacher, "detector", teacher))
        self.dataset = AddedImages(open_dataset(data, split=split, long_side=long_side), long_side)
        students = named_detectors(student, len(self.dataset.classes) or 1, next(detector.parameters()).device)
        losses = losses_by_student(loss, students)
        self.config = fgd_config(config, losses)
        self.ap = {"teacher": teacher.AP} if hasattr(teacher, "AP") else {}
        for name, value in (ap or {}).items():
            check_name("network in ap", name, ("teacher", *students))
            self.ap[name] = float(value)
        self.inference = DetectorInference(students, detector, self.dataset, self.config, losses, cache_mb, progress)
        self.choices = {
            "level": self.inference.levels, "student_name": list(students), "limits": LIMITS, "rounding": ROUNDINGS,
            "view": VIEWS if len(students) > 1 else VIEWS[:1], "overlays": OVERLAYS,
            "quantity": [name for name in QUANTITIES if name != "context" or self.config.relation == "gc"],
        }
        settings = {name: getattr(self.config, name) for name in LOSS_SETTINGS}
        start = State(level=self.inference.levels[0], student_name=list(students)[-1], **settings)
        self.state = self.checked(start.but(**state))

    def changed(self, state: State, changes: dict) -> State:
        """A new student starts at its last checkpoint; a new level or image has no cell."""
        new = state.but(**changes)
        if new.student_name != state.student_name and "checkpoint" not in changes:
            new = new.but(checkpoint=-1)
        if (new.level, new.image) != (state.level, state.image) and "cell" not in changes:
            new = new.but(cell=None)
        return self.checked(new)

    def checked(self, state: State) -> State:
        for name, known in self.choices.items():
            for value in state.overlays if name == "overlays" else [getattr(state, name)]:
                check_name(name, value, known)
        check_index("image", state.image, len(self.dataset))
        count = len(self.inference.students[state.student_name].checkpoints)
        state = state.but(checkpoint=count - 1) if state.checkpoint == -1 else state
        check_index("checkpoint", state.checkpoint, count)
        check_index("channel", state.channel, self.inference.channels)
        try:
            replace(self.config, **{name: getattr(state, name) for name in LOSS_SETTINGS})
        except (TypeError, ValueError) as error:
            raise UserError(str(error)) from error
        if not isinstance(state.score, (int, float)) or not 0 <= state.score <= 1:
            raise UserError(f"score must be a number from 0 to 1, got {state.score!r}")
        height, width = self.inference.teacher_predictions(state.image).maps[state.level].shape[-2:]
        cell = state.cell or (0, 0)
        if not (len(cell) == 2 and 0 <= cell[0] < height and 0 <= cell[1] < width):
            raise UserError(f"cell must be None or (row, column) within {height} x {width} cells, got {state.cell!r}")
        return state

    def view(self, state: State, all_checkpoints: bool = False) -> ViewData:
        """The view; with ``all_checkpoints`` each one is computed for the curve over checkpoints."""
        view = view_data(self.inference, state, self.ap)
        missing = [i for i, row in enumerate(view.checkpoints) if row["feature_bg"] is row["feature_fg"] is None]
        for i in missing if all_checkpoints else ():
            self.view(state.but(checkpoint=i))
        return view_data(self.inference, state, self.ap) if all_checkpoints and missing else view

    def figure(self, state: State) -> NotebookFigure:
        return figure(self.view(state, all_checkpoints=True))


# --- arguments

def fgd_config(config, losses: Mapping[str, FGDLoss]) -> FGDConfig:
    if config is None:
        return next(iter(losses.values())).config if losses else FGDConfig()
    if isinstance(config, str):
        check_name("preset", config, PRESETS)
    config = PRESETS[config] if isinstance(config, str) else config.fgd() if isinstance(config, RunConfig) else config
    if not isinstance(config, FGDConfig):
        raise UserError(f"config must be FGDConfig, RunConfig or the name of a preset, got {type(config).__name__}")
    return config


def losses_by_student(loss, students: Mapping) -> dict[str, FGDLoss]:
    losses = {} if loss is None else dict(loss) if isinstance(loss, Mapping) else dict.fromkeys(students, loss)
    for name, each in losses.items():
        check_name("student in loss", name, students)
        if not isinstance(each, FGDLoss):
            raise UserError(f"loss must be an FGDLoss or {{student: FGDLoss}}, got {type(each).__name__}")
    return losses


def check_index(name: str, value, count: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise UserError(f"{name} must be a whole number from 0 to {count - 1}, got {value!r}")
